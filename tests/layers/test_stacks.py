"""Residual and tied layers, taps and further inputs of stacks, and what a layer reads of the one below."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conformance.networks import assert_close, layer_of
from unrolled.backends.llvm.machine import unavailable
from unrolled.errors import CellError, ShapeError, UsageError
from unrolled.language import Cell, parse
from unrolled.layers import Bidirectional, Recurrent, Residual, SequenceLayer, Stacked, Tied, at_depth, deep
from unrolled.layers.state import tensors_of

LENGTHS = torch.tensor([4, 0, 2])
FLOAT64: dict[str, Any] = {"dtype": torch.float64}
# Reads a state and a gate of the layer below, on the axes that they have there.
LINKED = parse(
    """
@cell
def linked(x, h, below_c: Input["hidden"], below_f: Input["hidden"], dt: Input[()]):
    h = tanh(W.h @ x + U.h @ h + V.c @ below_c + below_f * dt)
    return h
"""
)


def batch(size: int = 3) -> Tensor:
    return torch.randn(4, 3, size, dtype=torch.float64)


def linked(input_size: int = 6, hidden_size: int = 6, **options: Any) -> Recurrent:
    layer = Recurrent(LINKED, input_size, hidden_size, **FLOAT64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return layer


def recurrent(cell: str | Cell, input_size: int, hidden_size: int, **options: Any) -> Recurrent:
    """A layer on the reference: what is made of layers knows nothing of kernels."""
    return Recurrent(cell, input_size, hidden_size, backend="reference", **options)


def grown(network: SequenceLayer) -> SequenceLayer:
    """The network with random weights in float64."""
    with torch.no_grad():
        for parameter in network.double().parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return network


NETWORKS = {
    "residual": lambda: deep(lambda index, size: Residual(recurrent("lstm", size, 5)), 3, 3),
    "tied": lambda: Stacked(recurrent("gru", 3, 5), Tied(recurrent("lstm", 5, 5), 3, nn.Dropout(0.0))),
    "depth-gated": lambda: deep(lambda index, size: recurrent(at_depth("depth-gated-lstm", index), size, 5), 3, 3),
    "residual-depth-gated": lambda: deep(
        lambda index, size: Residual(recurrent(at_depth("depth-gated-lstm", index), size, 5)), 3, 3
    ),
}
BIDIRECTIONAL = {
    "bidirectional": lambda: deep(
        lambda index, size: Bidirectional(recurrent("gru", size, 4), recurrent("gru", size, 4, reverse=True)), 3, 3
    ),
    "bidirectional-depth-gated": lambda: deep(
        lambda index, size: Bidirectional(
            recurrent(at_depth("depth-gated-lstm", index), size, 4),
            recurrent(at_depth("depth-gated-lstm", index), size, 4, reverse=True),
        ),
        3,
        3,
    ),
}
ALL = {**NETWORKS, **BIDIRECTIONAL}


@pytest.mark.parametrize("name", ALL)
def test_a_row_is_read_alone_as_it_is_read_in_a_padded_batch(name: str) -> None:
    network, x = grown(ALL[name]()), batch()
    resets = torch.rand(4, 3) < 0.3
    x[LENGTHS[2] :, 2] = torch.nan
    y, state = network(x, lengths=LENGTHS, resets=resets)
    for row, length in enumerate(LENGTHS.tolist()):
        assert not y[length:, row].any()
        if length:
            alone, end = network(x[:length, row : row + 1], resets=resets[:length, row : row + 1])
            assert_close([y[:length, row : row + 1]], [alone], 1e-12)
            assert_close([part[row : row + 1] for part in tensors_of(state)], tensors_of(end), 1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_that_hand_on_the_state_are_one_run(name: str) -> None:
    network, x = grown(NETWORKS[name]()), batch()
    y, state = network(x)
    first, between = network(x[:1])
    second, end = network(x[1:], between)
    assert_close([torch.cat([first, second]), *tensors_of(end)], [y, *tensors_of(state)], 1e-12)
    assert_close([network(x, network.initial_state(3))[0]], [y], 0.0)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    network, x = grown(ALL[name]()), batch().requires_grad_()
    weights = list(network.parameters())
    assert torch.autograd.gradcheck(
        lambda x, *_: network(x, lengths=LENGTHS)[0], (x, *weights), fast_mode=True, atol=1e-6
    )
    found = torch.autograd.grad(network(x)[0].square().sum(), weights)
    assert all(bool(gradient.any()) for gradient in found)


@pytest.mark.parametrize("name", ALL)
def test_copies_and_pickles_give_the_same(name: str) -> None:
    network, x = grown(ALL[name]()), batch()
    expected, _ = network(x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(x)[0], expected)
    other = ALL[name]().double()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x)[0], expected)


def test_a_residual_layer_adds_what_it_reads() -> None:
    layer = layer_of("lstm", 6, 6)
    whole = Residual(layer)
    x = batch(6)
    y, state, taps = whole(x, None, LENGTHS, taps=("f",))
    inner, own, own_taps = layer(x, None, LENGTHS, taps=("f",))
    valid = (torch.arange(4)[:, None] < LENGTHS)[..., None]
    assert_close([y, *state, taps["f"]], [inner + torch.where(valid, x, 0), *own, own_taps["f"]], 0.0)
    assert whole.shortcut is None
    assert len(list(whole.parameters())) == len(list(layer.parameters()))


def test_where_the_sizes_differ_a_map_without_bias_is_added() -> None:
    layer = layer_of("gru")
    whole = Residual(layer)
    assert whole.shortcut is not None
    assert whole.shortcut.weight.dtype == torch.float64
    x = batch()
    assert_close([whole(x)[0]], [layer(x)[0] + x @ whole.shortcut.weight.T], 1e-12)
    numbers = torch.tensor([[0, 2, 1], [1, 9, 2]])
    one_hot = nn.functional.one_hot(numbers.clamp(max=2), 3).double()
    lengths = torch.tensor([2, 1, 2])
    assert_close([whole(numbers, lengths=lengths)[0]], [whole(one_hot, lengths=lengths)[0]], 1e-12)


@pytest.mark.parametrize("hidden_size", [3, 5], ids=["sum", "map"])
def test_a_residual_layer_takes_the_types_that_its_layer_takes(hidden_size: int) -> None:
    whole, x = Residual(recurrent("gru", 3, hidden_size, precision="bf16")), batch().bfloat16()
    for given in (x, x.double()):
        y, _ = whole(given)
        assert y.dtype == torch.float32
        assert_close([y], [whole(x.float())[0]], 0.0)


def test_what_the_padding_holds_does_not_reach_the_gradient_of_the_map() -> None:
    whole, x = Residual(layer_of("gru")), batch()
    assert whole.shortcut is not None
    x[2:, 2] = torch.nan
    y, _ = whole(x, lengths=LENGTHS)
    (found,) = torch.autograd.grad(y.sum(), [whole.shortcut.weight])
    assert bool(torch.isfinite(found).all())


def test_tied_places_share_weights_but_not_their_state() -> None:
    layer, drop = layer_of("gru", 6, 6), nn.Dropout(0.0)
    tied = Tied(layer, 3, drop)
    x = batch(6)
    y, state = tied(x, None, LENGTHS)
    expected = x
    for place in range(3):
        expected, end = layer(expected, None, LENGTHS)
        assert_close(state[place], end, 0.0)
    assert torch.equal(y, expected)
    assert not torch.equal(state[0].h, state[1].h)
    assert sorted(tied.state_dict()) == sorted(f"layers.0.{name}" for name in layer.state_dict())
    assert len(list(tied.parameters())) == len(list(layer.parameters()))
    assert len(tied.initial_state(2)) == 3


def test_the_dropout_of_tied_places_stands_between_them_only() -> None:
    layer = layer_of("gru", 6, 6)
    assert torch.equal(Tied(layer, 1, nn.Dropout(0.9))(batch(6)[:1] * 0)[0], layer(batch(6)[:1] * 0)[0])
    once, twice = Tied(layer, 1, nn.Dropout(0.9)), Tied(layer, 2, nn.Dropout(0.9))
    x = batch(6)
    assert torch.equal(once(x)[0], layer(x)[0])
    assert not torch.allclose(twice(x)[0], twice.eval()(x)[0])


def test_taps_of_a_stack_are_named_by_the_index_of_their_layer() -> None:
    low, high = layer_of("lstm"), layer_of("gru", 6, 4)
    stack, x = Stacked(low, nn.Dropout(0.0), high, batch_first=True), batch()
    _, _, taps = stack(x.transpose(0, 1), taps=("0.f", "1.z", "z"))
    middle, _, below = low(x, taps=("f",))
    _, _, above = high(middle, taps=("z",))
    assert list(taps) == ["0.f", "1.z", "z"]
    assert torch.equal(taps["0.f"].transpose(0, 1), below["f"])
    assert torch.equal(taps["1.z"], taps["z"])
    assert torch.equal(taps["z"].transpose(0, 1), above["z"])
    outer = Stacked(Stacked(low, high), layer_of("mgu", 4))
    assert torch.equal(outer(x, taps=("0.0.f",))[2]["0.0.f"], below["f"])
    with pytest.raises(CellError, match="cell 'lstm' has no value named 'z'"):
        stack(x, taps=("0.z",))


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_a_layer_reads_what_the_one_below_calls_by_the_name_after_below(nested: bool) -> None:
    low, high, top = layer_of("lstm"), linked(), layer_of("divided", 6, 4)
    stack = Stacked(Stacked(low, nn.Identity()), Stacked(high, top)) if nested else Stacked(low, high, top)
    x, dt = batch(), torch.rand(4, 3, dtype=torch.float64) + 0.5
    assert stack.further_inputs == {"dt": 1}
    y, _ = stack(x, lengths=LENGTHS, dt=dt)
    middle, _, taps = low(x, lengths=LENGTHS, taps=("c", "f"))
    middle, _ = high(middle, lengths=LENGTHS, below_c=taps["c"], below_f=taps["f"], dt=dt)
    assert_close([y], [top(middle, lengths=LENGTHS, dt=dt)[0]], 0.0)


def test_the_lowest_layer_reads_from_below_what_the_stack_is_given() -> None:
    stack, c = Stacked(layer_of("depth-gated-lstm")), batch(6)
    assert stack.further_inputs == {"below_c": 6}
    assert torch.equal(stack(batch() * 0, below_c=c)[0], stack.layers[0](batch() * 0, below_c=c)[0])
    with pytest.raises(ShapeError, match=r"reads a further input: below_c=… is missing; in a stack it is c of the lay"):
        stack(batch())


def test_each_direction_reads_the_memory_of_its_own_direction_below() -> None:
    lows = [layer_of("lstm"), layer_of("lstm", reverse=True)]
    highs = [layer_of("depth-gated-lstm", 12, 6), layer_of("depth-gated-lstm", 12, 6, reverse=True)]
    x = batch()
    y, _ = Stacked(Bidirectional(*lows), Bidirectional(*highs))(x, lengths=LENGTHS)
    below = [low(x, lengths=LENGTHS, taps=("c",)) for low in lows]
    middle = torch.cat([each[0] for each in below], -1)
    expected = [
        high(middle, lengths=LENGTHS, below_c=taps["c"])[0] for high, (_, _, taps) in zip(highs, below, strict=True)
    ]
    assert_close([y], [torch.cat(expected, -1)], 1e-12)


def test_an_input_that_one_direction_reads_is_not_given_to_the_other() -> None:
    cell = """
