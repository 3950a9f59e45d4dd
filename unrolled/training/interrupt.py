"""Ctrl-C ends a training at the end of a step, where nothing is half done."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C, or request to terminate, and give a function that says whether there was one; the second
    raises KeyboardInterrupt at once.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)
        print("\nstopping after this step; once more stops at once", file=sys.stderr, flush=True)

    # Signals reach the main thread alone; and one that is ignored, as under nohup, stays so.
    heard = _SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before: dict[signal.Signals, Any] = {
        number: signal.getsignal(number) for number in heard if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        for number in before:
            signal.signal(number, note)
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
