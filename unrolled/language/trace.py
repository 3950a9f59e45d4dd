"""Tracing: what the operators of a cell record while its function runs once, or while its text is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Real
from typing import Any, NoReturn, TypeVar

from unrolled.errors import CellError, Place, ShapeError, at
from unrolled.ir.graph import Graph, Node
from unrolled.ir.ops import Shape
from unrolled.ir.show import Scope, Unnamed, expression
from unrolled.ir.structure import DENSE, Structure
from unrolled.language.signature import Signature, axes_text, no_axis
from unrolled.language.values import FAMILIES, Symbol, Value

T = TypeVar("T")


class Trace:
    """The graph under construction, with what the cell's author declared.

    `locate` tells where in the source the operation now recorded stands; `observe` is called before each one, so that
    whoever runs the cell can `bind` the names given since the last.
    """

    def __init__(
        self,
        name: str,
        declared: Mapping[str, str],
        structure: Mapping[str, Structure],
        axes: Mapping[str, int],
        locate: Callable[[], Place],
        observe: Callable[[], None] = lambda: None,
    ):
        self.name = name
        self.graph = Graph()
        self.declared = declared
        self.structure = structure
        self.axes = axes
        self.locate = locate
        self.observe = observe
        self.equations: list[tuple[str, Node]] = []
        self.symbols: dict[str, Node] = {}
        self._scope = Scope()

    def fail(self, message: str, kind: type[CellError] = CellError, written: str | None = None) -> NoReturn:
        """Raise an error that quotes the source line of the operation now recorded, or else `written`."""
        place = self.locate()
        if place.line is None and written is not None:
            place = replace(place, line=written, end=len(written))
        raise kind(at(place, message))

    def arguments(self, signature: Signature) -> tuple[list[Value], dict[str, Any]]:
        """The values that the cell is called with: leaves for its arguments, plain values for what shapes the trace."""
        for axis in self.declared.values():
            if axis not in ("input", "hidden", *self.axes):
                raise CellError(no_axis(self.name, axis, self.axes))
        kinds = {**dict.fromkeys(dict(signature.inputs), "sequence"), **dict.fromkeys(dict(signature.states), "state")}
        positional = [self.leaf(kinds[name], name, shape) for name, shape in signature.positional]
        scalars = {name: self.leaf("scalar", name, ()) for name in signature.scalars}
        return positional, {**signature.static, **scalars}

    def leaf(self, op: str, name: str, shape: Shape) -> Value:
        """An argument of the cell."""
        node = self.graph.leaf(op, name, shape)
        self._scope.bind(name, node)
        return Value(self, node)

    def bind(self, name: str, value: object) -> None:
        """Record that `name` means `value` from here on, if it is a traced value that is new under this name."""
        if isinstance(value, Value) and value.trace is self and not self._means(name, value.node):
            self.equations.append((name, value.node))
            self._scope.bind(name, value.node)

    def _means(self, name: str, node: Node) -> bool:
        return self._scope.bound(name) is node

    def text(self, node: Node) -> str:
        """A value as its author would call it: its name, else its expression unless that is long."""
        if not self._scope.is_brief(node):
            return "this value"
        try:
            return expression(node, self._scope)
        except Unnamed as lost:
            return str(lost.node["name"])

    def declared_axis(self, symbol: str) -> str | None:
        """The axis that @cell(axes=…) gives a symbol."""
        return _given(self.declared, symbol)

    def parameter(self, family: str, name: str, shape: Shape) -> Node:
        """The node of a symbol at a shape; the same symbol at another shape is an error."""
        symbol = f"{family}.{name}"
        attributes: dict[str, Any] = {"family": family, "name": name, "shape": shape}
        if len(shape) == 2:
            attributes["structure"] = _given(self.structure, symbol) or self.structure.get(family, DENSE)
        node = self.graph.add("parameter", **attributes)
        known = self.symbols.setdefault(symbol, node)
        if known is not node:
            self.fail(
                f"{symbol} is used at two shapes: {axes_text(known.shape)} before, {axes_text(shape)} here.\n"
                f"  Give the second use a name of its own.",
                ShapeError,
            )
        return node

    def record(self, op: str, *args: Node, **attributes: Any) -> Value:
        """The value of an operation whose axes are known to fit."""
        self.observe()
        return Value(self, self.graph.add(op, *args, **attributes))

    def lift(self, value: object, like: Shape | None = None, where: str = "") -> Node:
        """The node of an operand: a traced value, a number, or a bias or vector, which takes the axis `like`."""
        if isinstance(value, Value):
            if value.trace is not self:
                self.fail("a value of one cell cannot be used in another")
            return value.node
        if isinstance(value, Symbol):
            return value.resolve(self, like)
        if isinstance(value, Real):
            return self._constant(value)
        self.fail(f"{where or 'an operation'} takes values of the cell and numbers, not {type(value).__name__}")

    def _constant(self, value: Real) -> Node:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail(f"a constant is a finite number, not {number}")
        return self.graph.constant(number)

    def elementwise(self, op: str, sign: str, *operands: object) -> Value:
        """Record an element-wise operation; biases and vectors among the operands take the axis of the others."""
        self.observe()
        like: Shape | None = None
        for operand in operands:
            shape = operand.node.shape if isinstance(operand, Value) else None
            if shape:
                like = shape
        nodes = [self.lift(operand, like, f"'{sign}'") for operand in operands]
        axes = {node.shape for node in nodes if node.shape}
        if len(axes) > 1:
            self._unequal(sign, nodes)
        return self.record(op, *nodes)

    def _unequal(self, sign: str, nodes: list[Node]) -> NoReturn:
        described = ", ".join(f"{self.text(node)} is {axes_text(node.shape)}" for node in nodes if node.shape)
        hints = ""
        if ("input",) in (node.shape for node in nodes):
            hints = "\n  W maps inputs to the units (W.name @ x), U maps states; raw(x) is x itself on the units."
        for node in nodes:
            wanted = {other.shape for other in nodes if len(other.shape) == 1} - {("input",), ("hidden",)}
            if node.op == "product" and node.shape == ("hidden",) and wanted:
                ((axis,), *_) = sorted(wanted)
                hints = (
                    f"\n  @cell(axes={{{node.args[0].symbol!r}: {axis!r}}}) makes {node.args[0].symbol} give ({axis})."
                )
        between = f" {sign} " if not sign.isalpha() else ", "
        self.fail(
            f"'{sign}' needs equal axes; {described}.{hints}", ShapeError, between.join(self.text(n) for n in nodes)
        )

    def map(self, symbol: Symbol, operand: object) -> Value:
        """Record `symbol @ operand`."""
        self.observe()
        family, name = symbol.family, symbol.name
        if family not in "WUV":
            written = f"{symbol} @ {self._written(operand)}"
            self.fail(f"{symbol} {FAMILIES[family]}: it multiplies with '*', not '@'", written=written)
        vector = self.lift(operand, None, "'@'")
        if len(vector.shape) != 1:
            self.fail(f"'@' maps a vector; {self.text(vector)} is {axes_text(vector.shape)}", ShapeError)
        (axis,) = vector.shape
        if family == "W" and axis != "input":
            self._wrong_map(symbol, "the input", vector, "U" if axis == "hidden" else "V")
        if family == "U" and axis != "hidden":
            self._wrong_map(symbol, "what has the axis (hidden)", vector, "W" if axis == "input" else "V")
        out = self.declared_axis(str(symbol)) or "hidden"
        matrix = self.parameter(family, name, (out, axis))
        return self.record("product", matrix, vector)

    def _wrong_map(self, symbol: Symbol, takes: str, vector: Node, other: str) -> NoReturn:
        here = _bracket(self.text(vector))
        self.fail(
            f"{symbol.family} maps {takes}; {self.text(vector)} is {axes_text(vector.shape)}.\n"
            f"  Did you mean {other}.{symbol.name} @ {here}?",
            ShapeError,
            f"{symbol} @ {here}",
        )

    def _written(self, operand: object) -> str:
        return _bracket(self.text(operand.node)) if isinstance(operand, Value) else str(operand)


def _given(option: Mapping[str, T], symbol: str) -> T | None:
    """What an option says of a symbol; U.h speaks for U.h[0], U.h[1], … too."""
    return option.get(symbol, option.get(symbol.partition("[")[0]))


def _bracket(text: str) -> str:
    return text if text.isidentifier() else f"({text})"
