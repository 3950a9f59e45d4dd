"""Chrono initialisation: which biases are drawn, and from what."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unrolled.cells import get
from unrolled.errors import CellError, UsageError
from unrolled.ir.gates import memories
from unrolled.language import parse
from unrolled.layers import Recurrent

# The gate whose bias is drawn, whether it keeps the state when open, and the gate of what enters.
GATES = {
    "lstm": ("c", "f", True, ("i",)),
    "peephole-lstm": ("c", "f", True, ("i",)),
    "gru": ("h", "z", True, ()),
    "gru-cho": ("h", "z", True, ()),
    "simple-gru": ("h", "z", False, ()),
    "mgu": ("h", "f", False, ()),
}
COUPLED = """
@cell
def cifg(x, h, c):
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = 1 - i
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c
"""


def drawn(bias: Tensor) -> Tensor:
    """The numbers of steps that a bias is the logarithm of."""
    return bias.detach().exp()


@pytest.mark.parametrize("name", GATES)
def test_the_gates_of_the_literature_are_read_from_the_equations(name: str) -> None:
    (memory,) = memories(Recurrent(name, 3, 4).cell.program)
    assert memory == GATES[name]


def test_coupled_gates_share_their_bias_and_a_step_towards_the_candidate_is_a_gate_too() -> None:
    assert memories(parse(COUPLED).program) == (("c", "i", False, ()),)
    assert memories(get("mut1").program) == (("h", "z", False, ()),)
    towards = "@cell\ndef m(x, h):\n    z = sigmoid(W.z @ x + b.z)\n    h = h + z * (tanh(W.h @ x) - h)\n    return h"
    assert memories(parse(towards).program) == (("h", "z", False, ()),)


@pytest.mark.parametrize("name", ["lstm", "peephole-lstm"])
def test_forget_biases_are_logarithms_of_steps_and_input_biases_their_negatives(name: str) -> None:
    layer = Recurrent(name, 3, 5000, chrono=100, init={"W": 0.0, "U": 0.0})
    steps = drawn(layer.b.f)
    assert float(steps.min()) >= 1
    assert float(steps.max()) <= 99 * (1 + 1e-5)
    assert abs(float(steps.mean()) - 50) < 2
    assert abs(float(steps.std()) - 98 / math.sqrt(12)) < 2
    assert torch.equal(layer.b.i, -layer.b.f)
    assert not layer.b.o.any()
    assert not layer.b.g.any()


@pytest.mark.parametrize(
    ("name", "gate", "sign"), [("gru", "z", 1), ("gru-cho", "z", 1), ("simple-gru", "z", -1), ("mgu", "f", -1)]
)
def test_a_gate_that_lets_the_new_in_is_shut_where_one_that_keeps_is_open(name: str, gate: str, sign: int) -> None:
    bias = sign * Recurrent(name, 3, 400, chrono=1000).b[gate].detach()
    assert float(bias.min()) >= 0
    assert float(bias.max()) > math.log(900)


def test_units_without_inputs_keep_their_memory_as_long_as_was_drawn() -> None:
    options = {"init": {"W": 0.0, "U": 0.0}, "dtype": torch.float64, "backend": "reference"}
    layer = Recurrent("lstm", 1, 50, chrono=20, **options)
    start = torch.ones(1, 50, dtype=torch.float64)
    _, state = layer(torch.zeros(10, 1, 1, dtype=torch.float64), (torch.zeros_like(start), start))
    steps = drawn(layer.b.f)
    assert torch.allclose(state.c, (steps / (1 + steps)) ** 10)


def test_biases_are_drawn_again_on_reset_and_with_the_seed() -> None:
    torch.manual_seed(5)
    layer = Recurrent("lstm", 3, 4, chrono=50)
    first = layer.b.f.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.b.f, first)
    assert torch.equal(layer.b.i, -layer.b.f)
    torch.manual_seed(5)
    assert torch.equal(Recurrent("lstm", 3, 4, chrono=50).b.f, first)


def test_cells_without_such_a_gate_are_refused_in_words() -> None:
    for name in ("elman", "elman-relu"):
        with pytest.raises(CellError, match=f"cell '{name.replace('-', '_')}' has no gate that keeps a state"):
            Recurrent(name, 3, 4, chrono=10)
    kept = "@cell\ndef m(x, h, c):\n    i = sigmoid(W.i @ x + b.i)\n    c = c + i * h\n    h = tanh(c)\n    return h, c"
    with pytest.raises(CellError, match="has no gate that keeps a state"):
        Recurrent(parse(kept), 3, 4, chrono=10)
    with pytest.raises(CellError, match="cell 'qrnn': gate f has 0 biases, not one"):
        Recurrent("qrnn", 3, 4, chrono=10)
    unnamed = "@cell\ndef m(x, h):\n    h = sigmoid(W.f @ x) * h + W.g @ x\n    return h"
    with pytest.raises(CellError, match="cell 'm': a gate has 0 biases, not one"):
        Recurrent(parse(unnamed), 3, 4, chrono=10)
    with pytest.raises(UsageError, match="chrono draws the biases of gates, and bias=False leaves them out"):
        Recurrent("lstm", 3, 4, chrono=10, bias=False)
    for wrong in (2, 0, float("nan")):
        with pytest.raises(UsageError, match="chrono is the longest dependence in steps, more than 2, not"):
            Recurrent("lstm", 3, 4, chrono=wrong)
    for key in ("b.f", "b"):
        with pytest.raises(UsageError, match=rf"init names '{key}', and chrono draws b\.f: give one of them"):
            Recurrent("lstm", 3, 4, chrono=10, init={key: 0.0})
