"""The same recurrent layers in JAX, ONNX Runtime and OpenVINO, with the weights of a layer of torch.

Those that are not installed do not take part. Each is set up as its users are told to be fastest, in fp32.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

Call = Callable[[], Any]
ORDERS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "tanh": (0,)}  # ONNX's gates, as torch numbers its own
NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "tanh": ("RNN", {"activations": ["Tanh"]}),
}
OPSET = 17


def inference(kind: str, layer: torch.nn.RNNBase, x: torch.Tensor, threads: int) -> dict[str, Call]:
    """Calls that give the outputs y (time, batch, hidden), by the name of who computes them."""
    calls = {}
    if find_spec("onnx"):
        model = onnx_model(kind, layer, x)
        # OpenVINO forks while it is imported, which JAX warns of once it runs.
        if find_spec("openvino"):
            calls["OpenVINO"] = _openvino(model, x, threads)
        if find_spec("onnxruntime"):
            calls["ONNX Runtime"] = _onnxruntime(model, x, threads)
    if find_spec("jax"):
        calls["JAX"] = _jax(kind, layer, x, None, threads)
    return calls


def training(kind: str, layer: torch.nn.RNNBase, x: torch.Tensor, d_y: torch.Tensor, threads: int) -> dict[str, Call]:
    """Calls that compute all gradients and give that of x, by the name of who computes them."""
    return {"JAX": _jax(kind, layer, x, d_y, threads)} if find_spec("jax") else {}


def _weights(layer: torch.nn.RNNBase) -> list[np.ndarray]:
    """Input map, recurrent map and the two biases."""
    return [getattr(layer, f"{name}_l0").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _jax(kind: str, layer: torch.nn.RNNBase, x: torch.Tensor, d_y: torch.Tensor | None, threads: int) -> Call:
    """A jitted scan; with `d_y` the gradients of sum(y * d_y) in x and all weights."""
    os.environ["NPROC"] = str(threads)  # XLA reads the number of its threads there, when it starts
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    from jax import numpy as jnp

    w, u, b, c = _weights(layer)
    # Transposed once and for all: XLA would do it at every step.
    weights = [jnp.asarray(np.ascontiguousarray(array)) for array in (w.T, u.T, b, c)]
    hidden = u.shape[1]

    def lstm(state: Any, pre: Any, u: Any, c: Any) -> Any:
        h, memory = state
        i, f, g, o = jnp.split(pre + h @ u + c, 4, -1)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(memory), memory

    def gru(state: Any, pre: Any, u: Any, c: Any) -> Any:
        (h,) = state
        (r, z, g), (r_h, z_h, g_h) = jnp.split(pre, 3, -1), jnp.split(h @ u + c, 3, -1)
        z = jax.nn.sigmoid(z + z_h)
        return ((1 - z) * jnp.tanh(g + jax.nn.sigmoid(r + r_h) * g_h) + z * h,)

    def tanh(state: Any, pre: Any, u: Any, c: Any) -> Any:
        return (jnp.tanh(pre + state[0] @ u + c),)

    step = {"lstm": lstm, "gru": gru, "tanh": tanh}[kind]

    def run(x: Any, weights: Any) -> Any:
        w, u, b, c = weights

        def body(state: Any, pre: Any) -> Any:
            state = step(state, pre, u, c)
            return state, state[0]

        zeros = jnp.zeros((x.shape[1], hidden), x.dtype)
        return jax.lax.scan(body, (zeros,) * (2 if kind == "lstm" else 1), x @ w + b)[1]

    given = jnp.asarray(x.detach().numpy())
    if d_y is None:
        forward = jax.jit(run)
        return lambda: forward(given, weights).block_until_ready()
    cotangent = jnp.asarray(d_y.numpy())
    gradient = jax.jit(jax.grad(lambda x, weights, d_y: (run(x, weights) * d_y).sum(), (0, 1)))

    def call() -> Any:
        d_x, _ = jax.block_until_ready(gradient(given, weights, cotangent))
        return (d_x,)

    return call


def onnx_model(kind: str, layer: torch.nn.RNNBase, x: torch.Tensor) -> bytes:
    """The layer as one node of ONNX, for inputs of the shape of x."""
    from onnx import TensorProto, helper, numpy_helper

    node, attributes = NODES[kind]
    hidden = layer.hidden_size

    def ordered(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array[gate * hidden : (gate + 1) * hidden] for gate in ORDERS[kind]])

    w, u, b, c = map(ordered, _weights(layer))
    values = {"w": w[None], "u": u[None], "b": np.concatenate([b, c])[None], "direction": np.array([1])}
    graph = helper.make_graph(
        [
            helper.make_node(node, ["x", "w", "u", "b"], ["all"], hidden_size=hidden, **attributes),
            helper.make_node("Squeeze", ["all", "direction"], ["y"]),
        ],
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*x.shape[:2], hidden])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return bytes(model.SerializeToString())


def _onnxruntime(model: bytes, x: torch.Tensor, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {"x": x.detach().numpy()}
    return lambda: session.run(["y"], given)[0]


def _openvino(model: bytes, x: torch.Tensor, threads: int) -> Call:
    import openvino

    # On a CPU with AMX its default is to multiply in bfloat16.
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", options).create_infer_request()
    given = [x.detach().numpy()]
    return lambda: request.infer(given, share_inputs=True, share_outputs=True)[0]
