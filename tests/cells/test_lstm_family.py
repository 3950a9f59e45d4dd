"""Jordan's network and the LSTM's variants, each held against its paper's equations and against the cell it varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.ir.numeric import evaluate, leaf_key, random_leaves, results_of, sizes_of
from unrolled.cells import get
from unrolled.ir.gradient import gradient

GREFF = ("lstm-nig", "lstm-nfg", "lstm-nog", "lstm-niaf", "lstm-noaf", "cifg", "lstm-np", "lstm-fgr")
JOZEFOWICZ = ("lstm-f", "lstm-i", "lstm-o")
NORMALISED = ("layer-norm-lstm", "layer-norm-lstm-per-gate")
OPEN = np.full(6, 1e3)  # a bias at which a gate is exactly 1
Leaves = Mapping[str, Any]


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _net(leaves: Leaves, gate: str) -> Any:
    return leaves[f"W.{gate}"] @ leaves["sequence x"] + leaves[f"U.{gate}"] @ leaves["state h"] + leaves[f"b.{gate}"]


def _value(name: str, leaves: Leaves, value: str) -> Any:
    program = get(name).program
    node = program.tap(value)
    return evaluate([node], leaves, sizes_of(program))[node]


def _assert_states(name: str, leaves: Leaves, expected: Any) -> None:
    for got, value in zip(results_of(get(name).program, leaves), expected, strict=False):
        np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-14)


def _by_the_paper(name: str, leaves: Leaves) -> tuple[Any, Any]:
    """The equations of Greff 2015, which without peepholes are those of Jozefowicz 2015."""
    c = leaves["state c"]

    def gate(letter: str, memory: Any) -> Any:
        if f"W.{letter}" not in leaves:
            return 1.0
        before = sum(leaves[f"U.r{other}{letter}"] @ leaves[f"state {other}"] for other in "ifo" if name == "lstm-fgr")
        return _sigmoid(_net(leaves, letter) + leaves.get(f"p.{letter}", 0.0) * memory + before)

    z = _net(leaves, "g") if name == "lstm-niaf" else np.tanh(_net(leaves, "g"))
    i = gate("i", c)
    f = 1 - i if name == "cifg" else gate("f", c)
    c = z * i + c * f
    return (c if name == "lstm-noaf" else np.tanh(c)) * gate("o", c), c


@pytest.mark.parametrize("name", [*GREFF, *JOZEFOWICZ])
def test_a_variant_is_the_equations_of_its_paper(name):
    leaves = random_leaves(get(name).program)
    _assert_states(name, leaves, _by_the_paper(name, leaves))


@pytest.mark.parametrize(
    ("name", "base", "gate"),
    [
        *(("lstm-nig", "peephole-lstm", "i"), ("lstm-nfg", "peephole-lstm", "f"), ("lstm-nog", "peephole-lstm", "o")),
        *(("lstm-i", "lstm", "i"), ("lstm-f", "lstm", "f"), ("lstm-o", "lstm", "o")),
    ],
)
def test_without_a_gate_is_with_the_gate_held_at_one(name, base, gate):
    leaves = random_leaves(get(base).program)
    assert not any(node.symbol.endswith(f".{gate}") for node in get(name).program.parameters)
    _assert_states(name, leaves, results_of(get(base).program, leaves | {f"b.{gate}": OPEN}))


def test_coupled_gates_add_up_to_one_and_are_the_peephole_lstm_with_opposite_gates():
    leaves = random_leaves(get("cifg").program)
    assert np.all(_value("cifg", leaves, "i") + _value("cifg", leaves, "f") == 1.0)
    opposite = {f"{family}.f": -leaves[f"{family}.i"] for family in "WUbp"}
    _assert_states("cifg", leaves, results_of(get("peephole-lstm").program, leaves | opposite))


def test_no_peepholes_is_the_lstm():
    ours, plain = get("lstm-np").program, get("lstm").program
    assert replace(ours, name=plain.name, source=plain.source, doc=plain.doc) == plain


def test_full_gate_recurrence_with_its_nine_maps_at_zero_is_the_peephole_lstm():
    leaves = random_leaves(get("lstm-fgr").program)
    maps = [key for key in leaves if key.startswith("U.r")]
    assert len(maps) == 9
    h, c, *gates = results_of(get("lstm-fgr").program, leaves | {key: np.zeros((6, 6)) for key in maps})
    _assert_states("peephole-lstm", leaves, (h, c))
    for letter, gate in zip("ifo", gates, strict=True):
        np.testing.assert_allclose(gate, _value("peephole-lstm", leaves, letter), rtol=1e-12)


def test_the_lstm_of_1997_is_the_equations_of_the_paper():
    leaves = random_leaves(get("lstm-1997").program)
    g = 4 / (1 + np.exp(-_net(leaves, "g"))) - 2
    c = leaves["state c"] + _sigmoid(_net(leaves, "i")) * g
    _assert_states("lstm-1997", leaves, (_sigmoid(_net(leaves, "o")) * (2 / (1 + np.exp(-c)) - 1), c))


@pytest.mark.parametrize("name", ["lstm-1997", "lstm-f"])
def test_without_a_forget_gate_error_rides_the_memory_unchanged(name):
    program = get(name).program
    made = gradient(program)
    leaves = random_leaves(program)
    error = np.random.default_rng(1).standard_normal(6)
    given = leaves | {"sequence d_h": np.zeros(6), "sequence d_c": error}
    (before,) = [node for node in made.cotangents if leaf_key(node) == "state c"]
    assert np.array_equal(evaluate([made.cotangents[before]], given)[made.cotangents[before]], error)


@pytest.mark.parametrize("name", ["lstm-nig", "lstm-nog", "lstm-niaf", "lstm-noaf", "lstm-fgr", "lstm-i", "lstm-o"])
def test_the_forget_gate_begins_open(name):
    assert get(name).program.init["b.f"] == 1.0


def test_coupled_gates_begin_with_the_forget_gate_open():
    assert get("cifg").program.init == {"b.i": -1.0}


@pytest.mark.parametrize("decay", [0.5, 0.0])
def test_jordan_s_network_reads_a_fading_sum_of_its_outputs(decay):
    leaves = random_leaves(get("jordan").program) | {"scalar decay": decay}
    c = decay * leaves["state c"] + leaves["state y"]
    h = np.tanh(leaves["W.h"] @ leaves["sequence x"] + leaves["U.h"] @ c + leaves["b.h"])
    _assert_states("jordan", leaves, (_sigmoid(leaves["U.y"] @ h + leaves["b.y"]), c))


@pytest.mark.parametrize("name", NORMALISED)
def test_the_normalised_lstm_is_torch_s_layer_norm_of_the_joined_gates_or_of_each(name):
    leaves = {key: torch.as_tensor(value) for key, value in random_leaves(get(name).program).items()}

    def joined(family: str, operand: str) -> torch.Tensor:
        return torch.cat([leaves[f"{family}.{gate}"] @ leaves[operand] for gate in "ifgo"])

    def gains(prefix: str) -> torch.Tensor:
        return torch.cat([leaves[f"p.{prefix}{gate}"] for gate in "ifgo"])

    from_x, from_h = joined("W", "sequence x"), joined("U", "state h")
    biases = torch.cat([leaves[f"b.{gate}"] for gate in "ifgo"])
    if name == "layer-norm-lstm":
        net = functional.layer_norm(from_x, (24,), gains("w"), biases)
        net = net + functional.layer_norm(from_h, (24,), gains("u"))
    else:
        net = functional.layer_norm((from_x + from_h).view(4, 6), (6,)).view(24) * gains("") + biases
    i, f, g, o = net.chunk(4)
    c = f.sigmoid() * leaves["state c"] + i.sigmoid() * g.tanh()
    h = o.sigmoid() * functional.layer_norm(c, (6,), leaves["p.c"], leaves["b.c"]).tanh()
    _assert_states(name, {key: value.numpy() for key, value in leaves.items()}, (h.numpy(), c.numpy()))


def _change(name: str, *scaled: str) -> float:
    """How far a state moves when these maps are five times as large."""
    program = get(name).program
    leaves = random_leaves(program)
    moved = results_of(program, leaves | {symbol: 5 * leaves[symbol] for symbol in scaled})
    return max(float(np.abs(a - b).max()) for a, b in zip(moved, results_of(program, leaves), strict=True))


def test_joined_gates_do_not_feel_the_size_of_all_their_maps_but_that_of_one_gate_s():
    assert _change("layer-norm-lstm", "U.i", "U.f", "U.g", "U.o") < 1e-4
    assert _change("layer-norm-lstm", "W.i", "W.f", "W.g", "W.o") < 1e-4
    assert _change("layer-norm-lstm", "W.i", "U.i") > 1e-2


def test_gates_normalised_each_by_itself_do_not_feel_the_size_of_one_gate_s_maps():
    assert _change("layer-norm-lstm-per-gate", "W.i", "U.i") < 1e-4
    assert _change("layer-norm-lstm-per-gate", "U.i", "U.f", "U.g", "U.o") > 1e-2


@pytest.mark.parametrize("name", NORMALISED)
def test_gains_begin_at_one(name):
    assert get(name).program.init["p"] == 1.0
