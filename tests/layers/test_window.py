"""A window sees its last inputs and nothing before; lengths, resets and the state are what slow loops give."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unrolled.errors import ShapeError, UsageError
from unrolled.layers import Bidirectional, Recurrent, Stacked, WindowMLP

LENGTHS = torch.tensor([7, 0, 3, 1])


def window_of(window: int = 3) -> WindowMLP:
    layer = WindowMLP(3, 4, window, dtype=torch.float64)
    with torch.no_grad():
        layer.b.copy_(torch.randn(4))
    return layer


def by_hand(layer: WindowMLP, inputs: Tensor, before: Tensor, resets: Tensor) -> tuple[Tensor, Tensor]:
    """One row, step by step, with a list of the inputs that the next step sees."""
    seen, outputs = list(before), []
    for x, reset in zip(inputs, resets, strict=True):
        seen = [torch.zeros_like(old) for old in seen] if reset else seen
        seen = [*seen, x]
        net = sum((layer.W[back] @ old for back, old in enumerate(reversed(seen))), layer.b)
        outputs.append(torch.tanh(net))
        seen = seen[1:]
    return (
        torch.stack(outputs) if outputs else torch.empty(0, 4, dtype=torch.float64),
        torch.stack(seen) if seen else before,
    )


@pytest.mark.parametrize("window", [1, 2, 3, 9])
@pytest.mark.parametrize("whole_numbers", [False, True], ids=["vectors", "one-hot"])
def test_a_window_is_a_hidden_layer_on_the_last_inputs(window: int, whole_numbers: bool) -> None:
    layer = window_of(window)
    numbers = torch.randint(3, (7, 4))
    vectors = functional.one_hot(numbers, 3).double() if whole_numbers else torch.randn(7, 4, 3, dtype=torch.float64)
    before = torch.randn(4, window - 1, 3, dtype=torch.float64)
    resets = torch.rand(7, 4) < 0.3
    for begins in (None, resets):
        y, state = layer(numbers if whole_numbers else vectors, (before,), LENGTHS, begins)
        for row, length in enumerate(LENGTHS.tolist()):
            steps = (resets if begins is not None else torch.zeros_like(resets))[:length, row]
            expected, last = by_hand(layer, vectors[:length, row], before[row], steps)
            torch.testing.assert_close(y[:length, row], expected)
            torch.testing.assert_close(state.inputs[row], last)
            assert not y[length:, row].any()


def test_an_output_depends_on_exactly_the_inputs_of_its_window() -> None:
    layer, x = window_of(3), torch.randn(7, 1, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0][5, 0], x)
    assert isinstance(jacobian, Tensor)
    touched = [bool(jacobian[:, step].any()) for step in range(7)]
    assert touched == [False, False, False, True, True, True, False]


def test_what_was_cut_and_carried_on_is_the_whole() -> None:
    layer, x = window_of(4), torch.randn(7, 4, 3, dtype=torch.float64)
    whole, last = layer(x)
    pieces, state = [], layer.initial_state(4)
    for first, stop in ((0, 1), (1, 3), (3, 3), (3, 7)):
        y, state = layer(x[first:stop], state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces), whole)
    assert torch.equal(state.inputs, last.inputs)
    torch.testing.assert_close(layer(x, layer.initial_state(4))[0], whole)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_padding_never_changes_a_result(poison: float) -> None:
    layer, x = window_of(), torch.randn(7, 4, 3, dtype=torch.float64)
    padding = (torch.arange(7)[:, None] >= LENGTHS)[..., None]

    def found(filling: float) -> list[Tensor]:
        filled = torch.where(padding, filling, x).requires_grad_()
        y, state = layer(filled, lengths=LENGTHS)
        loss = y.square().sum() + state.inputs.square().sum()
        return [y, state.inputs, *torch.autograd.grad(loss, [filled, *layer.parameters()])]

    assert all(torch.equal(a, b) for a, b in zip(found(0.0), found(poison), strict=True))
    numbers = torch.where(padding[..., 0], -100, torch.ones(7, 4, dtype=torch.int64))
    assert torch.isfinite(layer(numbers, lengths=LENGTHS)[0]).all()


def test_the_gradient_is_right() -> None:
    layer, resets = window_of(), torch.rand(7, 4) < 0.3
    given = [torch.randn(7, 4, 3, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)]

    def run(x: Tensor, before: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        y, state = layer(x, (before,), LENGTHS, resets)
        return y, state.inputs

    assert torch.autograd.gradcheck(run, (*(each.requires_grad_() for each in given), *layer.parameters()))


def test_a_window_goes_wherever_a_layer_goes() -> None:
    x = torch.randn(7, 4, 3)
    stack = Stacked(WindowMLP(3, 4), Recurrent("gru", 4, 5, backend="reference"))
    _, state = stack(x, lengths=LENGTHS)
    assert torch.equal(stack(x, state, LENGTHS)[0], stack(x, tuple(state), LENGTHS)[0])
    both = Bidirectional(WindowMLP(3, 4), Recurrent("gru", 3, 5, reverse=True, backend="reference"))
    assert both(x, lengths=LENGTHS)[0].shape == (7, 4, 9)
    turned = WindowMLP(3, 4, batch_first=True)
    same = WindowMLP(3, 4)
    same.load_state_dict(turned.state_dict())
    torch.testing.assert_close(
        turned(x.transpose(0, 1), lengths=LENGTHS)[0].transpose(0, 1), same(x, lengths=LENGTHS)[0]
    )
    assert torch.equal(copy.deepcopy(same)(x)[0], same(x)[0])
    loaded = pickle.loads(pickle.dumps(state))
    assert torch.equal(loaded[0].inputs, state[0].inputs)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert torch.equal(torch.load(file)[0].inputs, state[0].inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert same(x)[0].dtype == torch.float32


def test_what_does_not_fit_is_refused_in_words() -> None:
    layer = window_of()
    with pytest.raises(UsageError, match="window is a whole number above 0, not 0"):
        WindowMLP(3, 4, 0)
    with pytest.raises(ShapeError, match="x has 2 on its last axis; input_size is 3"):
        layer(torch.randn(7, 4, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"x is torch.float32, the layer is torch.float64"):
        layer(torch.randn(7, 4, 3))
    with pytest.raises(ShapeError, match="x holds numbers from 3 to 3; input_size is 3"):
        layer(torch.full((7, 4), 3))
    with pytest.raises(ShapeError, match=r"state inputs is \(4, 1, 3\); expected \(batch, window - 1, input\)"):
        layer(torch.randn(7, 4, 3, dtype=torch.float64), (torch.zeros(4, 1, 3),))
    with pytest.raises(ShapeError, match="the state has 2 tensors; a window has one"):
        layer(torch.randn(7, 4, 3, dtype=torch.float64), (torch.zeros(4, 3), torch.zeros(4, 3)))
    with pytest.raises(ShapeError, match="no further inputs or taps: taps"):
        layer(torch.randn(7, 4, 3, dtype=torch.float64), taps=("h",))
    with pytest.raises(UsageError, match="WindowMLP cannot be streamed"):
        layer.stream()
