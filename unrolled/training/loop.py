"""The training loop, as a generator of events: whoever consumes them shows, writes or stops."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrolled.layers.state import detached, rebuilt, tensors_of
from unrolled.options import TrainingOptions, check
from unrolled.tasks.base import Learner
from unrolled.training.checkpoint import Checkpoint, optimiser_tensors, restore_optimiser, within
from unrolled.training.optimise import clip, optimiser_of, rate_at

MEASURED_STEPS = 20
# Their share of the learning rate.
MEASURED_RATE = 0.1
# The first steps are slower: kernels are made, memory is fetched.
SETTLING_STEPS = 5
# Of the minutes that are given, evaluations take this share at most.
EVALUATED_SHARE = 0.15
SKIPPED_AT_MOST = 10
# Of a figure that decides: a tenth of a percent is chance among a few thousand texts.
DECIMALS = 3


@dataclass(frozen=True)
class Step:
    """One step of the optimiser. Losses in nats, the mean over the window's steps and their sum; `skipped` when loss or
    gradient were not finite and nothing changed.

    `steps` is how many there will be, None until that is measured.
    """

    number: int
    steps: int | None
    loss: float
    loss_sum: float
    gradient_norm: float
    learning_rate: float
    seconds: float
    skipped: bool = False


@dataclass(frozen=True)
class Evaluation:
    """The held-out loss after a step, whether its weights are the best so far, what the model makes now, and what else
    was measured.
    """

    number: int
    steps: int
    loss: float
    seconds: float
    best: bool
    sample: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointDue:
    """A point to go on from: `Training.checkpoint` gives it until the next event is asked for."""

    number: int
    seconds: float


@dataclass(frozen=True)
class Stopped:
    """The last event. `reason` is complete, early, interrupted or diverged."""

    number: int
    steps: int | None
    reason: str
    seconds: float


Event = Step | Evaluation | CheckpointDue | Stopped


class Training:
    """A task in training: its model, the optimiser, and where it stands.

    `best` holds the weights to keep: those of the lowest held-out loss, or of the highest figure that decides; the
    present ones where nothing is held out.

    Raises   UsageError for options that make no sense
    Source   truncated backpropagation: Williams & Peng 1990; clipping: Pascanu, Mikolov & Bengio 2013
    """

    def __init__(self, task: Learner, options: TrainingOptions, start: Checkpoint | None = None):
        check(options)
        self.task, self.options = task, options
        self.optimiser = optimiser_of(task.model.parameters(), options)
        self.number = 0
        # Until the first steps are measured, as many as the epochs have.
        self.steps = options.epochs * task.steps_per_epoch
        self.fixed = options.minutes is None
        self.every = math.ceil(self.steps / options.evaluations)
        self.seconds = 0.0
        self.skipped = 0
        # The loss of the best weights so far, behind the figure that decides, where there is one.
        self.lowest: list[float] | None = None
        # The lowest loss, whatever the figure was: while it falls, something is learned.
        self.least = math.inf
        self.waited = 0
        self.best: dict[str, Tensor] | None = None
        self._state: Any = None
        # Seconds before the first step: of the minutes that are given, but of no step.
        self._prepared = 0.0
        if start is not None:
            self._restore(start)

    def events(self, interrupted: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Train, from where this stands to the end.

        The state is carried from window to window and its gradient cut between them. A step whose loss or gradient is
        not finite is skipped; after several in a row the training stops as diverged.

        interrupted   asked after each step; true ends the training there, with a checkpoint
        """
        self.task.model.train()
        before = time.perf_counter()
        if not self.number:
            self.task.prepare()
        self._prepared = time.perf_counter() - before
        begun = time.perf_counter() - self.seconds
        durations: list[float] = []
        # What is resumed may have been at its end already.
        reason = self._reason(interrupted=False) if self.number else ""
        windows = self._windows()
        while not reason:
            before = time.perf_counter()
            step = self._step(next(windows), begun)
            durations.append(time.perf_counter() - before)
            yield step
            measured = not self.fixed and self.number >= MEASURED_STEPS
            due = measured or (self.fixed and (self.number % self.every == 0 or self.number == self.steps))
            evaluated = self._evaluation() if due else None
            if measured:
                self._fix_steps(durations, time.perf_counter() - begun - step.seconds)
            if evaluated is not None:
                loss, best, sample = evaluated
                seconds, figures = time.perf_counter() - begun, dict(self.task.figures())
                yield Evaluation(self.number, self.steps, loss, seconds, best, sample, figures)
            reason = self._reason(interrupted())
            if reason or due or self._checkpoint_is_due():
                self.seconds = time.perf_counter() - begun
                yield CheckpointDue(self.number, self.seconds)
        yield Stopped(self.number, self.steps if self.fixed else None, reason, self.seconds)

    def _reason(self, interrupted: bool) -> str:
        """Why the training ends here; empty if it does not."""
        if self.skipped > SKIPPED_AT_MOST:
            return "diverged"
        if self.fixed and self.number >= self.steps:
            return "complete"
        if self.options.patience and self.waited >= self.options.patience:
            return "early"
        return "interrupted" if interrupted else ""

    def _checkpoint_is_due(self) -> bool:
        return self.options.checkpoint_every > 0 and self.number % self.options.checkpoint_every == 0

    def _windows(self) -> Iterator[Any]:
        """The windows that are left, one epoch after the other; each epoch begins with a fresh state."""
        while True:
            epoch, first = divmod(self.number, self.task.steps_per_epoch)
            if first == 0:
                self._state = None
            yield from self.task.windows(epoch, first)

    def _step(self, window: Any, begun: float) -> Step:
        options = self.options
        self.number += 1
        # Until the steps are fixed, the course of the rate is not known; it begins low.
        rate = rate_at(self.number, self.steps, options) if self.fixed else MEASURED_RATE * options.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss, state = self.task.loss(window, self._state)
        self.optimiser.zero_grad(set_to_none=True)
        loss.objective.backward()
        mean, total = float(loss.mean.detach()), float(loss.total.detach())
        norm = clip(self.task.model.parameters(), options.clip)
        finite = math.isfinite(norm) and math.isfinite(mean)
        if finite:
            self.optimiser.step()
        self.skipped = 0 if finite else self.skipped + 1
        self._state = detached(state) if finite else None
        steps = self.steps if self.fixed else None
        self.seconds = time.perf_counter() - begun
        return Step(self.number, steps, mean, total, norm, rate, self.seconds, skipped=not finite)

    def _evaluation(self) -> tuple[float, bool, str] | None:
        """The held-out loss, whether it is the best so far, and a sample."""
        loss = self.task.evaluate()
        if loss is None:
            return None
        # The first figure decides, where there is one: the higher, the better; among those that are as good as equal,
        # the loss.
        decides = next(([-round(figure, DECIMALS), loss] for figure in self.task.figures().values()), [loss])
        best = math.isfinite(loss) and (self.lowest is None or decides < self.lowest)
        if best:
            self.lowest = decides
            self.best = {name: value.detach().clone() for name, value in self.task.model.state_dict().items()}
        self.waited = 0 if best or loss < self.least else self.waited + 1
        self.least = min(self.least, loss) if math.isfinite(loss) else self.least
        return loss, best, self.task.sample()

    def _fix_steps(self, durations: list[float], evaluation: float) -> None:
        """As many steps as the minutes allow, at the pace of those taken so far."""
        assert self.options.minutes is not None
        budget = self.options.minutes * 60
        evaluations = self.options.evaluations
        if evaluation > 0:
            evaluations = max(1, min(evaluations, int(EVALUATED_SHARE * budget / evaluation)))
        left = budget - self._prepared - self.seconds - evaluations * evaluation
        pace = statistics.median(durations[SETTLING_STEPS:] or durations)
        self.steps = self.number + max(0, int(left / pace))
        self.every = math.ceil(self.steps / evaluations)
        self.fixed = True

    def keep_best(self) -> None:
        """Put the weights to keep into the model."""
        if self.best is not None:
            self.task.model.load_state_dict(self.best)

    def checkpoint(self) -> Checkpoint:
        """All that is needed to go on to the same weights, bit for bit."""
        tensors = {
            **within("weights", self.task.model.state_dict()),
            **within("optimiser", optimiser_tensors(self.optimiser)),
            **within("best", self.best or {}),
            "random": torch.get_rng_state(),
        }
        if self._state is not None:
            tensors |= within("state", {str(index): value for index, value in enumerate(tensors_of(self._state))})
        facts = {name: getattr(self, name) for name in _FACTS}
        return Checkpoint(facts, {name: value.detach().clone() for name, value in tensors.items()})

    def _restore(self, start: Checkpoint) -> None:
        for name in _FACTS:
            # Earlier versions did not write them all.
            setattr(self, name, start.facts.get(name, getattr(self, name)))
        # Earlier versions wrote the loss alone.
        if isinstance(self.lowest, float):
            self.lowest = [self.lowest]
        self.task.model.load_state_dict(start.part("weights"))
        restore_optimiser(self.optimiser, start.part("optimiser"))
        self.best = start.part("best") or None
        carried = start.part("state")
        if carried:
            ordered = iter([carried[str(index)] for index in range(len(carried))])
            self._state = rebuilt(self.task.state(), ordered)
        torch.set_rng_state(start.tensors["random"])


_FACTS = ("number", "steps", "fixed", "every", "seconds", "skipped", "lowest", "least", "waited")
