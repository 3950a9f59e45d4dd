"""Layer normalisation as a function of cells."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from tests.conformance.networks import CELLS, assert_close, batch_for, gradients
from unrolled.cells import get
from unrolled.errors import CellError, UsageError
from unrolled.language import layer_normalised, parse
from unrolled.layers import Recurrent

LSTM = """
@cell(init={"b.f": 1.0, "p": 1.0})
def layer_normalised_lstm(x, h, c):
    i = sigmoid(p.W_i * layer_norm(W.i @ x) + p.U_i * layer_norm(U.i @ h) + b.i)
    f = sigmoid(p.W_f * layer_norm(W.f @ x) + p.U_f * layer_norm(U.f @ h) + b.f)
    g = tanh(p.W_g * layer_norm(W.g @ x) + p.U_g * layer_norm(U.g @ h) + b.g)
    o = sigmoid(p.W_o * layer_norm(W.o @ x) + p.U_o * layer_norm(U.o @ h) + b.o)
    c = f * c + i * g
    h = o * tanh(p.c * layer_norm(c) + b.c)
    return h, c
"""


def test_of_the_lstm_it_is_the_lstm_with_each_gate_normalised_on_its_own() -> None:
    made, written = layer_normalised(get("lstm")), parse(LSTM)
    assert made.text.splitlines()[3:] == written.text.splitlines()[2:]
    assert made.program.init == {
        "b.f": 1.0, "p.c": 1.0, **{f"p.{family}_{gate}": 1.0 for family in "WU" for gate in "ifgo"}
    }  # fmt: skip


def test_without_the_memory_only_maps_are_normalised() -> None:
    made = layer_normalised(get("lstm"), memory=False)
    assert "h = o * tanh(c)" in made.text
    assert "p.U_i * layer_norm(U.i @ h)" in made.text


def test_a_map_within_the_reset_and_a_map_of_a_map_are_normalised_where_units_are_read() -> None:
    assert "r * (p.U_g * layer_norm(U.g @ h) + b.u)" in layer_normalised(get("gru")).text
    nested = "@cell\ndef m(x, h):\n    h = tanh(W.h @ x + U.a @ (V.b @ h))\n    return h"
    assert "p.U_a * layer_norm(U.a @ (V.b @ h))" in layer_normalised(parse(nested)).text


def test_states_that_are_no_memories_stay_whole() -> None:
    gates = "@cell\ndef m(x, h, i):\n    i = sigmoid(W.i @ x + U.i @ i)\n    h = i * h + W.h @ x\n    return h, i"
    assert "h = i * h + p.W_h * layer_norm(W.h @ x)" in layer_normalised(parse(gates)).text


@pytest.mark.parametrize("name", ["gru", "peephole-lstm", "weird"])
def test_the_cell_prints_parses_and_pickles_and_the_engine_computes_the_reference(name: str) -> None:
    cell = layer_normalised(CELLS[name])
    assert parse(cell.text) == cell
    assert pickle.loads(pickle.dumps(cell)) == cell
    layers = [Recurrent(cell, 3, 6, backend=backend, dtype=torch.float64) for backend in ("llvm", "reference")]
    layers[1].load_state_dict(layers[0].state_dict())
    given = batch_for(layers[0], ragged=True, resets=True)
    (got, found), (expected, wanted) = (gradients(layer, given) for layer in layers)
    assert_close(got, expected)
    assert_close(found, wanted, 1e-8)


def test_a_layer_of_it_is_a_loop_in_plain_torch() -> None:
    layer = Recurrent(layer_normalised(get("gru")), 3, 8, dtype=torch.float64)
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randn_like(value))
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    h, ys = x.new_zeros(2, 8), []

    def normal(symbol: str, value: Tensor) -> Tensor:
        family, gate = symbol.split("_")
        return layer.p[symbol] * layer_norm(value @ layer._modules[family][gate].T, (8,))

    for step in x:
        r, z = (
            torch.sigmoid(normal(f"W_{gate}", step) + normal(f"U_{gate}", h) + layer.b[gate]) for gate in ("r", "z")
        )
        g = torch.tanh(normal("W_g", step) + layer.b.g + r * (normal("U_g", h) + layer.b.u))
        h = (1 - z) * g + z * h
        ys.append(h)
    assert_close([layer(x)[0]], [torch.stack(ys)])


def test_hyperparameters_stay_those_of_the_cell() -> None:
    cell = layer_normalised(CELLS["clockwork"]).configure(periods=(1, 2))
    assert cell.hyperparameters == {"periods": (1, 2)}
    assert "tick((1, 2))" in cell.text


def test_what_cannot_be_normalised_is_refused_in_words() -> None:
    with pytest.raises(CellError, match="cell 'layer_normalised_lstm' has no map that is read unit by unit"):
        layer_normalised(layer_normalised(get("lstm")))
    taken = "@cell\ndef m(x, h):\n    h = tanh(p.W_h * (W.h @ x) + U.h @ h)\n    return h"
    with pytest.raises(CellError, match=r"cell 'm' has a p\.W_h of its own: layer normalisation adds one"):
        layer_normalised(parse(taken))
    with pytest.raises(UsageError, match=r"takes a Cell, such as unrolled\.cells\.get\('lstm'\), not 'lstm'"):
        layer_normalised("lstm")  # type: ignore[arg-type]
