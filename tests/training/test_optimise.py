from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.training.toy import Toy, steps_of
from unrolled.options import TrainingOptions
from unrolled.training.optimise import AdamW, clip, optimiser_of, rate_at


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


def table(sparse: bool, seed: int = 0) -> nn.Embedding:
    torch.manual_seed(seed)
    return nn.Embedding(6, 3, sparse=sparse)


def move(optimiser: torch.optim.Optimizer, embedding: nn.Embedding, rows: list[int], wanted: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    (embedding(torch.tensor(rows)) * wanted[rows]).sum().backward()
    optimiser.step()


def test_rows_that_are_always_there_move_as_under_adamw_without_momentum() -> None:
    dense, sparse, wanted = table(False), table(True), torch.randn(6, 3)
    expected = torch.optim.AdamW(dense.parameters(), 0.1, betas=(0.0, 0.99), weight_decay=0.3)
    given = AdamW(sparse.parameters(), 0.1, betas=(0.9, 0.99), weight_decay=0.3, fused=True)
    for _ in range(20):
        move(expected, dense, [0, 1, 2, 3, 4, 5, 5], wanted)
        move(given, sparse, [0, 1, 2, 3, 4, 5, 5], wanted)
    torch.testing.assert_close(sparse.weight, dense.weight)


def test_rows_that_are_not_there_stay_and_are_made_up_for_when_they_come() -> None:
    dense, sparse, wanted = table(False), table(True), torch.randn(6, 3)
    before = sparse.weight.detach().clone()
    expected = torch.optim.AdamW(dense.parameters(), 0.1, betas=(0.0, 0.99), weight_decay=0.3)
    given = AdamW(sparse.parameters(), 0.1, betas=(0.9, 0.99), weight_decay=0.3, fused=True)
    for rate, rows in zip((0.5, 0.1, 0.2, 0.05), ([0, 1], [2], [2, 2, 3], [1]), strict=True):
        for optimiser in (expected, given):
            optimiser.param_groups[0]["lr"] = rate
        move(expected, dense, rows, wanted)
        move(given, sparse, rows, wanted)
    assert torch.equal(sparse.weight[4:], before[4:])
    # The gradient of row 1 is the last to come; those of the others are 0 since, and only the decay is due.
    torch.testing.assert_close(
        given.state[sparse.weight]["exp_avg_sq"][1], expected.state[dense.weight]["exp_avg_sq"][1]
    )
    torch.testing.assert_close(sparse.weight[1], dense.weight[1])


def test_it_moves_dense_parameters_as_torch_does() -> None:
    one, other, wanted = table(False), table(False), torch.randn(6, 3)
    optimisers = (make(each.parameters(), 0.1, fused=True) for make, each in ((AdamW, one), (torch.optim.AdamW, other)))
    for optimiser, each in zip(optimisers, (one, other), strict=True):
        for rows in ([0, 1], [2]):
            move(optimiser, each, rows, wanted)
    assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("most", [0.0, 0.5, 100.0])
def test_gradients_of_rows_are_clipped_with_the_others(most: float) -> None:
    found = []
    for sparse in (False, True):
        embedding, map_ = table(sparse), nn.Linear(3, 1)
        nn.init.ones_(map_.weight)
        map_(embedding(torch.tensor([1, 1, 4]))).sum().backward()
        parameters = [*embedding.parameters(), *map_.parameters(), nn.Parameter(torch.ones(1))]
        norm = clip(parameters, most)
        gradients = [each.grad.to_dense() for each in parameters if each.grad is not None]
        left = torch.cat([each.flatten() for each in gradients]).norm().item()
        assert left == pytest.approx(min(norm, most) if most else norm, rel=1e-4)
        found.append((norm, gradients))
    assert found[0][0] == pytest.approx(found[1][0])
    for dense, sparse_one in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(dense, sparse_one)
