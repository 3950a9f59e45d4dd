from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.training.toy import Toy, events_of, steps_of
from unrolled.errors import UsageError
from unrolled.options import TrainingOptions
from unrolled.tasks.base import Loss
from unrolled.training import loop
from unrolled.training.loop import CheckpointDue, Evaluation, Event, Step, Stopped, Training


def reason_of(events: list[Event]) -> str:
    last = events[-1]
    assert isinstance(last, Stopped)
    return last.reason


def evaluations_of(events: list[Event]) -> list[Evaluation]:
    return [event for event in events if isinstance(event, Evaluation)]


def test_state_is_carried_across_windows_but_its_gradient_is_cut() -> None:
    toy = Toy([1.0, 1.0, 1.0])
    events_of(toy, epochs=1)
    first, second, third = toy.states
    assert first is None
    for state, weight in ((second, toy.weights[0]), (third, toy.weights[1])):
        assert not state[0].requires_grad
        assert not state[1][0].requires_grad
        assert float(state[0]) == weight


def test_each_epoch_begins_with_a_fresh_state() -> None:
    toy = Toy([1.0, 1.0])
    events_of(toy, epochs=3)
    assert [state is None for state in toy.states] == [True, False] * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_skipped_counted_and_followed_by_a_fresh_state(bad: float) -> None:
    toy = Toy([1.0, bad, 1.0, 1.0])
    steps = steps_of(toy, epochs=1)
    assert [step.skipped for step in steps] == [False, True, False, False]
    assert toy.weights[2] == toy.weights[1]
    assert toy.states[2] is None
    assert bool(toy.model.weight.isfinite().all())


def test_a_finite_loss_with_a_gradient_that_is_not_never_reaches_the_weights() -> None:
    class Steep(Toy):
        def loss(self, window: float, state: Any) -> tuple[Loss, Any]:
            loss = torch.sqrt(self.model.weight * 0).sum() * window
            return Loss(loss, loss, loss), (self.model.weight,)

    toy = Steep([1.0])
    (step,) = steps_of(toy, epochs=1)
    assert step.loss == 0
    assert step.skipped
    assert toy.model.weight.tolist() == [[1.0]]


def test_after_several_skipped_steps_in_a_row_the_training_stops_as_diverged_with_a_checkpoint() -> None:
    toy = Toy([1.0] * 3 + [math.nan] * 50)
    events = events_of(toy, epochs=1)
    assert len([event for event in events if isinstance(event, Step)]) == 3 + loop.SKIPPED_AT_MOST + 1
    assert reason_of(events) == "diverged"
    assert isinstance(events[-2], CheckpointDue)
    assert bool(toy.model.weight.isfinite().all())


def test_skipped_steps_that_are_not_in_a_row_do_not_stop_the_training() -> None:
    assert len(steps_of(Toy([math.nan, 1.0] * 30), epochs=1, patience=0)) == 60


def test_the_norm_of_the_gradient_is_clipped_and_told_as_it_was() -> None:
    toy = Toy([1000.0])
    (step,) = steps_of(toy, epochs=1, clip=0.5)
    assert step.gradient_norm == pytest.approx(1000.0)
    assert toy.model.weight.grad is not None
    assert abs(float(toy.model.weight.grad)) == pytest.approx(0.5, rel=1e-4)


def test_a_step_tells_the_mean_loss_and_the_sum() -> None:
    (step,) = steps_of(Toy([2.0]), epochs=1)
    assert (step.loss, step.loss_sum) == (2.0, 14.0)


@pytest.mark.parametrize(("steps", "evaluations"), [(7, 5), (1, 5), (10, 1), (10, 3), (4, 100)])
def test_the_last_step_is_evaluated_and_there_are_no_more_evaluations_than_asked_for(
    steps: int, evaluations: int
) -> None:
    events = events_of(Toy([1.0] * steps), epochs=1, evaluations=evaluations)
    taken = evaluations_of(events)
    assert taken[-1].number == steps
    assert 1 <= len(taken) <= min(steps, evaluations)
    assert reason_of(events) == "complete"


def test_an_evaluation_says_whether_it_is_the_best_and_shows_a_sample() -> None:
    events = events_of(Toy([1.0] * 4, held_out=[3.0, 2.0, 2.5, 1.0]), epochs=1, evaluations=4)
    assert [event.best for event in evaluations_of(events)] == [True, True, False, True]
    assert [event.sample for event in evaluations_of(events)] == [f"after {number}" for number in (1, 2, 3, 4)]


