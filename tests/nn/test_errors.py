"""What does not fit is refused as torch refuses it: with the same kind of exception, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import unrolled.nn as nn

zeros = torch.zeros


def _state(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
    value = zeros(shape, dtype=dtype)
    return (value, value) if name.startswith("LSTM") else value


NETWORK_CALLS: dict[str, Callable[[Any, str], Any]] = {
    "no steps": lambda m, n: m(zeros(0, 2, 3)),
    "no steps of no rows": lambda m, n: m(zeros(0, 0, 3)),
    "no steps of a single sequence": lambda m, n: m(zeros(0, 3)),
    "four axes": lambda m, n: m(zeros(1, 1, 1, 3)),
    "one axis": lambda m, n: m(zeros(3)),
    "whole numbers": lambda m, n: m(zeros(5, 2, 3, dtype=torch.long)),
    "another type": lambda m, n: m(zeros(5, 2, 3, dtype=torch.float64)),
    "another width": lambda m, n: m(zeros(5, 2, 4)),
    "another width, packed": lambda m, n: m(pack_padded_sequence(zeros(5, 2, 4), [5, 2])),
    "a state of another type": lambda m, n: m(zeros(5, 2, 3), _state(n, 1, 2, 4, dtype=torch.float64)),
    "a state of another batch": lambda m, n: m(zeros(5, 2, 3), _state(n, 1, 3, 4)),
    "a state of another width": lambda m, n: m(zeros(5, 2, 3), _state(n, 1, 2, 5)),
    "a state of more layers": lambda m, n: m(zeros(5, 2, 3), _state(n, 2, 2, 4)),
    "a state of one row for a batch": lambda m, n: m(zeros(5, 2, 3), _state(n, 1, 4)),
    "a state of a batch for one row": lambda m, n: m(zeros(5, 3), _state(n, 1, 2, 4)),
    "a state of another batch, packed": lambda m, n: m(
        pack_padded_sequence(zeros(5, 2, 3), [5, 2]), _state(n, 1, 3, 4)
    ),
}
CELL_CALLS: dict[str, Callable[[Any, str], Any]] = {
    "three axes": lambda m, n: m(zeros(1, 2, 3)),
    "another width": lambda m, n: m(zeros(2, 4)),
    "a state of another batch": lambda m, n: m(zeros(2, 3), _state(n, 3, 4)),
    "a state of one row": lambda m, n: m(zeros(2, 3), _state(n, 1, 4)),
    "a state of another width": lambda m, n: m(zeros(2, 3), _state(n, 2, 5)),
    "a state without batch": lambda m, n: m(zeros(2, 3), _state(n, 4)),
    "a state of three axes": lambda m, n: m(zeros(2, 3), _state(n, 1, 2, 4)),
    "a state of a batch for one row": lambda m, n: m(zeros(3), _state(n, 1, 4)),
    "another type": lambda m, n: m(zeros(2, 3, dtype=torch.float64)),
    "whole numbers": lambda m, n: m(zeros(2, 3, dtype=torch.long)),
    "a state of another type": lambda m, n: m(zeros(2, 3), _state(n, 2, 4, dtype=torch.float64)),
}


@pytest.mark.parametrize("call", NETWORK_CALLS)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_network_refuses_what_torch_refuses(name: str, call: str) -> None:
    _same_refusal(name, NETWORK_CALLS[call])


@pytest.mark.parametrize("call", CELL_CALLS)
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_cell_refuses_what_torch_refuses(name: str, call: str) -> None:
    _same_refusal(name, CELL_CALLS[call])


def _same_refusal(name: str, call: Callable[[Any, str], Any]) -> None:
    with pytest.raises((ValueError, RuntimeError)) as theirs:
        call(getattr(torch.nn, name)(3, 4), name)
    with pytest.raises(type(theirs.value)) as ours:
        call(getattr(nn, name)(3, 4), name)
    assert str(ours.value)


@pytest.mark.parametrize(
    ("name", "shape", "state"),
    [
        ("RNN", (5, 2, 3), (1, 2, 4)),
        ("GRU", (5, 2, 3), (1, 2, 4)),
        ("RNNCell", (2, 3), (2, 4)),
        ("GRUCell", (2, 3), (2, 4)),
    ],
)
def test_a_pair_is_no_state_of_a_network_with_one_state(name: str, shape: Any, state: Any) -> None:
    with pytest.raises(TypeError, match="one tensor"):
        getattr(nn, name)(3, 4)(zeros(shape), (zeros(state), zeros(state)))


def test_one_tensor_is_no_state_of_an_lstm() -> None:
    with pytest.raises(TypeError, match="pair"):
        nn.LSTM(3, 4)(zeros(5, 2, 3), zeros(1, 2, 4))
    with pytest.raises(TypeError, match="pair"):
        nn.LSTMCell(3, 4)(zeros(2, 3), zeros(2, 4))


def test_an_unknown_backend_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="reference"):
        nn.GRU(3, 4, backend="referense")(zeros(5, 2, 3))
