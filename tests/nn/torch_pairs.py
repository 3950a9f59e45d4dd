"""The same network twice: one of torch.nn, one of unrolled.nn with its state dict, and their results side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import unrolled.nn as nn

TIME, BATCH, INPUT, HIDDEN, PROJECTION = 5, 3, 3, 5, 2
LENGTHS = {"packed": [5, 3, 1], "unsorted": [2, 5, 4]}

# kind -> (class name, keywords)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn-tanh": ("RNN", {}),
    "rnn-relu": ("RNN", {"nonlinearity": "relu"}),
    "lstm": ("LSTM", {}),
    "lstm-projected": ("LSTM", {"proj_size": PROJECTION}),
    "gru": ("GRU", {}),
}
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn-tanh": ("RNNCell", {}),
    "rnn-relu": ("RNNCell", {"nonlinearity": "relu"}),
    "lstm": ("LSTMCell", {}),
    "gru": ("GRUCell", {}),
}


def quiet() -> None:
    """Leave out torch's own word on projections without oneDNN."""
    warnings.filterwarnings("ignore", message=".*not supported with oneDNN.*")


def pair(kind: str, **options: Any) -> tuple[Any, Any]:
    """(torch's network, ours), with the same weights."""
    name, keywords = NETWORKS[kind]
    theirs = getattr(torch.nn, name)(INPUT, HIDDEN, **keywords, **options)
    ours = getattr(nn, name)(INPUT, HIDDEN, **keywords, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def inputs(form: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """A sequence of the form: batch_first, unbatched, or time-major."""
    if form == "unbatched":
        return torch.randn(TIME, INPUT, dtype=dtype)
    shape = (BATCH, TIME, INPUT) if form == "batch_first" else (TIME, BATCH, INPUT)
    return torch.randn(shape, dtype=dtype)


def initial(network: Any, form: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """States for the network: one tensor, or h and c."""
    runs = network.num_layers * (2 if network.bidirectional else 1)
    batch = () if form == "unbatched" else (BATCH,)
    widths = [network.proj_size or HIDDEN] + ([HIDDEN] if network.mode == "LSTM" else [])
    return [torch.randn(runs, *batch, width, dtype=dtype) for width in widths]


def as_state(values: Sequence[Tensor]) -> Any:
    """The state as torch takes it."""
    return None if not values else values[0] if len(values) == 1 else tuple(values)


def as_list(state: Any) -> list[Tensor]:
    """The tensors of a state."""
    return [state] if isinstance(state, Tensor) else list(state)


def apply(network: Any, form: str, x: Tensor, states: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
    """The output, packed where the form is, and the final states."""
    given: Any = x
    if form in LENGTHS:
        given = pack_padded_sequence(x, LENGTHS[form], enforce_sorted=form == "packed")
    y, finals = network(given, as_state(states))
    return y, as_list(finals)


def results(network: Any, form: str, x: Tensor, states: Sequence[Tensor]) -> dict[str, Tensor]:
    """Output, final states and the gradients of everything for one loss that reads them all."""
    x = x.clone().requires_grad_()
    states = [state.clone().requires_grad_() for state in states]
    network.zero_grad()
    y, finals = apply(network, form, x, states)
    data = y.data if isinstance(y, PackedSequence) else y
    loss = sum((value * _weights_of(value)).sum() for value in [data, *finals])
    loss.backward()
    found = {"output": data.detach(), "d_x": x.grad}
    found |= {f"final {index}": value.detach() for index, value in enumerate(finals)}
    found |= {f"d_state {index}": value.grad for index, value in enumerate(states)}
    return found | {f"d_{name}": value.grad for name, value in network.named_parameters()}


def _weights_of(value: Tensor) -> Tensor:
    return torch.linspace(-1, 1.3, value.numel(), dtype=value.dtype).view(value.shape)


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    """Every value within `tolerance` of the largest of its kind."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        value = ours[name]
        assert value.shape == expected.shape, name
        assert value.dtype == expected.dtype, name
        error = (value - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
        assert error <= tolerance, f"{name} is off by {error:.2e} of its largest value"
