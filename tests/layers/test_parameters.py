"""How parameters are stored, reached by name and drawn."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from torch.nn.utils import parametrizations, prune

from tests.conformance.networks import CELLS, NAMES, assert_close, batch_for, layer_of, run
from unrolled.errors import UsageError
from unrolled.language import parse, signature
from unrolled.layers import Recurrent
from unrolled.layers.initialise import INITIALISERS

KEYS = {
    "elman": ["W.h", "U.h", "b.h"],
    "lstm": ["W.i_f_g_o", "U.i_f_g_o", "b.i_f_g_o"],
    "gru": ["W.r_z_g", "U.r_z_g", "b.r_z_g_u"],
    "gru-cho": ["W.r_z_g", "U.r_z", "U.g", "b.r_z_g"],
    "mgu": ["W.f_g", "U.f", "U.g", "b.f_g"],
    "peephole-lstm": ["W.i_f_g_o", "U.i_f_g_o", "p.i_f_o", "b.i_f_g_o"],
}


@pytest.mark.parametrize("name", KEYS)
def test_the_keys_of_a_state_dict_are_the_symbols_that_are_stacked(name: str) -> None:
    layer = Recurrent(name, 3, 4)
    assert sorted(layer.state_dict()) == sorted(KEYS[name])


def test_symbols_are_views_of_stacked_rows_to_read_and_to_write() -> None:
    layer = layer_of("lstm")
    stored = layer.W.i_f_g_o
    assert torch.equal(torch.cat([layer.W[gate] for gate in "ifgo"]), stored)
    assert layer.W.f.untyped_storage().data_ptr() == stored.untyped_storage().data_ptr()
    assert torch.equal(layer.U["f"], layer.U.f)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    before, _ = layer(x)
    with torch.no_grad():
        layer.W.f.fill_(0.5)
        layer.b.f.fill_(9.0)
    assert bool((stored[6:12] == 0.5).all())
    assert not bool((stored[:6] == 0.5).any())
    assert not torch.allclose(layer(x)[0], before)


def test_a_symbol_that_there_is_not_suggests_one_that_there_is() -> None:
    layer = Recurrent(CELLS["mut1"], 3, 4)
    with pytest.raises(UsageError, match=r"there is no symbol 'rr'. Did you mean r"):
        layer.U["rr"]
    with pytest.raises(AttributeError, match="q"):
        _ = layer.U.q


@pytest.mark.parametrize("name", ["type", "forward", "training", "place", "stored", "parameters", "T_destination"])
def test_a_symbol_may_have_a_name_that_a_module_uses_for_itself(name: str) -> None:
    text = f"@cell\ndef own(x, h):\n    h = tanh(W.{name} @ x + U.{name} @ h + b.{name})\n    return h\n"
    layer = Recurrent(parse(text), 3, 4)
    assert sorted(layer.state_dict()) == [f"U.{name}_", f"W.{name}_", f"b.{name}_"]
    assert layer.U[name].shape == (4, 4)
    y, _ = layer(torch.randn(2, 1, 3))
    y.sum().backward()
    assert layer.U[name].grad is not None


def test_a_symbol_may_be_named_like_a_stack_of_two() -> None:
    text = """
@cell
def own(x, h):
    r = sigmoid(U.a @ h + U.b @ h + W.r @ x)
    h = tanh(U.a_b @ (r * h))
    return h
