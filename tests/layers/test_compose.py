"""Layers made of layers are what composing them by hand gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.conformance.networks import assert_close, layer_of
from unrolled.errors import ShapeError, UsageError
from unrolled.layers import Bidirectional, Recurrent, Stacked, VariationalDropout, deep

LENGTHS = torch.tensor([4, 0, 2])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, 3, 3, dtype=torch.float64), torch.rand(4, 3) < 0.3


def test_a_stack_is_its_layers_one_after_another() -> None:
    low, high = layer_of("lstm"), layer_of("gru", 6, 4)
    stack = Stacked(low, high)
    x, resets = batch()
    y, state = stack(x, None, LENGTHS, resets)
    middle, low_state = low(x, None, LENGTHS, resets)
    expected, high_state = high(middle, None, LENGTHS, resets)
    assert torch.equal(y, expected)
    assert_close([*state[0], *state[1]], [*low_state, *high_state], 0.0)
    assert (stack.input_size, stack.output_size) == (3, 4)
    again, _ = stack(x, state, LENGTHS)
    middle, _ = low(x, low_state, LENGTHS)
    assert torch.equal(again, high(middle, high_state, LENGTHS)[0])
    initial = stack.initial_state(3)
    assert_close([stack(x, initial)[0]], [stack(x)[0]], 0.0)


def test_both_directions_stand_side_by_side() -> None:
    ahead, behind = layer_of("lstm"), layer_of("gru", 3, 4, reverse=True)
    both = Bidirectional(ahead, behind)
    x, resets = batch()
    y, state = both(x, None, LENGTHS, resets)
    left, left_state = ahead(x, None, LENGTHS, resets)
    right, right_state = behind(x, None, LENGTHS, resets)
    assert torch.equal(y, torch.cat([left, right], -1))
    assert (both.input_size, both.output_size) == (3, 10)
    assert_close([*state.forward, *state.backward], [*left_state, *right_state], 0.0)
    assert torch.equal(both(x, state, LENGTHS)[0], both(x, tuple(state), LENGTHS)[0])
    assert_close([both(x, both.initial_state(3))[0]], [both(x)[0]], 0.0)


def test_the_taps_of_both_directions_stand_side_by_side() -> None:
    both = Bidirectional(layer_of("gru"), layer_of("gru", reverse=True))
    x, _ = batch()
    y, _, taps = both(x, taps=("z", "h"))
    assert taps["z"].shape == (4, 3, 12)
    assert torch.equal(taps["h"], y)


def test_structures_nest() -> None:
    both = Bidirectional(layer_of("gru"), layer_of("lstm", reverse=True))
    top = layer_of("elman", 12, 2)
    inner = Stacked(both, top)
    whole = Stacked(inner, layer_of("mgu", 2, 5))
    x, _ = batch()
    y, state = whole(x, lengths=LENGTHS)
    middle, _ = inner(x, lengths=LENGTHS)
    assert torch.equal(y, whole.layers[1](middle, lengths=LENGTHS)[0])
    assert len(state) == 2
    assert len(state[0]) == 2
    assert torch.equal(y[:, 1], torch.zeros(4, 5, dtype=torch.float64))


def test_dropout_between_layers_is_in_training_only() -> None:
    low, high = layer_of("lstm"), layer_of("gru", 6, 4)
    stack, plain = Stacked(low, VariationalDropout(0.5), high), Stacked(low, high)
    x, _ = batch()
    assert torch.equal(stack.eval()(x)[0], plain(x)[0])
    stack.train()
    torch.manual_seed(5)
    dropped, _ = stack(x)
    assert not torch.allclose(dropped, plain(x)[0])
    torch.manual_seed(5)
    assert torch.equal(stack(x)[0], dropped)
    assert len(stack(x)[1]) == 2


def test_variational_dropout_drops_the_same_units_at_every_step_of_a_row() -> None:
    dropout = VariationalDropout(0.25)
    y = dropout(torch.ones(5, 8, 500))
    assert all(torch.equal(step, y[0]) for step in y)
    assert not torch.equal(y[0, 0], y[0, 1])
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1.0) / torch.tensor(0.75))}
    assert 0.2 < float((y == 0).float().mean()) < 0.3
    assert torch.equal(dropout.eval()(y), y)
    assert torch.equal(VariationalDropout(0.0)(y), y)


def test_deep_is_a_stack_with_a_dropout_between_the_layers() -> None:
    made = deep(lambda index, size: Recurrent("gru", size, 4 + index), 3, 3, nn.Dropout(0.1))
    kinds = [type(layer).__name__ for layer in made.layers]
    assert kinds == ["Recurrent", "Dropout", "Recurrent", "Dropout", "Recurrent"]
    assert [layer.input_size for layer in made.layers if isinstance(layer, Recurrent)] == [3, 4, 5]
    assert made.output_size == 6
    assert len(deep(lambda index, size: Recurrent("gru", size, 4), 3, 1, nn.Dropout(0.1)).layers) == 1
    wide = deep(lambda i, size: Bidirectional(Recurrent("gru", size, 4), Recurrent("gru", size, 4, reverse=True)), 3, 2)
    assert wide.output_size == 8


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "empty": (lambda: Stacked(), UsageError, "a stack needs a layer over sequences"),
    "dropouts-only": (lambda: Stacked(nn.Dropout()), UsageError, "a stack needs a layer over sequences"),
    "widths": (
        lambda: Stacked(layer_of("gru"), layer_of("gru")),
        ShapeError,
        "a layer gives 6 values a step, the one above it has input_size 3",
    ),
    "no-layers": (lambda: deep(lambda i, n: layer_of("gru"), 3, 0), UsageError, "has 1 layer or more, not 0"),
    "two-forward": (
        lambda: Bidirectional(layer_of("gru"), layer_of("gru")), UsageError, "the second has reverse=True",
    ),
    "two-backward": (
        lambda: Bidirectional(layer_of("gru", reverse=True), layer_of("gru", reverse=True)),
        UsageError,
        "reads forward",
    ),
    "input-sizes": (
        lambda: Bidirectional(layer_of("gru"), layer_of("gru", 4, reverse=True)),
        ShapeError,
        "the directions have input sizes 3 and 4",
    ),
    "no-layer": (lambda: Bidirectional(torch.nn.Linear(3, 6), layer_of("gru")), UsageError, "Linear is no layer over"),
    "stack-state": (
        lambda: Stacked(layer_of("gru"), layer_of("gru", 6))(batch()[0], (None,)),
        ShapeError,
        "the state has 1 entries; the stack has 2 layers",
    ),
    "stack-taps": (
        lambda: Stacked(layer_of("gru"))(batch()[0], taps="z"), ShapeError, r"taps is a tuple of names: taps=\('z',\)",
    ),
    "stack-tap-of-no-layer": (
        lambda: Stacked(layer_of("gru"), layer_of("gru", 6))(batch()[0], taps=("2.z",)),
        ShapeError,
        r"there is no tap '2\.z': the layers of the stack have the indexes 0 to 1",
    ),
    "stack-input": (
        lambda: Stacked(layer_of("divided"))(batch()[0], dd=batch()[0]),
        ShapeError,
        r"no layer of the stack has an input 'dd'\. There is: dt",
    ),
    "both-state": (
        lambda: Bidirectional(layer_of("gru"), layer_of("gru", reverse=True))(batch()[0], (None,) * 3),
        ShapeError,
        "the state has 3 entries; a bidirectional layer has two",
    ),
    "dropout": (lambda: VariationalDropout(1.0), UsageError, r"from 0 to below 1, not 1\.0"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_compose_is_refused_in_words(what: str) -> None:
    make, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        make()
