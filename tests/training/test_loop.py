from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unrolled.errors import UnrolledError, UsageError
from unrolled.options import TrainingOptions
from unrolled.training import loop
from unrolled.training.loop import Evaluation, Event, Step, fit


class Toy:
    """Windows are numbers that scale the loss; the state is the weight itself, with its history."""

    unit = "steps"
    per_step = 1

    def __init__(self, windows: list[float]):
        self.windows = windows
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.model.weight)
        self.states: list[Any] = []
        self.weights: list[float] = []

    @property
    def steps_per_epoch(self) -> int:
        return len(self.windows)

    def epoch(self) -> Iterator[float]:
        return iter(self.windows)

    def loss(self, window: float, state: Any) -> tuple[Tensor, Any]:
        self.states.append(state)
        self.weights.append(float(self.model.weight.detach()))
        grown = self.model.weight * 1.0
        return (grown * window).sum(), (grown, (grown * 2,))

    def evaluate(self) -> float:
        return 1.0


def steps_of(events: list[Event]) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def test_state_is_carried_across_windows_but_its_gradient_is_cut() -> None:
    toy = Toy([1.0, 1.0, 1.0])
    list(fit(toy, TrainingOptions(epochs=1)))
    first, second, third = toy.states
    assert first is None
    for state, weight in ((second, toy.weights[0]), (third, toy.weights[1])):
        assert not state[0].requires_grad
        assert not state[1][0].requires_grad
        assert float(state[0]) == weight


def test_each_epoch_begins_with_a_fresh_state() -> None:
    toy = Toy([1.0, 1.0])
    list(fit(toy, TrainingOptions(epochs=3)))
    assert [state is None for state in toy.states] == [True, False] * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_skipped_counted_and_followed_by_a_fresh_state(bad: float) -> None:
    toy = Toy([1.0, bad, 1.0, 1.0])
    steps = steps_of(list(fit(toy, TrainingOptions(epochs=1))))
    assert [step.skipped for step in steps] == [False, True, False, False]
    assert toy.weights[2] == toy.weights[1]
    assert toy.states[2] is None
    assert bool(toy.model.weight.isfinite().all())


def test_a_finite_loss_with_a_gradient_that_is_not_never_reaches_the_weights() -> None:
    class Steep(Toy):
        def loss(self, window: float, state: Any) -> tuple[Tensor, Any]:
            return torch.sqrt(self.model.weight * 0).sum() * window, (self.model.weight,)

    toy = Steep([1.0])
    (step,) = steps_of(list(fit(toy, TrainingOptions(epochs=1))))
    assert step.loss == 0
    assert step.skipped
    assert toy.model.weight.tolist() == [[1.0]]


def test_after_several_skipped_steps_in_a_row_the_run_stops_and_says_why() -> None:
    events = fit(Toy([math.nan] * 50), TrainingOptions(epochs=1))
    seen: list[Event] = []
    with pytest.raises(UnrolledError, match=r"11 steps in a row .* lower learning_rate"):
        seen.extend(events)
    assert len(steps_of(seen)) == loop.SKIPPED_AT_MOST + 1


def test_skipped_steps_that_are_not_in_a_row_do_not_stop_the_run() -> None:
    assert len(steps_of(list(fit(Toy([math.nan, 1.0] * 30), TrainingOptions(epochs=1))))) == 60


def test_the_norm_of_the_gradient_is_clipped() -> None:
    toy = Toy([1000.0])
    (step,) = steps_of(list(fit(toy, TrainingOptions(epochs=1, clip=0.5))))
    assert step.gradient_norm == pytest.approx(1000.0)
    assert toy.model.weight.grad is not None
    assert abs(float(toy.model.weight.grad)) == pytest.approx(0.5, rel=1e-4)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [step.learning_rate for step in steps_of(list(fit(Toy([1.0] * 100), TrainingOptions(epochs=1))))]
    highest = rates.index(max(rates))
    assert max(rates) == pytest.approx(TrainingOptions().learning_rate)
    assert highest == 4
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("steps", "evaluations"), [(7, 5), (1, 5), (10, 1), (10, 3), (4, 100)])
def test_the_last_event_is_an_evaluation_and_there_are_no_more_than_asked_for(steps: int, evaluations: int) -> None:
    events = list(fit(Toy([1.0] * steps), TrainingOptions(epochs=1, evaluations=evaluations)))
    taken = [event for event in events if isinstance(event, Evaluation)]
    assert isinstance(events[-1], Evaluation)
    assert taken[-1].number == steps
    assert 1 <= len(taken) <= min(steps, evaluations)


def test_minutes_fix_the_number_of_steps_from_those_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    steps = steps_of(list(fit(Toy([1.0] * 3), TrainingOptions(epochs=1, minutes=1))))
    assert len(steps) == steps[-1].steps == 60
    assert {step.steps for step in steps[: loop.MEASURED_STEPS]} == {None}


def test_minutes_that_are_over_after_the_measured_steps_end_there() -> None:
    events = list(fit(Toy([1.0] * 3), TrainingOptions(epochs=1, minutes=1e-9)))
    assert len(steps_of(events)) == loop.MEASURED_STEPS
    assert isinstance(events[-1], Evaluation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be above 0, not 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0, not nan"),
        ({"learning_rate": math.inf}, "learning_rate must be above 0, not inf"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, not 'fast'"),
        ({"epochs": 0}, "epochs must be above 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"clip": -1}, "clip must be above 0"),
        ({"weight_decay": -1}, "weight_decay must be at least 0"),
        ({"minutes": math.inf}, "minutes must be above 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**70}, "seed must be"),
        ({"evaluations": 0}, "evaluations must be above 0"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next(fit(Toy([1.0]), TrainingOptions(**options)))
