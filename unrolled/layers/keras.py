"""Layers of Keras with their weights, as layers of this package; Keras itself is not loaded."""

from __future__ import annotations

from typing import Any

import torch

from unrolled.errors import UsageError
from unrolled.layers.bidirectional import Bidirectional
from unrolled.layers.recurrent import Recurrent

# Keras' class -> its gates in the order of its weights, as the cells here name them.
_GATES = {"LSTM": "ifgo", "GRU": "zrg", "SimpleRNN": "h"}
# What decides on the equations, and the cell that has them.
_DECISIVE = ("activation", "recurrent_activation", "reset_after")
_CELLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "LSTM": [("lstm", {"activation": "tanh", "recurrent_activation": "sigmoid"})],
    "GRU": [
        ("gru", {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}),
        ("gru-cho", {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": False}),
    ],
    "SimpleRNN": [("elman", {"activation": "tanh"}), ("elman-relu", {"activation": "relu"})],
}


def from_keras(layer: Any) -> Recurrent | Bidirectional:
    """A layer with the equations and the weights of a Keras LSTM, GRU, SimpleRNN, or Bidirectional of these.

    It is batch-first, as Keras is. What Keras chooses in the constructor is here in the call: y has every step, the
    state always comes with it, and `layer(x, state)` goes on from there (return_sequences, return_state, stateful).
    A mask that is true at the first steps of each row, then false, is `lengths`; another has no counterpart. The shares
    of dropout are not taken over.

    Departs: with go_backwards=True Keras returns y in the order of reading; here each y stands at the step that it
    read, so Keras' y is y.flip(1), as it also is within Keras' own Bidirectional. In the padding y is zero, where Keras
    repeats the last valid one.

    Shapes   see SequenceLayer: x (batch, time, input); y (batch, time, units), 2 units where there are two directions;
             the state (h), or (h, c) of an LSTM, each (batch, units), in Directions where there are two
    Raises   UsageError for another layer, other activations, a merge other than "concat", or no weights yet
    """
    if _kind(layer) != "Bidirectional":
        return _recurrent(layer, batch_first=True)
    merge = layer.get_config()["merge_mode"]
    if merge != "concat":
        raise UsageError(
            f"the outputs of both directions stand side by side here, merge_mode='concat', not {merge!r}: take the "
            "forward_layer and the backward_layer one by one, and merge what they give"
        )
    forward, backward = (_recurrent(each, batch_first=False) for each in (layer.forward_layer, layer.backward_layer))
    return Bidirectional(forward, backward, batch_first=True)


def _kind(layer: Any) -> str:
    """The class of a Keras layer; a class derived from it may compute something else."""
    home, name = type(layer).__module__, type(layer).__name__
    if "keras" in home and name in (*_GATES, "Bidirectional"):
        return name
    raise UsageError(f"from_keras takes a Keras {', '.join(_GATES)}, or Bidirectional of these, not {home}.{name}")


def _recurrent(layer: Any, batch_first: bool) -> Recurrent:
    kind, config = _kind(layer), layer.get_config()
    kernel, recurrent_kernel, *bias = (torch.tensor(value) for value in _weights(layer, config["name"]))
    made = Recurrent(
        _cell(kind, config),
        len(kernel),
        len(recurrent_kernel),
        bias=bool(bias),
        batch_first=batch_first,
        reverse=config["go_backwards"],
        dtype=kernel.dtype,
    )
    gates = _GATES[kind]
    with torch.no_grad():
        for family, maps in (("W", kernel), ("U", recurrent_kernel)):
            for gate, value in zip(gates, maps.chunk(len(gates), 1), strict=True):
                made._family(family)[gate].copy_(value.T)
        for value in bias:
            _copy_bias(made, gates, value.view(-1, len(gates), made.hidden_size))
    return made


def _copy_bias(made: Recurrent, gates: str, bias: torch.Tensor) -> None:
    """Copy one bias a gate, or two: of the input and of the state, which are one wherever they are only added.

    Shapes   bias (1 or 2, gate, hidden)
    """
    family = made._family("b")
    for gate, value in zip(gates, bias.unbind(1), strict=True):
        if made.cell.name == "gru" and gate == "g":
            family["g"].copy_(value[0])
            family["u"].copy_(value[1])
        else:
            family[gate].copy_(value.sum(0))


def _weights(layer: Any, name: str) -> list[Any]:
    weights: list[Any] = layer.get_weights()
    if not weights:
        raise UsageError(f"the Keras layer {name!r} has no weights yet: build it, or call it once on a batch")
    return weights


def _cell(kind: str, config: dict[str, Any]) -> str:
    """The cell with the equations of a Keras layer."""
    found = {key: config[key] for key in _DECISIVE if key in config}
    for cell, expected in _CELLS[kind]:
        if found == expected:
            return cell
    known = " or ".join(_spelled(expected) for _, expected in _CELLS[kind])
    raise UsageError(
        f"a Keras {kind} with {_spelled(found)} is no cell here, only one with {known}: write its equations as a cell"
    )


def _spelled(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items())
