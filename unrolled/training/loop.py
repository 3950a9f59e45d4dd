"""The training loop, as a generator of events: whoever consumes them shows, writes or stops."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unrolled.errors import UnrolledError
from unrolled.options import TrainingOptions, check


class Task(Protocol):
    """What the loop asks of a task. State is carried over the windows of an epoch; the loop cuts its gradient."""

    unit: str

    @property
    def model(self) -> nn.Module:
        """What learns."""

    @property
    def per_step(self) -> int:
        """Units in one window."""

    @property
    def steps_per_epoch(self) -> int:
        """Windows in one epoch."""

    def epoch(self) -> Iterator[Any]:
        """The windows of one epoch."""

    def loss(self, window: Any, state: Any) -> tuple[Tensor, Any]:
        """The mean loss over a window, and the state after it."""

    def evaluate(self) -> float:
        """The loss on held-out data."""


@dataclass(frozen=True)
class Step:
    """One step of the optimiser. Loss in nats; `skipped` when loss or gradient were not finite and nothing changed.

    `steps` is how many there will be, None until that is measured.
    """

    number: int
    steps: int | None
    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    skipped: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The held-out loss after a step."""

    number: int
    steps: int
    loss: float
    seconds: float


Event = Step | Evaluation

MEASURED_STEPS = 20
WARM_UP = 0.05
SKIPPED_AT_MOST = 10
OVERRUN = 1.3


def fit(task: Task, options: TrainingOptions) -> Iterator[Event]:
    """Train the task's model by truncated backpropagation through time.

    The state is carried from window to window and its gradient cut between them. A step whose loss or gradient is not
    finite is skipped; after several in a row the loop raises.

    Raises   UnrolledError when training diverges; UsageError for options that make no sense
    Source   Williams & Peng 1990; clipping: Pascanu, Mikolov & Bengio 2013
    """
    check(options)
    model = task.model
    optimiser = torch.optim.AdamW(
        model.parameters(), options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.99)
    )
    steps = options.epochs * task.steps_per_epoch
    measured = options.minutes is None
    if not measured:
        steps = max(steps, MEASURED_STEPS)
    start = time.perf_counter()
    model.train()
    skipped = 0
    for number, (window, state_before) in enumerate(_windows(task), 1):
        rate = options.learning_rate * _schedule(number, steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss, state = task.loss(window, state_before.value)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        value = float(loss.detach())
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), options.clip))
        finite = math.isfinite(norm) and math.isfinite(value)
        skipped = 0 if finite else skipped + 1
        if finite:
            optimiser.step()
            state_before.value = detached(state)
        else:
            state_before.value = None
        seconds = time.perf_counter() - start
        yield Step(number, steps if measured else None, value, norm, rate, seconds, skipped=not finite)
        if skipped > SKIPPED_AT_MOST:
            raise UnrolledError(
                f"training diverged: {skipped} steps in a row had a loss or gradient that is not finite; "
                f"a lower learning_rate or clip may help"
            )
        if number == MEASURED_STEPS and options.minutes is not None:
            steps, measured = max(number, int(number * options.minutes * 60 / seconds)), True
        if measured and options.minutes is not None and seconds > OVERRUN * options.minutes * 60:
            steps = number  # the machine has become slower than when it was measured
        # An evaluation among the steps that are measured would be counted with them.
        if number == steps or (measured and number % math.ceil(steps / options.evaluations) == 0):
            yield Evaluation(number, steps, task.evaluate(), time.perf_counter() - start)
        if number >= steps:
            return


class _Carried:
    """The state between two windows."""

    value: Any = None


def _windows(task: Task) -> Iterator[tuple[Any, _Carried]]:
    """The windows of one epoch after the other; each epoch begins with a fresh state."""
    while True:
        carried = _Carried()
        for window in task.epoch():
            yield window, carried


def _schedule(number: int, steps: int) -> float:
    warm = max(1, int(WARM_UP * steps))
    if number <= warm:
        return number / warm
    return 0.5 * (1 + math.cos(math.pi * (number - warm) / max(1, steps - warm)))


def detached(state: Any) -> Any:
    """The same state without its history, whatever tuples it is made of."""
    if isinstance(state, Tensor):
        return state.detach()
    parts = [detached(part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
