"""What goes into a layer and comes out: packed, batch-first, states in every form; and what is refused, in words."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.conformance.networks import CELLS, assert_close, layer_of
from unrolled.errors import CellError, ShapeError, UnrolledError, UsageError
from unrolled.layers import Bidirectional, Recurrent, Stacked

X = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def leaves(state: Any) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(state)


NETWORKS: dict[str, Any] = {
    "recurrent": lambda **k: layer_of("lstm", **k),
    "reverse": lambda **k: layer_of("lstm", reverse=True, **k),
    "stacked": lambda **k: Stacked(layer_of("lstm"), layer_of("gru", 6, 4), **k),
    "bidirectional": lambda **k: Bidirectional(layer_of("lstm"), layer_of("gru", reverse=True), **k),
}


@pytest.mark.parametrize(("lengths", "enforce_sorted"), [([4, 3, 1], True), ([4, 3, 1], False), ([1, 4, 3], False)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_packed_batch_comes_back_packed_alike(name: str, lengths: list[int], enforce_sorted: bool) -> None:
    network = NETWORKS[name]()
    packed = pack_padded_sequence(X, torch.tensor(lengths), enforce_sorted=enforce_sorted)
    y, state = network(packed)
    expected, expected_state = network(X, lengths=torch.tensor(lengths))
    assert torch.equal(pad_packed_sequence(y)[0], expected)
    assert pad_packed_sequence(y)[1].tolist() == lengths
    assert torch.equal(y.batch_sizes, packed.batch_sizes)
    assert (y.sorted_indices is None) == (packed.sorted_indices is None)
    assert_close(leaves(state), leaves(expected_state), 0.0)
    again, _ = network(packed, state)
    expected_again, _ = network(X, expected_state, torch.tensor(lengths))
    assert torch.equal(pad_packed_sequence(again)[0], expected_again)


def test_a_packed_batch_that_was_packed_batch_first_is_the_same() -> None:
    layer = layer_of("lstm", batch_first=True)
    packed = pack_padded_sequence(X.transpose(0, 1), torch.tensor([2, 4, 1]), batch_first=True, enforce_sorted=False)
    y, _ = layer(packed)
    expected, _ = layer(X.transpose(0, 1), lengths=torch.tensor([2, 4, 1]))
    assert torch.equal(pad_packed_sequence(y, batch_first=True)[0], expected)


def test_a_packed_batch_brings_lengths_of_its_own() -> None:
    packed = pack_padded_sequence(X, torch.tensor([4, 3, 1]))
    with pytest.raises(ShapeError, match="a PackedSequence has lengths of its own; leave out lengths"):
        layer_of("lstm")(packed, lengths=torch.tensor([4, 3, 1]))
    with pytest.raises(ShapeError, match=r"resets is \(4, 2\); expected \(time, batch\), here \(4, 3\)"):
        layer_of("lstm")(packed, resets=torch.zeros(4, 2, dtype=torch.bool))


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_first_turns_the_edges_only(name: str) -> None:
    inside = NETWORKS[name]()
    turned = NETWORKS[name](batch_first=True)
    turned.load_state_dict(inside.state_dict())
    lengths, resets = torch.tensor([4, 0, 2]), torch.rand(4, 3) < 0.4
    expected, expected_state = inside(X, None, lengths, resets)
    y, state = turned(X.transpose(0, 1), None, lengths, resets.T)
    assert y.shape == (3, 4, inside.output_size)
    assert_close([y.transpose(0, 1), *leaves(state)], [expected, *leaves(expected_state)], 1e-12)


def test_batch_first_turns_taps_and_further_inputs_too() -> None:
    inside, turned = layer_of("irregular"), layer_of("irregular", batch_first=True)
    turned.load_state_dict(inside.state_dict())
    dt = torch.rand(4, 3, dtype=torch.float64)
    expected, _, taps = inside(X, taps=("h",), dt=dt)
    y, _, turned_taps = turned(X.transpose(0, 1), taps=("h",), dt=dt.T)
    assert_close([y.transpose(0, 1)], [expected], 1e-12)
    assert_close([turned_taps["h"].transpose(0, 1)], [taps["h"]], 1e-12)
    column, _ = inside(X, dt=dt[..., None])
    assert torch.equal(column, expected)


def test_the_state_is_a_named_tuple_and_any_tuple_is_taken() -> None:
    layer = layer_of("lstm")
    _, state = layer(X)
    assert type(state)._fields == ("h", "c")
    assert state.h is state[0]
    assert state.c is state[1]
    expected, _ = layer(X, state)
    for form in (tuple(state), list(state)):
        assert torch.equal(layer(X, form)[0], expected)
    one = layer_of("gru")
    _, state = one(X)
    assert torch.equal(one(X, state.h)[0], one(X, state)[0])
    assert torch.equal(one(X, (state.h,))[0], one(X, state)[0])


@pytest.mark.parametrize("name", CELLS)
def test_no_state_is_the_initial_state(name: str) -> None:
    layer = layer_of(name, learn_initial=True)
    x, batch = torch.randn(3, 2, 3, dtype=torch.float64), 2
    more = {
        key: torch.rand(3, batch, layer.sizes[shape[0]] if shape else 1, dtype=torch.float64)
        for key, shape in layer.cell.program.inputs[1:]
    }
    initial = layer.initial_state(batch)
    assert type(initial)._fields[: len(layer.cell.program.states)] == tuple(n for n, _ in layer.cell.program.states)
    y, _ = layer(x, **more)
    given, _ = layer(x, initial, **more)
    assert torch.equal(y, given)


def test_a_state_pickles_with_its_names() -> None:
    _, state = layer_of("clockwork")(X)
    again = pickle.loads(pickle.dumps(type(state)(*(value.detach() for value in state))))
    assert type(again)._fields == ("h", "clock")
    assert int(again.clock) == 4
    assert torch.equal(again.h, state.h)


def test_final_states_are_in_the_callers_order() -> None:
    layer = layer_of("gru")
    lengths = torch.tensor([2, 4, 1])
    y, state = layer(X, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(state.h[row], y[length - 1, row])


LONG = torch.zeros(3, 7, dtype=torch.float64)
GOOD = torch.zeros(3, 6, dtype=torch.float64)
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "two-axes": ({"x": X[0]}, ShapeError, "x has 2 axes; expected 3, time, batch and input"),
    "four-axes": ({"x": X[None]}, ShapeError, "x has 4 axes; expected 3"),
    "width": ({"x": X[..., :2]}, ShapeError, "x has 2 on its last axis; input_size is 3"),
    "type": ({"x": X.float()}, ShapeError, r"x is torch.float32, the layer is torch.float64; convert .* with .to\("),
    "whole-vectors": ({"x": X.long()}, ShapeError, "x of whole numbers stands for one-hot vectors: expected 2 axes"),
    "one-state": ({"state": GOOD}, ShapeError, "the state has 1 tensors; cell 'lstm' has the states h, c"),
    "three-states": ({"state": (GOOD,) * 3}, ShapeError, "the state has 3 tensors; cell 'lstm' has the states h, c"),
    "state-width": ({"state": (GOOD, LONG)}, ShapeError, r"state c is \(3, 7\); expected \(batch, hidden\), here"),
    "state-axes": ({"state": (GOOD[None], GOOD)}, ShapeError, r"state h is \(1, 3, 6\); expected"),
    "state-names": ({"state": {"h": GOOD, "c": GOOD}}, ShapeError, "state h is of type str; expected a tensor"),
    "lengths-range": ({"lengths": torch.tensor([5, 1, 1])}, ShapeError, "lengths run from 1 to 5; .* have 4 steps"),
    "lengths-float": ({"lengths": torch.ones(3)}, ShapeError, "whole numbers, not torch.float32"),
    "lengths-batch": ({"lengths": torch.tensor([1, 2])}, ShapeError, r"lengths is \(2,\); expected \(batch,\)"),
    "resets": ({"resets": torch.zeros(3, 4)}, ShapeError, r"resets is \(3, 4\); expected \(time, batch\), here \(4, 3"),
    "unknown-input": ({"dt": X}, ShapeError, "cell 'lstm' has no input 'dt'"),
    "misspelt-argument": ({"length": [4, 3, 1]}, ShapeError, r"has no input 'length'\. Did you mean lengths\?"),
    "numpy-x": ({"x": X.numpy()}, ShapeError, r"x is a numpy array; give a tensor: torch\.from_numpy\("),
    "nested-x": ({"x": X.tolist()}, ShapeError, r"x is a list; give a tensor: torch\.tensor\("),
    "tensors-x": ({"x": list(X)}, ShapeError, r"or torch\.nn\.utils\.rnn\.pad_sequence\(…\) where it holds tensors"),
    "pair-x": ({"x": (X, None)}, ShapeError, "x is a tuple; a layer returns y and its state: give y alone, or join"),
    "text-x": ({"x": "text"}, ShapeError, "x is of type str; expected a tensor"),
    "numpy-state": ({"state": (GOOD, GOOD.numpy())}, ShapeError, "state c is a numpy array; give a tensor"),
    "number-state": ({"state": (GOOD, 0.0)}, ShapeError, "state c is of type float; expected a tensor"),
    "numpy-resets": ({"resets": X[..., 0].numpy()}, ShapeError, "resets is a numpy array; give a tensor"),
    "unknown-tap": ({"taps": ("q",)}, CellError, "cell 'lstm' has no value named 'q'. There is: c, f, g, h, i, o"),
}


@pytest.mark.parametrize("lengths", [torch.tensor([4, 3, 1]), [4, 3, 1], (4, 3, 1)], ids=["tensor", "list", "tuple"])
@pytest.mark.parametrize("name", NETWORKS)
def test_lengths_in_the_place_of_the_state_are_refused(name: str, lengths: Any) -> None:
    with pytest.raises(ShapeError, match=r"second argument is the state; .* by name: layer\(x, lengths=lengths\)"):
        NETWORKS[name]()(X, lengths)


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_in_words(what: str) -> None:
    given, kind, words = REFUSED[what]
    x = given.get("x", X)
    with pytest.raises(kind, match=words) as caught:
        layer_of("lstm")(x, **{key: value for key, value in given.items() if key != "x"})
    assert isinstance(caught.value, UnrolledError)


def test_further_inputs_that_do_not_fit_are_refused_in_words() -> None:
    layer = layer_of("irregular")
    with pytest.raises(ShapeError, match="cell 'irregular' reads a further input: dt=… is missing"):
        layer(X)
    with pytest.raises(ShapeError, match=r"has no input 'dtt'. Did you mean dt"):
        layer(X, dt=X[..., 0], dtt=X)
    with pytest.raises(ShapeError, match=r"dt is \(3, 3, 1\); expected \(time, batch, axis\), here \(4, 3, 1\)"):
        layer(X, dt=X[:3, :, 0])
    with pytest.raises(ShapeError, match=r"dt is a numpy array; give a tensor: torch\.from_numpy"):
        layer(X, dt=X[..., 0].numpy())
    with pytest.raises(ShapeError, match=r"dt is torch.float32, the layer is torch.float64"):
        layer(X, dt=X[..., 0].float())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_size": 0}, "input_size is a whole number above 0, not 0"),
        ({"hidden_size": -1}, "hidden_size is a whole number above 0, not -1"),
        ({"hidden_size": 2.0}, r"hidden_size is a whole number above 0, not 2\.0"),
        ({"recurrent_dropout": 1.0}, r"recurrent_dropout is a share from 0 to below 1, not 1\.0"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout is a share"),
        ({"cell": "lstn"}, "there is no cell 'lstn'. Did you mean lstm"),
        ({"cell": lambda x, h: h}, "the function <lambda> is no cell yet: decorate it with @cell"),
        ({"cell": torch.nn.LSTM}, r"give a cell's name, such as 'lstm', or use unrolled\.nn\.LSTM"),
        ({"num_layers": 2}, r"Recurrent takes no num_layers: stack layers, Stacked\(.*deep\("),
        ({"bidirectional": True}, r"Recurrent takes no bidirectional: join two layers, Bidirectional\("),
        ({"dropout": 0.1}, "Recurrent takes no dropout: put it between layers, .* or give recurrent_dropout"),
        ({"return_sequences": True}, "Recurrent takes no return_sequences: y always has every step"),
        ({"batch_size": 8}, "Recurrent takes no batch_size: leave it out"),
        ({"batchfirst": True}, "Recurrent has no option 'batchfirst', .* Did you mean batch_first"),
        ({"init": {"U.q": 0.0}}, "init names 'U.q', which is no symbol of the cell"),
        ({"init": {"W": "gloro"}}, "there is no initialiser 'gloro'. Did you mean glorot"),
    ],
    ids=lambda given: re.sub(" at 0x[0-9a-f]+", "", str(given)),
)
def test_options_that_do_not_fit_are_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Recurrent(**{"cell": "lstm", "input_size": 3, "hidden_size": 4, **options})


def test_a_hyperparameter_may_be_called_like_an_option_of_another_library() -> None:
    text = "@cell\ndef own(x, h, *, dropout=0.5):\n    h = tanh(W.h @ x + dropout * h)\n    return h\n"
    assert Recurrent(text, 3, 4, dropout=0.25).cell.hyperparameters["dropout"] == 0.25
    with pytest.raises(UsageError, match=r"and cell 'own' no such hyperparameter\. Did you mean dropout"):
        Recurrent(text, 3, 4, droput=0.25)


def test_sizes_that_a_structure_does_not_allow_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"cell 'clockwork'.*3 modules do not divide 7 units"):
        Recurrent(CELLS["clockwork"], 3, 7)


def test_a_backend_that_there_is_not_is_refused_when_it_runs() -> None:
    with pytest.raises(UsageError, match=r"there is no backend 'referenc'. Did you mean reference"):
        layer_of("lstm", backend="referenc")(X)


def test_a_cell_without_parameters_has_a_type_of_its_own() -> None:
    layer = Recurrent(CELLS["average"], 3, 6, keep=0.5)
    assert not list(layer.parameters())
    assert not layer.state_dict()
    y, state = layer(torch.ones(2, 1, 3))
    assert torch.equal(y, torch.tensor([0.5, 0.75])[:, None, None].expand(2, 1, 3))
    assert state.h.dtype == torch.float32
    assert layer.double()(X)[0].dtype == torch.float64
