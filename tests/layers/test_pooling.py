"""Pooling is of the valid steps alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import layer_of
from unrolled.errors import ShapeError, UsageError
from unrolled.layers import Bidirectional, Embedded, Residual, SequenceLayer, Stacked, WindowMLP, make_pooling
from unrolled.layers.pooling import POOLINGS, AttentionPooling

KINDS = pytest.mark.parametrize("kind", POOLINGS)
LENGTHS = torch.tensor([5, 0, 2, 1])


def expected(kind: str, steps: Tensor, pool: torch.nn.Module) -> Tensor:
    """One row without padding, as slowly as the words say it."""
    if not len(steps):
        return torch.zeros(steps.shape[1], dtype=steps.dtype)
    if kind == "last":
        return steps[-1]
    if kind == "mean":
        return steps.mean(0)
    if kind == "max":
        return steps.max(0).values
    assert isinstance(pool, AttentionPooling)
    scores = torch.stack([pool.query.weight[0] @ torch.tanh(pool.of_step(step)) for step in steps])
    return torch.softmax(scores, 0) @ steps


@KINDS
def test_a_row_is_pooled_as_if_it_were_alone(kind: str) -> None:
    pool = make_pooling(kind, 3).double()
    y = torch.randn(5, 4, 3, dtype=torch.float64)
    found = pool(y, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(found[row], expected(kind, y[:length, row], pool))
    torch.testing.assert_close(pool(y), pool(y, [5] * 4))
    assert torch.equal(pool(y[:0]), torch.zeros(4, 3, dtype=torch.float64))


@KINDS
def test_the_length_of_the_padding_changes_no_bit(kind: str) -> None:
    pool = make_pooling(kind, 3)
    # The products that weigh steps are torch's, whose last bit depends on how many steps there are.
    tolerance = 1e-6 if kind == "attention" else 0.0
    for time in (1, 7, 33, 255):
        for padding in (1, 16, 100):
            y = torch.randn(time, 1, 3)
            longer = torch.cat([y, torch.full((padding, 1, 3), float("nan"))])
            torch.testing.assert_close(pool(longer, [time]), pool(y, [time]), rtol=tolerance, atol=tolerance)


@KINDS
@pytest.mark.parametrize("poison", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_no_gradient_comes_from_padding(kind: str, poison: float) -> None:
    pool = make_pooling(kind, 3).double()
    y = torch.randn(5, 4, 3, dtype=torch.float64)
    padding = (torch.arange(5)[:, None] >= LENGTHS)[..., None].expand_as(y)

    def found(filling: float) -> list[Tensor]:
        filled = torch.where(padding, filling, y).requires_grad_()
        return list(torch.autograd.grad(pool(filled, LENGTHS).square().sum(), [filled, *pool.parameters()]))

    clean, poisoned = found(0.0), found(poison)
    assert all(torch.equal(a, b) for a, b in zip(clean, poisoned, strict=True))
    assert not poisoned[0][padding].any()


@KINDS
def test_the_gradient_is_right(kind: str) -> None:
    pool = make_pooling(kind, 3).double()
    y = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y, *_: pool(y, LENGTHS), (y, *pool.parameters()))


def test_the_weights_of_an_attention_sum_to_one() -> None:
    pool = AttentionPooling(3)
    valid = torch.arange(5)[:, None] < LENGTHS
    weights = pool.weights(torch.randn(5, 4, 3), valid)
    torch.testing.assert_close(weights.sum(0), torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert not weights[~valid].any()


def both_ways() -> Bidirectional:
    return Bidirectional(
        layer_of("gru", 3, 2, backend="reference"), layer_of("gru", 3, 4, reverse=True, backend="reference")
    )


AROUND: dict[str, Callable[[SequenceLayer], SequenceLayer]] = {
    "plain": lambda both: both,
    "residual": Residual,
    "stacked": lambda both: Stacked(layer_of("gru", 3, 3, backend="reference"), both),
}


@pytest.mark.parametrize("around", AROUND)
def test_the_last_output_of_both_directions_is_after_all_was_read(around: str) -> None:
    layer = AROUND[around](both_ways())
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    y, _ = layer(x, lengths=LENGTHS)
    found = make_pooling("last", layer.output_size, layer.backward_size)(y, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        ahead, behind = (y[length - 1, row, :2], y[0, row, 2:]) if length else (torch.zeros(2), torch.zeros(4))
        assert torch.equal(found[row], torch.cat([ahead, behind]).double())


def test_the_last_output_is_the_state_after_each_direction() -> None:
    layer = both_ways()
    y, state = layer(torch.randn(5, 4, 3, dtype=torch.float64), lengths=LENGTHS)
    found = make_pooling("last", 6, layer.backward_size)(y, LENGTHS)
    assert torch.equal(found, torch.cat([state.forward.h, state.backward.h], -1))


def test_a_layer_says_how_much_of_its_output_reads_backwards() -> None:
    behind = layer_of("gru", 3, 4, reverse=True)
    assert behind.backward_size == 4
    assert layer_of("gru", 3, 4).backward_size == 0
    assert both_ways().backward_size == 4
    assert Stacked(both_ways(), layer_of("gru", 6, 5)).backward_size == 0
    assert Stacked(layer_of("gru", 3, 3), both_ways(), torch.nn.Dropout()).backward_size == 4
    assert Embedded(9, both_ways()).backward_size == 4
    assert WindowMLP(3, 4).backward_size == 0


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r"there is no pooling 'mena'\. Did you mean mean\?"):
        make_pooling("mena", 3)
    with pytest.raises(UsageError, match="of 4 features, 0 to 4 come from a layer that reads backwards, not 9"):
        make_pooling("last", 4, 9)
    with pytest.raises(ShapeError, match=r"y is \(5, 4, 2\); expected \(time, batch, 3\)"):
        make_pooling("mean", 3)(torch.randn(5, 4, 2))
    with pytest.raises(ShapeError, match="lengths run from 1 to 6; the sequences have 5 steps"):
        make_pooling("max", 3)(torch.randn(5, 2, 3), [1, 6])
