"""Programs and their printed gradients in numpy, without a backend: an oracle of its own, one row at one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from unrolled.ir.graph import Node, in_source_order, reachable
from unrolled.ir.program import Program

SIZES = {"input": 4, "hidden": 6}


def _layer_norm(x: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    return (x - x.mean()) * inverse_deviation(x, epsilon)


def inverse_deviation(x: np.ndarray, epsilon: float = 1e-5) -> np.ndarray:
    return 1 / np.sqrt(x.var() + epsilon)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def _as_number(compare: Any) -> Any:
    return lambda a, b: compare(a, b).astype(float) if np.ndim(compare(a, b)) else float(compare(a, b))


FUNCTIONS: dict[str, Any] = {
    "neg": np.negative,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "less": _as_number(np.less),
    "less_equal": _as_number(np.less_equal),
    "equal": _as_number(np.equal),
    "where": lambda c, a, b: np.where(np.asarray(c) != 0, a, b),
    "relu": lambda x: np.maximum(x, 0.0),
    "abs": np.abs,
    "sign": np.sign,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "softmax": _softmax,
    "cumsum": np.cumsum,
    "cumsum_reversed": lambda x: np.cumsum(x[::-1])[::-1],
    "sum": np.sum,
    "product": lambda m, v: m @ v,
    "transposed_product": lambda m, v: m.T @ v,
    "outer": np.outer,
}


def _value(node: Node, args: list[Any], sizes: Mapping[str, int]) -> Any:
    if node.op == "constant":
        return np.float64(node["value"])
    if node.op == "size":
        return np.float64(sizes[node["axis"]])
    if node.op == "layer_norm":
        return _layer_norm(args[0], node["epsilon"])
    if node.op == "inverse_deviation":
        return inverse_deviation(args[0], node["epsilon"])
    if node.op == "spread":
        return np.full(sizes[node["axis"]], args[0])
    if node.op == "repeat":
        return np.repeat(args[0], sizes[node["axis"]] // len(args[0]))
    if node.op == "fold":
        return args[0].reshape(sizes[node["axis"]], -1).sum(1)
    if node.op == "raw":
        assert len(args[0]) == sizes[node["axis"]]
        return args[0]
    return FUNCTIONS[node.op](*args)


def leaf_key(node: Node) -> str:
    """By what a leaf's value is looked up: `W.f`, `state h`, `sequence x`, `tick (1, 2)`."""
    if node.op == "parameter":
        return node.symbol
    return f"tick {node['periods']}" if node.op == "tick" else f"{node.op} {node['name']}"


def evaluate(roots: Iterable[Node], leaves: Mapping[str, Any], sizes: Mapping[str, int] = SIZES) -> dict[Node, Any]:
    """The value of everything that the roots depend on."""
    values: dict[Node, Any] = {}
    for node in in_source_order(reachable(roots)):
        if not node.args and node.op not in ("constant", "size"):
            value = leaves[leaf_key(node)]
            # A plan reads a diagonal map as the vector of its entries.
            vector = node.op == "parameter" and np.ndim(value) == 2 and len(node.shape) == 1
            values[node] = np.diagonal(value) if vector else value
        else:
            values[node] = _value(node, [values[arg] for arg in node.args], sizes)
    return values


def sizes_of(program: Program) -> dict[str, int]:
    """Sizes at which every cell of the tests can be built."""
    equal = {"input": SIZES["hidden"]} if any(node.op == "raw" for node in program.nodes) else {}
    return {**SIZES, **equal, **program.axes}


def random_leaves(program: Program, seed: int = 0) -> dict[str, Any]:
    """Values for everything that a program reads, the scalars at their defaults, a clock with half of the units due."""
    random = np.random.default_rng(seed)
    sizes = sizes_of(program)
    found: dict[str, Any] = {}
    for node in program.nodes:
        if node.op in ("sequence", "state", "row", "parameter"):
            value = 0.6 * random.standard_normal([sizes[axis] for axis in node.shape])
            diagonal = node.op == "parameter" and value.ndim == 2 and node["structure"].name == "diagonal"
            found[leaf_key(node)] = value * np.eye(*value.shape) if diagonal else value
        elif node.op == "scalar":
            found[leaf_key(node)] = np.float64(program.scalars[node["name"]])
        elif node.op == "tick":
            found[leaf_key(node)] = (random.random(sizes[node.shape[0]]) < 0.5).astype(float)
    return found


def results_of(program: Program, leaves: Mapping[str, Any]) -> list[Any]:
    """The next states."""
    values = evaluate(program.results, leaves, sizes_of(program))
    return [values[node] for node in program.results]


def finite_difference(function: Any, value: Any, step: float = 1e-6) -> Any:
    """The gradient of a number-valued function of one array."""
    value = np.asarray(value, dtype=float)
    gradient = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        above, below = value.copy(), value.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient
