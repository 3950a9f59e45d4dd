"""What is the same at every step, in numpy: maps written out, and values of parameters alone.

The reference computes them in torch; a stream is set up without torch too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.ir.graph import Node
from unrolled.ir.plan import Group
from unrolled.ir.structure import DENSE, Structure

Array = NDArray[Any]
Sizes = Mapping[str, int]


def stored_shape(group: Group, sizes: Sizes) -> tuple[int, ...]:
    """The shape of a group's parameter."""
    if not group.shape:
        return (len(group.names),)
    axes = [sizes[axis] for axis in group.shape]
    first, *rest = group.structure.entries(*axes) if len(axes) == 2 else axes
    return (first * len(group.names), *rest)


def symbols_of(groups: Sequence[Group], parameters: Sequence[Array]) -> dict[str, Array]:
    """Each symbol's part of its group."""
    symbols: dict[str, Array] = {}
    for group, value in zip(groups, parameters, strict=True):
        parts = [value] if group.structure != DENSE else np.split(value, len(group.names))
        for name, part in zip(group.names, parts, strict=True):
            symbols[f"{group.family}.{name}"] = part if group.shape else part.reshape(())
    return symbols


def _block_diagonal(_: Structure, entries: Array, out: int, into: int) -> Array:
    heads, own, other = entries.shape
    full = np.zeros((out, into), entries.dtype)
    for head in range(heads):
        full[head * own : (head + 1) * own, head * other : (head + 1) * other] = entries[head]
    return full


def _block_triangular(structure: Structure, entries: Array, out: int, into: int) -> Array:
    width = out // len(structure.periods())
    full, offset = np.zeros((out, into), entries.dtype), 0
    for first in range(0, out, width):
        count = width * (out - first)
        full[first : first + width, first:] = entries[offset : offset + count].reshape(width, -1)
        offset += count
    return full


def _antisymmetric(_: Structure, entries: Array, out: int, into: int) -> Array:
    full = np.zeros((out, into), entries.dtype)
    full[np.triu_indices(out, 1)] = entries
    return full - full.T


# Structure -> the whole map, zeros written out, from its free entries.
DENSE_MAPS: dict[str, Callable[[Structure, Array, int, int], Array]] = {
    "dense": lambda structure, entries, out, into: entries,
    "diagonal": lambda structure, entries, out, into: np.diag(entries),
    "block_diagonal": _block_diagonal,
    "block_triangular": _block_triangular,
    "antisymmetric": _antisymmetric,
    "low_rank": lambda structure, entries, out, into: entries[:out] @ entries[out:].T,
}


def matrix_of(node: Node, symbols: Mapping[str, Array], sizes: Sizes) -> Array:
    """A map (out, in), or a factor of one of low rank."""
    name, _, factor = node["name"].partition("/")
    entries, (out, into) = symbols[f"{node['family']}.{name}"], (sizes[axis] for axis in node.shape)
    if factor:
        return entries[:out] if factor == "left" else entries[-into:].T
    structure = node["structure"]
    return DENSE_MAPS[structure.name](structure, entries, out, into)


def _compared(compare: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, sizes, a, b: compare(a, b).astype(np.float64)


def _plain(run: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, sizes, *args: run(*args)


def _softmax(x: Array) -> Any:
    raised = np.exp(x - x.max())
    return raised / raised.sum()


def _inverse_deviation(node: Node, _: Sizes, x: Array) -> Any:
    return 1 / np.sqrt(x.var() + node["epsilon"])


# Operation -> its value from the node, the sizes of the axes and the arguments, for one row.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "neg": _plain(np.negative),
    "add": _plain(np.add),
    "sub": _plain(np.subtract),
    "mul": _plain(np.multiply),
    "div": _plain(np.divide),
    "minimum": _plain(np.minimum),
    "maximum": _plain(np.maximum),
    "less": _compared(np.less),
    "less_equal": _compared(np.less_equal),
    "equal": _compared(np.equal),
    "where": _plain(lambda condition, a, b: np.where(condition != 0, a, b)),
    "relu": _plain(lambda x: np.maximum(x, 0)),
    "abs": _plain(np.abs),
    "sign": _plain(np.sign),
    "sigmoid": _plain(lambda x: np.exp(-np.logaddexp(0, -x))),
    "tanh": _plain(np.tanh),
    "exp": _plain(np.exp),
    "log": _plain(np.log),
    "sqrt": _plain(np.sqrt),
    "softplus": _plain(lambda x: np.logaddexp(x, 0)),
    "layer_norm": lambda node, sizes, x: (x - x.mean()) * _inverse_deviation(node, sizes, x),
    "inverse_deviation": _inverse_deviation,
    "softmax": _plain(_softmax),
    "cumsum": _plain(np.cumsum),
    "cumsum_reversed": _plain(lambda x: np.cumsum(x[::-1])[::-1]),
    "sum": _plain(np.sum),
    "spread": lambda node, sizes, x: np.broadcast_to(x, sizes[node["axis"]]),
    "repeat": lambda node, sizes, x: np.repeat(x, sizes[node["axis"]] // len(x)),
    "fold": lambda node, sizes, x: x.reshape(sizes[node["axis"]], -1).sum(-1),
    "raw": _plain(lambda x: x),
}


def values_of(
    nodes: Sequence[Node], symbols: Mapping[str, Array], scalars: Mapping[str, float], sizes: Sizes
) -> list[Array]:
    """The values of nodes of parameters and numbers, in float64."""
    known: dict[Node, Array] = {}

    def value(node: Node) -> Array:
        if node not in known:
            known[node] = np.asarray(find(node), dtype=np.float64)
        return known[node]

    def find(node: Node) -> Any:
        if node.op == "constant":
            return node["value"]
        if node.op == "size":
            return sizes[node["axis"]]
        if node.op == "scalar":
            return scalars[node["name"]]
        if node.op == "parameter":
            return symbols[node.symbol]
        if node.op in ("product", "transposed_product"):
            matrix = matrix_of(node.args[0], symbols, sizes).astype(np.float64)
            return (matrix if node.op == "product" else matrix.T) @ value(node.args[1])
        return OPERATIONS[node.op](node, sizes, *(value(arg) for arg in node.args))

    with np.errstate(all="ignore"):
        return [value(node) for node in nodes]
