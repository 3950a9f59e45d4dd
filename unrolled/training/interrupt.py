"""Ctrl-C ends a training at the end of a step, where nothing is half done."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C, or request to terminate, and give a function that says whether there was one; the second
    raises KeyboardInterrupt at once. A request to terminate takes effect in the end.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)
        # Not through sys.stderr: this may run in the middle of a line that is being written there.
        with suppress(OSError):
            os.write(2, b"\nstopping after this step; once more stops at once\n")

    # Signals reach the main thread alone. One that is ignored, as under nohup, and one that is handled outside Python
    # are left as they are.
    heard = _SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before: dict[signal.Signals, Any] = {
        number: handler for number in heard if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    try:
        for number in before:
            signal.signal(number, note)
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if signal.SIGTERM in noted:
            signal.raise_signal(signal.SIGTERM)
