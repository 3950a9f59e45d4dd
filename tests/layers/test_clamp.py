"""Values of a step held at numbers: the conveyor belt of a memory, and that nothing else changes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from tests.conformance.networks import assert_close, batch_for, gradients, layer_of, run
from unrolled.errors import CellError
from unrolled.language import parse
from unrolled.layers import Bidirectional, Recurrent, Stacked

BACKENDS = ("reference", "llvm")
KEEPING = {"lstm": {"f": 1, "i": 0}, "gru": {"z": 1}}


def jacobian(final: torch.Tensor, initial: torch.Tensor) -> torch.Tensor:
    """The derivative of the first row's final state by its initial one, row by row."""
    rows = []
    for unit in range(final.shape[1]):
        found = torch.autograd.grad(final[0, unit], initial, retain_graph=True, allow_unused=True)[0]
        rows.append(torch.zeros_like(initial[0]) if found is None else found[0])
    return torch.stack(rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", KEEPING)
def test_a_memory_whose_gates_are_held_is_carried_over_2000_steps_bit_by_bit(name: str, backend: str) -> None:
    layer = layer_of(name, hidden_size=4, clamp=KEEPING[name], backend=backend, dtype=torch.float32)
    initial = torch.randn(1, 4)
    initial[0, 0] = -0.0
    initial.requires_grad_()
    start = (initial,) if name == "gru" else (torch.zeros(1, 4), initial)
    _, state = layer(torch.randn(2000, 1, 3), start)
    assert torch.equal(state[-1].view(torch.int32), initial.view(torch.int32))
    assert torch.equal(jacobian(state[-1], initial), torch.eye(4))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forget_gate_held_shut_lets_nothing_pass(backend: str) -> None:
    layer = layer_of("lstm", clamp={"f": 0}, backend=backend)
    x, zero = torch.randn(5, 1, 3, dtype=torch.float64), torch.zeros(1, 6, dtype=torch.float64)
    initial = torch.full_like(zero, torch.inf, requires_grad=True)
    y, state = layer(x, (zero, initial))
    expected, _ = layer(x, (zero, zero))
    assert torch.equal(y, expected)
    assert not jacobian(state.c, initial).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_with_held_gates_is_the_cell_with_numbers_in_their_places(backend: str) -> None:
    written = parse("""
@cell
def held(x, h, c):
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = 0.9 * c + 0.25 * g
    h = o * tanh(c)
    return h, c
""")
    held = layer_of("lstm", clamp={"f": 0.9, "i": 0.25}, backend=backend)
    plain = Recurrent(written, 3, 6, dtype=torch.float64, backend=backend)
    with torch.no_grad():
        for family in "WUb":
            for gate in "go":
                getattr(plain, family)[gate].copy_(getattr(held, family)[gate])
    given = batch_for(held, ragged=True, resets=True)
    got, found = gradients(held, given)
    expected, wanted = gradients(plain, given)
    assert_close(got, expected)
    assert_close(found[:3], wanted[:3])
    by_name = dict(zip(dict(held.named_parameters()), found[3:], strict=True))
    i, f, g, o = by_name["U.i_f_g_o"].chunk(4)
    assert not i.any()
    assert not f.any()
    assert_close([torch.cat([g, o])], [dict(zip(dict(plain.named_parameters()), wanted[3:], strict=True))["U.g_o"]])


def test_a_tap_of_a_held_value_is_the_number() -> None:
    for backend in BACKENDS:
        layer = layer_of("lstm", clamp={"f": 1, "i": 0.5}, backend=backend)
        _, _, taps = layer(torch.randn(4, 2, 3, dtype=torch.float64), taps=("f", "i", "g"))
        assert torch.equal(taps["f"], torch.ones(4, 2, 6, dtype=torch.float64))
        assert torch.equal(taps["i"], torch.full((4, 2, 6), 0.5, dtype=torch.float64))
        assert taps["g"].unique().numel() > 2


@pytest.mark.parametrize("clamp", [{"r": 1}, {"z": 0.5, "r": 1}, {"g": 0}, {"h": 0.25}])
def test_the_parameters_are_those_of_the_cell_so_that_a_checkpoint_loads_with_and_without(clamp) -> None:
    shared = """
@cell
def own(x, h):
    r = sigmoid(W.r @ x + U.r @ h)
    z = sigmoid(W.z @ x + U.z @ (r * h))
    g = tanh(W.g @ x + U.g @ (r * h))
    h = z * h + (1 - z) * g
    return h
"""
    for cell in (parse(shared), "gru-cho"):
        plain, held = Recurrent(cell, 3, 4), Recurrent(cell, 3, 4, clamp=clamp, backend="reference")
        held.load_state_dict(plain.state_dict())
        plain.load_state_dict(held.state_dict())
        y, _ = held(torch.randn(3, 2, 3))
        assert torch.isfinite(y).all()


def test_a_state_held_is_its_new_value_at_every_step() -> None:
    layer = layer_of("lstm", clamp={"c": 0.5}, backend="reference")
    y, state, taps = layer(torch.randn(4, 2, 3, dtype=torch.float64), taps=("o",))
    assert torch.equal(state.c, torch.full((2, 6), 0.5, dtype=torch.float64))
    assert_close([y], [taps["o"] * torch.tanh(torch.tensor(0.5, dtype=torch.float64))])


def test_held_gates_hold_in_evaluation_in_streams_in_copies_and_in_compositions() -> None:
    layer = layer_of("lstm", clamp={"f": 1, "i": 0}).eval()
    x, state = torch.randn(5, 2, 3, dtype=torch.float64), tuple(torch.randn(2, 2, 6, dtype=torch.float64))
    y, _ = layer(x, state)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x, state)[0], y)
    stream = layer.stream(2)
    stream.state = {"h": state[0].numpy(), "c": state[1].numpy()}
    assert_close([torch.stack([stream.step(step).clone() for step in x])], [y])
    assert torch.equal(torch.as_tensor(stream.state["c"]), state[1])
    backward = layer_of("lstm", clamp={"f": 1, "i": 0}, reverse=True)
    stack = Stacked(Bidirectional(layer, backward), layer_of("gru", 12, clamp={"z": 1}))
    _, (both, top) = stack(x, lengths=[5, 3])
    assert not both.forward.c.any()
    assert not both.backward.c.any()
    assert not top.h.any()


def test_unheld_layers_share_no_kernel_with_held_ones() -> None:
    given = batch_for(plain := layer_of("lstm"))
    held = layer_of("lstm", clamp={"i": 0})
    held.load_state_dict(plain.state_dict())
    assert not torch.allclose(run(held, given)[0], run(plain, given)[0])


@pytest.mark.parametrize(
    ("clamp", "words"),
    [
        ({"ff": 1}, r"cell 'lstm' has no value named 'ff'. Did you mean f\?"),
        ({"f": "1"}, "cell 'lstm': clamp holds f at a finite number, not '1'"),
        ({"f": True}, "finite number, not True"),
        ({"f": float("nan")}, "finite number, not nan"),
    ],
    ids=str,
)
def test_what_cannot_be_held_is_refused_in_words(clamp, words: str) -> None:
    with pytest.raises(CellError, match=words):
        Recurrent("lstm", 3, 4, clamp=clamp)


def test_a_state_that_is_handed_on_is_not_held_for_it_would_hold_the_old_one_too() -> None:
    with pytest.raises(CellError, match="anchor is handed on as it is, so clamp cannot hold it"):
        layer_of("handed-on", clamp={"anchor": 1})
