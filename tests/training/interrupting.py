"""A training that is interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from unrolled.tasks.base import Learner
from unrolled.training.loop import Event, Step


class InterruptAfter:
    """Shows nothing, and sends Ctrl-C after a step."""

    def __init__(self, number: int):
        self.number = number

    def __call__(self, events: Iterator[Event], task: Learner) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Step) and event.number == self.number:
                os.kill(os.getpid(), signal.SIGINT)
            yield event
