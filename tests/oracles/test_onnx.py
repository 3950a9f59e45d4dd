"""ONNX Runtime's RNN, LSTM and GRU, which compute in float32, with the weights of layers here.

Conventions that differ: ONNX has the gates in the order i, o, f, c, or z, r, h, and two biases a gate, of the input and
of the state. The second is zero here but for the GRU whose reset gate multiplies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import assert_close
from tests.oracles.symbols import layer_of, symbols
from unrolled.layers import Bidirectional, Recurrent
from unrolled.layers.state import tensors_of

onnx = pytest.importorskip("onnx", reason="ONNX is not installed: the extra dev brings it")
onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: the extra dev brings it")

TIME, BATCH, INPUT, HIDDEN = 7, 4, 3, 5
# ONNX Runtime gives zeros for the state of a row without a step, where it is the initial one here.
LENGTHS = [4, 7, 1, 6]
# Of float32, relative to the largest value.
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Operator:
    """An operator of ONNX, its gates and peepholes in its order.

    _ stands for a gate that the cell here does not have, which a large bias holds open.
    """

    name: str
    gates: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    peepholes: str = ""


def lstm(gates: str = "iofg", peepholes: str = "", **attributes: Any) -> Operator:
    return Operator("LSTM", gates, attributes, peepholes)


# The numbers of a function stand in the lists of all functions that have some, in order.
LINEAR: dict[str, Any] = {"activation_alpha": [1.0], "activation_beta": [0.0]}
OPERATORS = {
    "elman": Operator("RNN", "h", {"activations": ["Tanh"]}),
    "elman-relu": Operator("RNN", "h", {"activations": ["Relu"]}),
    "lstm": lstm(),
    # 4 sigmoid(v) - 2 is 2 tanh(v / 2), and 2 sigmoid(v) - 1 is tanh(v / 2).
    "lstm-1997": lstm(
        "io_g",
        activations=["Sigmoid", "ScaledTanh", "ScaledTanh"],
        activation_alpha=[2.0, 1.0],
        activation_beta=[0.5, 0.5],
    ),
    "lstm-f": lstm("io_g"),
    "lstm-i": lstm("_ofg"),
    "lstm-o": lstm("i_fg"),
    "peephole-lstm": lstm(peepholes="iof"),
    "lstm-np": lstm(),
    "lstm-nig": lstm("_ofg", "_of"),
    "lstm-nfg": lstm("io_g", "io_"),
    "lstm-nog": lstm("i_fg", "i_f"),
    "lstm-niaf": lstm(peepholes="iof", activations=["Sigmoid", "Affine", "Tanh"], **LINEAR),
    "lstm-noaf": lstm(peepholes="iof", activations=["Sigmoid", "Tanh", "Affine"], **LINEAR),
    # The forget gate is 1 - i, as in the paper; what is given for it is not read.
    "cifg": lstm("io_g", "io_", input_forget=1),
    "gru": Operator("GRU", "zrg", {"linear_before_reset": 1}),
    "gru-cho": Operator("GRU", "zrg", {"linear_before_reset": 0}),
}
CELLS = pytest.mark.parametrize("name", OPERATORS)


def stacked(layer: Recurrent, family: str, names: str) -> Tensor:
    own = symbols(layer)
    like = next(value for key, value in own.items() if key.startswith(family))
    absent = torch.full_like(like, 100.0 if family == "b" else 0.0)
    return torch.cat([own.get(f"{family}.{name}", absent) for name in names]).detach()


def weights(operator: Operator, layers: Sequence[Recurrent]) -> dict[str, Tensor]:
    """The weights as ONNX has them.

    Shapes   each (direction, …)
    """
    given = []
    for layer in layers:
        of_input = stacked(layer, "b", operator.gates)
        of_state = torch.zeros_like(of_input)
        if operator.attributes.get("linear_before_reset"):
            of_state[-HIDDEN:] = symbols(layer)["b.u"].detach()
        direction = {family: stacked(layer, family, operator.gates) for family in "WU"}
        direction["b"] = torch.cat([of_input, of_state])
        if operator.peepholes:
            direction["p"] = stacked(layer, "p", operator.peepholes)
        given.append(direction)
    return {family: torch.stack([direction[family] for direction in given]) for family in given[0]}


def run_onnx(
    name: str, layers: Sequence[Recurrent], x: Tensor, states: Sequence[Tensor], lengths: Sequence[int] | None
) -> list[Tensor]:
    """The output with the directions side by side, and the final states, (direction, batch, hidden).

    Shapes   states, each (direction, batch, hidden)
    """
    operator = OPERATORS[name]
    own = weights(operator, layers)
    given = {"X": x, "W": own["W"], "R": own["U"], "B": own["b"]}
    if lengths is not None:
        given["sequence_lens"] = torch.tensor(lengths, dtype=torch.int32)
    given |= zip(("initial_h", "initial_c"), states, strict=False)
    if operator.peepholes:
        given["P"] = own["p"]
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    names = [key if key in given else "" for key in order[: 8 if operator.name == "LSTM" else 6]]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    direction = "bidirectional" if len(layers) == 2 else "reverse" if layers[0].reverse else "forward"
    attributes = {"hidden_size": HIDDEN, "direction": direction, **operator.attributes}
    for key in attributes.keys() & {"activations", "activation_alpha", "activation_beta"}:
        attributes[key] = attributes[key] * len(layers)
    node = onnx.helper.make_node(operator.name, names, outputs, **attributes)
    arrays = {key: value.numpy() for key, value in given.items()}
    graph = onnx.helper.make_graph(
        [node],
        name,
        [onnx.helper.make_tensor_value_info(key, _type(value), value.shape) for key, value in arrays.items()],
        [onnx.helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, None) for key in outputs],
    )
    opset = [onnx.helper.make_opsetid("", 14)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, *finals = (torch.from_numpy(value) for value in session.run(None, arrays))
    return [torch.cat(list(y.unbind(1)), -1), *finals]


def _type(array: Any) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@CELLS
def test_outputs_and_states_are_those_of_onnx(name: str, direction: str, lengths: list[int] | None) -> None:
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    layers = [layer_of(name, INPUT, HIDDEN, reverse=reverse) for reverse in ways]
    ours = Bidirectional(*layers) if len(layers) == 2 else layers[0]
    x = torch.randn(TIME, BATCH, INPUT)
    states = [torch.randn(len(layers), BATCH, HIDDEN) for _ in layers[0].cell.program.states]
    given = list(zip(*states, strict=True))
    y, final = ours(x, given if len(layers) == 2 else given[0], lengths=lengths)
    finals = torch.stack(tensors_of(final)).unflatten(0, (len(layers), -1)).unbind(1)
    assert_close([y, *finals], run_onnx(name, layers, x, states, lengths), TOLERANCE)