def test_training_stops_early_when_the_held_out_loss_falls_no_more_and_keeps_the_best_weights() -> None:
    toy = Toy([1.0] * 100, held_out=[3.0, 2.0, 2.0, 2.1, 1.0])
    training = Training(toy, TrainingOptions(epochs=1, evaluations=100, patience=2))
    events = list(training.events())
    assert reason_of(events) == "early"
    assert toy.evaluated_at == [1, 2, 3, 4]
    training.keep_best()
    # The weight after the second step is the one that the third began with.
    assert float(toy.model.weight.detach()) == toy.weights[2]


def test_of_figures_that_hardly_differ_the_lower_loss_is_kept() -> None:
    toy = Toy([1.0] * 4, held_out=[3.0, 2.0, 2.5, 1.0], accuracies=[0.8812, 0.8808, 0.8814, 0.87])
    assert [event.best for event in evaluations_of(events_of(toy, epochs=1, evaluations=4))] == [
        True,
        True,
        False,
        False,
    ]


def test_a_training_whose_figure_gets_no_better_goes_on_while_the_loss_falls() -> None:
    toy = Toy([1.0] * 100, held_out=[3.0, 2.8, 2.6, 2.4, 2.2, 2.3, 2.4], accuracies=[0.9, 0.8])
    events = events_of(toy, epochs=1, evaluations=100, patience=2)
    assert reason_of(events) == "early"
    assert toy.evaluated_at == [1, 2, 3, 4, 5, 6, 7]
    assert [event.best for event in evaluations_of(events)] == [True, *[False] * 6]


def test_patience_0_never_stops_early() -> None:
    toy = Toy([1.0] * 50, held_out=[1.0, 2.0])
    assert reason_of(events_of(toy, epochs=1, evaluations=50, patience=0)) == "complete"


def test_a_held_out_loss_that_is_not_finite_is_never_the_best() -> None:
    events = events_of(Toy([1.0] * 3, held_out=[math.nan, 2.0, math.inf]), epochs=1, evaluations=3)
    assert [event.best for event in evaluations_of(events)] == [False, True, False]


def test_where_nothing_is_held_out_there_is_no_evaluation_and_the_last_weights_stay() -> None:
    toy = Toy([1.0] * 5, held_out=None)
    training = Training(toy, TrainingOptions(epochs=1))
    events = list(training.events())
    assert evaluations_of(events) == []
    assert reason_of(events) == "complete"
    last = float(toy.model.weight.detach())
    training.keep_best()
    assert float(toy.model.weight.detach()) == last


def test_an_interruption_ends_the_training_after_its_step_with_a_checkpoint() -> None:
    toy = Toy([1.0] * 50)
    events = list(Training(toy, TrainingOptions(epochs=1, evaluations=1)).events(lambda: len(toy.weights) == 7))
    assert [type(event) for event in events] == [Step] * 7 + [CheckpointDue, Stopped]
    assert reason_of(events) == "interrupted"


def test_an_interruption_in_the_last_step_leaves_the_training_complete() -> None:
    assert reason_of(list(Training(Toy([1.0]), TrainingOptions(epochs=1)).events(lambda: True))) == "complete"


def test_checkpoints_are_made_at_evaluations_and_every_so_many_steps() -> None:
    saved = [e.number for e in events_of(Toy([1.0] * 10), epochs=1, evaluations=2) if isinstance(e, CheckpointDue)]
    assert saved == [5, 10]
    saved = [
        e.number
        for e in events_of(Toy([1.0] * 10), epochs=1, evaluations=2, checkpoint_every=4)
        if isinstance(e, CheckpointDue)
    ]
    assert saved == [4, 5, 8, 10]


