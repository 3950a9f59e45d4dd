"""The closed set of operations of one time step: arity, axes, cost.

Every other table of the project (derivative, reference, LaTeX, each backend) has one row for each name here.
A shape is a tuple of axis names: () a number, ("hidden",) a vector over the units, ("hidden", "input") a map.
Time and batch are never written: an operation speaks of one row at one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unrolled.errors import ShapeError

Shape = tuple[str, ...]
ShapeRule = Callable[[tuple[Shape, ...], Mapping[str, Any]], Shape]


@dataclass(frozen=True)
class Operation:
    """One row of the set.

    kind      leaf, elementwise, units (a reduction or a walk over the units), map (a product with a matrix)
    cheap     whether backward would rather compute it again than read it back from memory
    internal  made by the gradient only; cells do not write it
    """

    name: str
    arity: int
    kind: str
    shape: ShapeRule
    cheap: bool = True
    internal: bool = False


def _declared(_: tuple[Shape, ...], attributes: Mapping[str, Any]) -> Shape:
    return tuple(attributes["shape"])


def _equal(shapes: tuple[Shape, ...], _: Mapping[str, Any]) -> Shape:
    proper = [shape for shape in shapes if shape]
    if any(shape != proper[0] for shape in proper):
        raise ShapeError(f"unequal axes {', '.join(map(str, shapes))}")
    return proper[0] if proper else ()


def _vector(shapes: tuple[Shape, ...], _: Mapping[str, Any]) -> Shape:
    if len(shapes[0]) != 1:
        raise ShapeError(f"needs a vector over units, not {shapes[0]}")
    return shapes[0]


def _to_number(shapes: tuple[Shape, ...], attributes: Mapping[str, Any]) -> Shape:
    _vector(shapes, attributes)
    return ()


def _to_axis(shapes: tuple[Shape, ...], attributes: Mapping[str, Any]) -> Shape:
    _vector(shapes, attributes)
    return (attributes["axis"],)


def _spread(shapes: tuple[Shape, ...], attributes: Mapping[str, Any]) -> Shape:
    if shapes[0]:
        raise ShapeError(f"needs a number, not {shapes[0]}")
    return (attributes["axis"],)


def _product(transposed: bool) -> ShapeRule:
    def rule(shapes: tuple[Shape, ...], _: Mapping[str, Any]) -> Shape:
        matrix, vector = shapes
        if len(matrix) != 2:
            raise ShapeError(f"needs a map on its left, not {matrix}")
        rows, columns = matrix[::-1] if transposed else matrix
        if vector != (columns,):
            raise ShapeError(f"a map from ({columns}) to ({rows}) cannot take {vector}")
        return (rows,)

    return rule


def _outer(shapes: tuple[Shape, ...], _: Mapping[str, Any]) -> Shape:
    left, right = shapes
    if len(left) != 1 or len(right) != 1:
        raise ShapeError(f"needs two vectors, not {left} and {right}")
    return left + right


_ROWS = (
    # Leaves. A sequence has a value at every step, a row one for each row of the batch, a parameter and a scalar
    # one for all; `size` is the number of units of an axis, known when a layer is built.
    Operation("sequence", 0, "leaf", _declared),
    Operation("row", 0, "leaf", _declared),
    Operation("state", 0, "leaf", _declared),
    Operation("parameter", 0, "leaf", _declared),
    Operation("scalar", 0, "leaf", _declared),
    Operation("constant", 0, "leaf", _declared),
    Operation("size", 0, "leaf", _declared),
    Operation("tick", 0, "leaf", _declared),
    Operation("neg", 1, "elementwise", _equal),
    Operation("add", 2, "elementwise", _equal),
    Operation("sub", 2, "elementwise", _equal),
    Operation("mul", 2, "elementwise", _equal),
    Operation("div", 2, "elementwise", _equal),
    Operation("minimum", 2, "elementwise", _equal),
    Operation("maximum", 2, "elementwise", _equal),
    Operation("less", 2, "elementwise", _equal),
    Operation("less_equal", 2, "elementwise", _equal),
    Operation("equal", 2, "elementwise", _equal),
    Operation("where", 3, "elementwise", _equal),
    Operation("relu", 1, "elementwise", _equal),
    Operation("abs", 1, "elementwise", _equal),
    Operation("sign", 1, "elementwise", _equal, internal=True),
    Operation("sigmoid", 1, "elementwise", _equal, cheap=False),
    Operation("tanh", 1, "elementwise", _equal, cheap=False),
    Operation("exp", 1, "elementwise", _equal, cheap=False),
    Operation("log", 1, "elementwise", _equal, cheap=False),
    Operation("sqrt", 1, "elementwise", _equal, cheap=False),
    Operation("softplus", 1, "elementwise", _equal, cheap=False),
    Operation("layer_norm", 1, "units", _vector, cheap=False),
    Operation("inverse_deviation", 1, "units", _to_number, cheap=False, internal=True),
    Operation("softmax", 1, "units", _vector, cheap=False),
    Operation("cumsum", 1, "units", _vector, cheap=False),
    Operation("cumsum_reversed", 1, "units", _vector, cheap=False, internal=True),
    Operation("sum", 1, "units", _to_number, cheap=False),
    Operation("spread", 1, "elementwise", _spread, internal=True),
    # `repeat` writes each unit of a short axis several times, `fold` sums them up again: neither looks across units
    # in a way that must wait, but their neighbours are not element-wise, so they end a stage as reductions do.
    Operation("repeat", 1, "units", _to_axis),
    Operation("fold", 1, "units", _to_axis, internal=True),
    # The same units under another axis name (two axes of one size).
    Operation("raw", 1, "elementwise", _to_axis),
    Operation("product", 2, "map", _product(transposed=False), cheap=False),
    Operation("transposed_product", 2, "map", _product(transposed=True), cheap=False, internal=True),
    Operation("outer", 2, "map", _outer, cheap=False, internal=True),
)

OPERATIONS: dict[str, Operation] = {row.name: row for row in _ROWS}
LAYER_NORM_EPSILON = 1e-5
