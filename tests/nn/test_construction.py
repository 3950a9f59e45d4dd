from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import unrolled.nn as nn
from tests.nn.torch_pairs import CELLS, HIDDEN, INPUT, NETWORKS

SHAPES = [
    {"num_layers": layers, "bidirectional": bidirectional, "bias": bias}
    for layers in (1, 3)
    for bidirectional in (False, True)
    for bias in (True, False)
]


@pytest.mark.parametrize("options", SHAPES, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_seed_draws_the_same_weights_as_torch(kind: str, options: dict[str, Any]) -> None:
    name, keywords = NETWORKS[kind]
    torch.manual_seed(11)
    theirs = getattr(torch.nn, name)(INPUT, HIDDEN, **keywords, **options)
    after = torch.rand(3)
    torch.manual_seed(11)
    ours = getattr(nn, name)(INPUT, HIDDEN, **keywords, **options)
    assert torch.equal(torch.rand(3), after)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, expected)
    torch.manual_seed(12)
    theirs.reset_parameters()
    torch.manual_seed(12)
    ours.reset_parameters()
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("kind", CELLS)
def test_the_same_seed_draws_the_same_weights_for_a_cell(kind: str, bias: bool) -> None:
    name, keywords = CELLS[kind]
    torch.manual_seed(11)
    theirs = getattr(torch.nn, name)(INPUT, HIDDEN, bias, **keywords)
    torch.manual_seed(11)
    ours = getattr(nn, name)(INPUT, HIDDEN, bias, **keywords)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, expected)
    assert (ours.bias_ih is None) == (theirs.bias_ih is None)


@pytest.mark.parametrize("options", SHAPES, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_state_dict_goes_both_ways(kind: str, options: dict[str, Any]) -> None:
    name, keywords = NETWORKS[kind]
    theirs = getattr(torch.nn, name)(INPUT, HIDDEN, **keywords, **options)
    ours = getattr(nn, name)(INPUT, HIDDEN, **keywords, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    other = getattr(torch.nn, name)(INPUT, HIDDEN, **keywords, **options)
    other.load_state_dict(ours.state_dict(), strict=True)
    for name, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("RNN", "input_size hidden_size num_layers nonlinearity bias batch_first dropout bidirectional device dtype"),
        ("LSTM", "input_size hidden_size num_layers bias batch_first dropout bidirectional proj_size device dtype"),
        ("GRU", "input_size hidden_size num_layers bias batch_first dropout bidirectional device dtype"),
        ("RNNCell", "input_size hidden_size bias nonlinearity device dtype"),
        ("LSTMCell", "input_size hidden_size bias device dtype"),
        ("GRUCell", "input_size hidden_size bias device dtype"),
    ],
)
def test_arguments_stand_in_the_documented_order(name: str, order: str) -> None:
    parameters = inspect.signature(getattr(nn, name)).parameters.values()
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert [each.name for each in positional] == order.split()
    documented = (getattr(torch.nn, name).__doc__ or "").split("\n")[0]
    if documented.startswith("__init__("):
        written = [
            f"{each.name}={each.default!r}" if each.default is not each.empty else each.name for each in positional
        ]
        assert documented == f"__init__({','.join(written)})"
    else:
        theirs = inspect.signature(getattr(torch.nn, name)).parameters.values()
        assert [(each.name, each.default) for each in positional] == [(each.name, each.default) for each in theirs]