class Clock:
    """A clock that a step moves by a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        monkeypatch.setattr(loop.time, "perf_counter", lambda: self.now)


class Timed(Toy):
    def __init__(self, clock: Clock, step: float, evaluation: float):
        super().__init__([1.0] * 3)
        self.clock, self.step, self.evaluation = clock, step, evaluation

    def loss(self, window: float, state: Any) -> tuple[Loss, Any]:
        self.clock.now += self.step
        return super().loss(window, state)

    def evaluate(self) -> float | None:
        self.clock.now += self.evaluation
        return super().evaluate()


@pytest.mark.parametrize(("step", "evaluation"), [(1.0, 0.0), (1.0, 3.0), (0.5, 100.0), (3.0, 0.1)])
def test_minutes_fix_the_number_of_steps_so_that_they_and_their_evaluations_fill_the_time(
    step: float, evaluation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    toy = Timed(clock, step, evaluation)
    events = events_of(toy, epochs=1, minutes=10, patience=0)
    steps = [event for event in events if isinstance(event, Step)]
    assert {each.steps for each in steps[: loop.MEASURED_STEPS]} == {None}
    assert {each.steps for each in steps[loop.MEASURED_STEPS :]} == {len(steps)}
    assert clock.now == pytest.approx(600, abs=max(2 * step, 2 * evaluation))
    assert len(evaluations_of(events)) <= 21


def test_minutes_that_are_over_after_the_measured_steps_end_there() -> None:
    events = events_of(Toy([1.0] * 3), epochs=1, minutes=1e-9)
    assert len([event for event in events if isinstance(event, Step)]) == loop.MEASURED_STEPS
    assert reason_of(events) == "complete"
    assert evaluations_of(events)[-1].number == loop.MEASURED_STEPS


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
        ({"clip": -1}, "clip must be at least 0"),
        ({"weight_decay": -1}, "weight_decay must be at least 0"),
        ({"minutes": math.inf}, "minutes must be above 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**70}, "seed must be"),
        ({"evaluations": 0}, "evaluations must be above 0"),
        ({"optimiser": "adam"}, "there is no optimiser 'adam'. Did you mean adamw?"),
        ({"decay": "cosin"}, "there is no decay 'cosin'. Did you mean cosine?"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"warm_up": 1.0}, "warm_up must be at least 0 and below 1"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        events_of(Toy([1.0]), **options)
    assert message in str(raised.value)


def test_where_nothing_is_held_out_checkpoints_are_made_all_the_same() -> None:
    saved = [e.number for e in events_of(Toy([1.0] * 10, held_out=None), epochs=1, evaluations=2)
             if isinstance(e, CheckpointDue)]  # fmt: skip
    assert saved == [5, 10]


@pytest.mark.parametrize("reason", ["complete", "early", "diverged"])
def test_a_checkpoint_made_at_the_end_is_the_end(reason: str) -> None:
    scales = {"complete": [1.0] * 6, "early": [1.0] * 50, "diverged": [math.nan] * 50}[reason]
    options = TrainingOptions(epochs=1, evaluations=50, patience=2 if reason == "early" else 0)
    toy = Toy(scales, held_out=[1.0, 0.5, 0.4, 0.3, 0.2, 0.1] if reason == "complete" else [1.0])
    training = Training(toy, options)
    assert reason_of(list(training.events())) == reason
    again = Training(Toy(scales), options, training.checkpoint())
    (stopped,) = again.events()
    assert stopped == Stopped(
        training.number, training.number if reason == "complete" else 50, reason, training.seconds
    )


def test_the_time_of_a_step_is_taken_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    steps = [e for e in events_of(Timed(clock, 2.0, 0.0), epochs=1) if isinstance(e, Step)]
    assert [step.seconds for step in steps] == [2.0, 4.0, 6.0]


def test_a_clip_of_0_sets_no_limit() -> None:
    toy = Toy([1000.0])
    events_of(toy, epochs=1, clip=0)
    assert toy.model.weight.grad is not None
    assert float(toy.model.weight.grad) == 1000.0


def test_each_epoch_asks_for_its_own_windows_and_a_resumed_one_for_those_that_are_left() -> None:
    class Asked(Toy):
        def __init__(self) -> None:
            super().__init__([1.0] * 3)
            self.asked: list[tuple[int, int]] = []

        def windows(self, epoch: int, first: int) -> Any:
            self.asked.append((epoch, first))
            return super().windows(epoch, first)

    toy = Asked()
    training = Training(toy, TrainingOptions(epochs=3, patience=0))
    list(training.events(lambda: len(toy.weights) == 4))
    assert toy.asked == [(0, 0), (1, 0)]
    resumed = Asked()
    list(Training(resumed, TrainingOptions(epochs=3, patience=0), training.checkpoint()).events())
    assert resumed.asked == [(1, 1), (2, 0)]


def test_the_evaluation_that_is_measured_knows_how_many_steps_were_fixed() -> None:
    first, *_ = evaluations_of(events := events_of(Toy([1.0] * 3), epochs=1, minutes=0.002, patience=0))
    last = events[-1]
    assert isinstance(last, Stopped)
    assert first.steps == last.steps == last.number
