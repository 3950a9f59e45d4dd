from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.toy import Toy, steps_of
from unrolled.options import TrainingOptions
from unrolled.training.optimise import optimiser_of, rate_at


def rates(steps: int, **options: float | str) -> list[float]:
    return [rate_at(number, steps, TrainingOptions(**options)) for number in range(1, steps + 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_the_learning_rate_warms_up_and_falls_to_zero(decay: str) -> None:
    given = rates(100, decay=decay)
    highest = given.index(max(given))
    assert max(given) == pytest.approx(TrainingOptions().learning_rate)
    assert highest == 4
    assert given[highest:] == sorted(given[highest:], reverse=True)
    assert 0 < given[-1] < 0.02 * max(given)


def test_a_linear_decay_is_a_straight_line() -> None:
    given = rates(100, decay="linear", warm_up=0.0, learning_rate=1.0)
    assert given == pytest.approx([1 - number / 100 for number in range(100)])


def test_without_a_decay_the_rate_stays_and_without_a_warm_up_it_begins_high() -> None:
    assert rates(20, decay="none", warm_up=0.0, learning_rate=0.5) == [0.5] * 20
    assert rates(20, decay="none", warm_up=0.1, learning_rate=0.5) == [0.25, *[0.5] * 19]


def test_a_single_step_is_taken_at_the_full_rate() -> None:
    assert rates(1, learning_rate=0.5) == [0.5]


def test_the_rate_of_a_step_is_the_one_that_the_optimiser_uses() -> None:
    toy = Toy([1.0, 1.0, 1.0])
    steps = steps_of(toy, epochs=1, optimiser="sgd", momentum=0.0, weight_decay=0.0, learning_rate=0.1)
    # The gradient of the toy is 1: each weight is the last one less the rate.
    for before, after, step in zip(toy.weights, toy.weights[1:], steps, strict=False):
        assert before - after == pytest.approx(step.learning_rate, rel=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_momentum_and_weight_decay_reach_the_optimiser(name: str) -> None:
    optimiser = optimiser_of(
        [nn.Parameter(torch.ones(1))], TrainingOptions(optimiser=name, momentum=0.7, weight_decay=0.2)
    )
    (group,) = optimiser.param_groups
    assert group["weight_decay"] == 0.2
    assert (group["momentum"] if name == "sgd" else group["betas"][0]) == 0.7