def test_positional_arguments_mean_what_they_mean_in_torch() -> None:
    rnn = nn.RNN(3, 4, 2, "relu", False, True, 0.25, True)
    assert (rnn.mode, rnn.nonlinearity, rnn.num_layers, rnn.bias) == ("RNN_RELU", "relu", 2, False)
    assert (rnn.batch_first, rnn.dropout, rnn.bidirectional) == (True, 0.25, True)
    lstm = nn.LSTM(3, 4, 2, False, True, 0.25, True, 2)
    assert (lstm.mode, lstm.num_layers, lstm.bias, lstm.batch_first) == ("LSTM", 2, False, True)
    assert (lstm.dropout, lstm.bidirectional, lstm.proj_size) == (0.25, True, 2)
    gru = nn.GRU(3, 4, 2, False, True, 0.25, True, "cpu", torch.float64)
    assert (gru.mode, gru.num_layers, gru.bias, gru.batch_first) == ("GRU", 2, False, True)
    assert (gru.dropout, gru.bidirectional, gru.proj_size) == (0.25, True, 0)
    assert gru.weight_ih_l0.dtype == torch.float64


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_layers": 2, "dropout": 0.5},
        {"bidirectional": True, "batch_first": True},
        {"bias": False},
        {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.1, "bidirectional": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_print_as_those_of_torch(kind: str, arguments: dict[str, Any]) -> None:
    name, keywords = NETWORKS[kind]
    theirs = getattr(torch.nn, name)(3, 4, **{**keywords, **arguments})
    assert repr(getattr(nn, name)(3, 4, **{**keywords, **arguments})) == repr(theirs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_print_as_those_of_torch(kind: str, bias: bool) -> None:
    name, keywords = CELLS[kind]
    assert repr(getattr(nn, name)(3, 4, bias, **keywords)) == repr(getattr(torch.nn, name)(3, 4, bias, **keywords))


@pytest.mark.filterwarnings("ignore:.*jit.script.*:DeprecationWarning")
def test_a_chosen_backend_is_printed_and_used() -> None:
    made = nn.GRU(3, 4, backend="reference")
    assert repr(made) == "GRU(3, 4, backend=reference)"
    x, tangent = torch.randn(2, 5, 2, 3)
    _, moved = torch.func.jvp(lambda value: made(value)[0], (x,), (tangent,))
    assert moved.abs().max() > 0


def test_all_weights_lists_the_parameters_of_each_layer_and_direction() -> None:
    made = nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2)
    assert [len(row) for row in made.all_weights] == [5, 5, 5, 5]
    assert made.all_weights[1][0] is made.weight_ih_l0_reverse
    assert made.all_weights[2][4] is made.weight_hr_l1
    assert made.flatten_parameters() is None


def test_weights_are_made_on_the_device_and_in_the_type_that_is_asked_for() -> None:
    for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"):
        made = getattr(nn, name)(3, 4, device="meta", dtype=torch.float64)
        assert all(value.is_meta and value.dtype == torch.float64 for value in made.parameters())


WRONG: list[dict[str, Any]] = [
    {"input_size": 0},
    {"input_size": 2.0},
    {"hidden_size": 0},
    {"hidden_size": "4"},
    {"num_layers": 0},
    {"dropout": 1.5},
    {"dropout": True},
    {"dropout": "much"},
    {"bias": 1},
    {"batch_first": 1},
    {"unknown": 1},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_what_torch_refuses_at_construction_is_refused_alike(name: str, wrong: dict[str, Any]) -> None:
    arguments = {"input_size": 3, "hidden_size": 4, "num_layers": 2, **wrong}
    with pytest.raises((ValueError, TypeError)) as theirs:
        getattr(torch.nn, name)(**arguments)
    with pytest.raises(type(theirs.value)):
        getattr(nn, name)(**arguments)


def test_sizes_of_projections_and_nonlinearities_are_checked() -> None:
    for name in ("RNN", "GRU"):
        with pytest.raises(ValueError, match="only supported for LSTM"):
            getattr(nn, name)(3, 4, proj_size=2)
    with pytest.raises(ValueError, match="smaller than hidden_size"):
        nn.LSTM(3, 4, proj_size=4)
    with pytest.raises(ValueError, match="proj_size should be a positive"):
        nn.LSTM(3, 4, proj_size=-1)
    with pytest.raises(ValueError, match="Unknown nonlinearity 'sin'"):
        nn.RNN(3, 4, nonlinearity="sin")
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: sin"):
        nn.RNNCell(3, 4, nonlinearity="sin")(torch.zeros(2, 3))