"""
    layer = Recurrent(parse(text), 3, 4)
    assert sorted(layer.state_dict()) == ["U.a_b", "U.a_b_", "W.r"]
    assert [layer.U[key].shape for key in ("a", "b", "a_b")] == [(4, 4)] * 3
    with torch.no_grad():
        layer.U["a_b"].zero_()
    assert not layer(torch.randn(2, 1, 3))[0].any()
    assert layer.U.a.any()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_do_not_depend_on_time(name: str) -> None:
    layer = layer_of(name)
    before = {key: value.shape for key, value in layer.named_parameters()}
    for time in (1, 6):
        run(layer, batch_for(layer, time))
    assert {key: value.shape for key, value in layer.named_parameters()} == before


@pytest.mark.parametrize("again", ["deepcopy", "pickle", "torch.save", "state-dict"])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_computes_the_same_and_is_apart(name: str, again: str) -> None:
    layer = layer_of(name, learn_initial=True)
    given = batch_for(layer, taps=True)
    expected = run(layer, given)
    if again == "deepcopy":
        other = copy.deepcopy(layer)
    elif again == "pickle":
        other = pickle.loads(pickle.dumps(layer))
    elif again == "torch.save":
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        other = torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    else:
        other = layer_of(name, learn_initial=True)
        buffer = io.BytesIO()
        torch.save(layer.state_dict(), buffer)
        other.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    with torch.no_grad():
        for value in layer.parameters():
            value.zero_()
    assert_close(run(other, given), expected, 0.0)
    assert repr(other) == repr(layer)


def test_a_layer_says_its_options_where_they_are_not_the_usual_ones() -> None:
    assert Recurrent("lstm", 3, 4).extra_repr() == "lstm, 3 -> 4"
    layer = Recurrent("lstm", 3, 4, bias=False, reverse=True, zoneout=0.1, clamp={"f": 1})
    assert layer.extra_repr() == "lstm, 3 -> 4, bias=False, reverse=True, zoneout={'h': 0.1, 'c': 0.1}, clamp={'f': 1}"


def test_a_parametrised_and_a_pruned_map_are_what_runs() -> None:
    x = torch.randn(3, 2, 3)
    layer, plain = Recurrent("elman", 3, 4), Recurrent("elman", 3, 4)
    layer.load_state_dict(plain.state_dict())
    prune.l1_unstructured(layer.U, "h", 0.5)
    with torch.no_grad():
        plain.U["h"].copy_(layer.U["h"])
    assert int((layer.U["h"] == 0).sum()) == 8
    assert torch.equal(layer(x)[0], plain(x)[0])
    parametrizations.orthogonal(plain.U, "h")
    y, _ = plain(x)
    torch.testing.assert_close(plain.U["h"] @ plain.U["h"].T, torch.eye(4))
    y.sum().backward()
    assert plain.U.parametrizations.h.original.grad is not None


def test_the_language_knows_every_initialiser_by_name() -> None:
    assert tuple(INITIALISERS) == signature.INITIALISERS


def test_maps_are_drawn_by_name() -> None:
    for name in INITIALISERS:
        torch.manual_seed(0)
        layer = Recurrent("elman", 40, 30, init={"W": name, "U": name})
        w, u = layer.W["h"].detach(), layer.U["h"].detach()
        if name == "glorot":
            for value in (w, u):
                bound = math.sqrt(6 / sum(value.shape))
                assert bound * 0.95 < float(value.abs().max()) <= bound
        elif name == "orthogonal":
            torch.testing.assert_close(w @ w.T, torch.eye(30), atol=1e-5, rtol=0)
            torch.testing.assert_close(u @ u.T, torch.eye(30), atol=1e-5, rtol=0)
        elif name == "identity":
            assert torch.equal(u, torch.eye(30))
            assert torch.equal(w, torch.eye(30, 40))
        elif name == "uniform":
            assert 0.95 / math.sqrt(40) < float(w.abs().max()) <= 1 / math.sqrt(40)
        elif name == "normal":
            assert 0.9 < float(w.std()) < 1.1
            assert abs(float(w.mean())) < 0.1
        else:
            assert bool((w == (name == "ones")).all())


def test_each_gate_is_drawn_as_a_map_of_its_own() -> None:
    layer = Recurrent("lstm", 5, 16)
    for gate in "ifgo":
        torch.testing.assert_close(layer.U[gate] @ layer.U[gate].T, torch.eye(16), atol=1e-5, rtol=0)
        assert float(layer.W[gate].detach().abs().max()) <= math.sqrt(6 / 21)


def test_the_layers_word_goes_before_the_cells_and_a_symbols_before_its_familys() -> None:
    assert bool((Recurrent("lstm", 3, 4).b.f == 1).all())
    assert not Recurrent("lstm", 3, 4).b.i.any()
    assert torch.equal(Recurrent("elman-relu", 3, 4).U["h"], torch.eye(4))
    layer = Recurrent("lstm", 3, 4, init={"b.f": 2.0, "b": 0.5, "U.g": "zeros"})
    assert bool((layer.b.f == 2).all())
    assert bool((layer.b.o == 0.5).all())
    assert not layer.U.g.any()
    assert layer.U.i.any()


def test_one_seed_gives_one_set_of_weights() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(torch.cat([value.flatten() for value in Recurrent(CELLS["mut1"], 3, 4).parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_layer_of_any_floating_type_is_built_and_trains(dtype: torch.dtype) -> None:
    layer = Recurrent("lstm", 3, 4, dtype=dtype)
    x = torch.randn(3, 2, 3, dtype=dtype)
    y, state = layer(x)
    assert y.dtype == state.c.dtype == dtype
    y.sum().backward()
    assert all(value.grad is not None and value.grad.dtype == dtype for value in layer.parameters())


STRUCTURED: dict[str, Any] = {
    "diagonal()": (6,),
    "block_diagonal(2)": (2, 3, 3),
    "block_triangular((1, 2))": (27,),
    "antisymmetric()": (15,),
    "low_rank(2)": (12, 2),
}


@pytest.mark.parametrize("structure", STRUCTURED)
def test_a_structured_map_stores_its_free_entries_and_is_drawn(structure: str) -> None:
    text = f'@cell(structure={{"U.h": {structure}}})\ndef own(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h\n'
    layer = Recurrent(parse(text), 3, 6)
    assert layer.U["h"].shape == STRUCTURED[structure]
    assert layer.U["h"].any()
    assert bool(torch.isfinite(layer.U["h"]).all())


def test_the_initial_state_is_learned_from_what_the_cell_declares() -> None:
    layer = Recurrent(CELLS["weird"], 3, 6, learn_initial=True)
    assert layer.initial is not None
    assert bool((layer.initial["n"] == 1).all())
    assert not layer.initial["h"].any()
    below, dt = torch.randn(4, 2, 6), torch.rand(4, 2)
    layer(torch.randn(4, 2, 3), below=below, dt=dt)[0].sum().backward()
    assert layer.initial["n"].grad is not None
    assert layer.initial["n"].grad.any()