@cell
def timed(x, h, dt: Input[()], below_c: Input["hidden"]):
    h = tanh(W.h @ x + U.h @ h + below_c) * dt
    return h
"""
    ahead, behind = recurrent(parse(cell), 3, 5), recurrent("gru", 3, 4, reverse=True)
    x, more = batch().float(), {"dt": torch.rand(4, 3), "below_c": torch.randn(4, 3, 5)}
    both = Bidirectional(ahead, behind)
    y, _ = both(x, lengths=LENGTHS, **more)
    assert_close([y], [torch.cat([ahead(x, lengths=LENGTHS, **more)[0], behind(x, lengths=LENGTHS)[0]], -1)])
    with pytest.raises(ShapeError, match="has no input 'dtt'"):
        both(x, dtt=more["dt"], **more)


@pytest.mark.skipif(bool(unavailable()), reason="no kernels can be compiled here")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["depth-gated", "tied"])
def test_a_stack_is_streamed_with_its_links_and_its_states(name: str, threads: int) -> None:
    network, x = grown(NETWORKS[name]()).eval(), batch()
    y, state = network(x)
    further, _ = network(x, state)
    stream = network.stream(3, threads=threads)
    assert_close([torch.stack([stream.step(each).clone() for each in x])], [y], 1e-12)
    again = pickle.loads(pickle.dumps(stream))
    stream.state = state
    for each in (stream, again):
        assert_close([torch.stack([each.step(step).clone() for step in x])], [further], 1e-12)


@pytest.mark.skipif(bool(unavailable()), reason="no kernels can be compiled here")
def test_a_streamed_stack_hands_further_inputs_to_the_layers_that_read_them() -> None:
    stack = Stacked(layer_of("lstm"), linked(), layer_of("divided", 6, 4))
    x, dt = batch(), torch.rand(4, 3, dtype=torch.float64) + 0.5
    stream = stack.stream(3)
    found = [stream.step(step, dt=at).clone() for step, at in zip(x, dt, strict=True)]
    assert_close([torch.stack(found)], [stack(x, dt=dt)[0]], 1e-12)
    with pytest.raises(ShapeError, match="dt=… is missing"):
        stream.step(x[0])
    with pytest.raises(ShapeError, match="the cell has no input 'below_c'"):
        stream.step(x[0], dt=dt[0], below_c=x[0])


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "tied-sizes": (lambda: Tied(layer_of("gru"), 2), ShapeError, "reads 3 values and gives 6: put one that gives 6"),
    "tied-never": (lambda: Tied(layer_of("gru", 6), 0), UsageError, "at 1 place or more, not 0"),
    "residual-of-no-layer": (lambda: Residual(nn.Linear(3, 3)), UsageError, "Linear is no layer over sequences"),
    "residual-stream": (lambda: Residual(layer_of("gru")).stream(), UsageError, "Residual cannot be streamed"),
    "no-such-value-below": (
        lambda: Stacked(layer_of("gru"), layer_of("depth-gated-lstm", 6))(batch()),
        CellError,
        "cell 'gru' has no value named 'c'",
    ),
    "another-size-below": (
        lambda: Stacked(layer_of("lstm", 3, 4), layer_of("depth-gated-lstm", 4))(batch()),
        ShapeError,
        r"below_c is \(4, 3, 4\); expected \(time, batch, axis\), here \(4, 3, 6\)",
    ),
    "one-direction-below": (
        lambda: Stacked(
            layer_of("lstm"),
            Bidirectional(layer_of("depth-gated-lstm", 6), layer_of("depth-gated-lstm", 6, reverse=True)),
        )(batch()),
        ShapeError,
        r"below_c is 6 wide; the directions read 6 \+ 6",
    ),
    "no-first-form": (lambda: at_depth(LINKED, 0), UsageError, "'linked' reads below_c from the layer below, and the"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_stand_there_is_refused_in_words(what: str) -> None:
    make, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        make()
