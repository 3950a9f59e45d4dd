"""What the equations of a cell compute with: traced values, and symbols that become parameters at their first use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from unrolled.errors import CellError, did_you_mean
from unrolled.ir.graph import Node
from unrolled.ir.ops import OPERATIONS, Shape

if TYPE_CHECKING:
    from unrolled.language.trace import Trace

FAMILIES = {
    "W": "maps the input",
    "U": "maps states",
    "V": "maps the axis that it is given",
    "b": "is a bias",
    "p": "is a vector over the units",
    "s": "is a scalar",
}
_active = threading.local()


def active(what: object) -> Trace:
    """The trace under way, in which `what` is about to take part.

    Raises   CellError when there is none
    """
    trace: Trace | None = getattr(_active, "trace", None)
    if trace is None:
        raise CellError(f"{what} belongs into the equations of a cell")
    return trace


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Make `trace` the active one."""
    before = getattr(_active, "trace", None)
    _active.trace = trace
    try:
        yield
    finally:
        _active.trace = before


class Operand:
    """The operators that values and symbols share."""

    __slots__ = ()
    __array_ufunc__ = None  # a numpy scalar on the left leaves the operation to __rmul__ and its like

    def _record(self, op: str, sign: str, *operands: object) -> Value:
        return active(self).elementwise(op, sign, *operands)

    def __add__(self, other: object) -> Value:
        return self._record("add", "+", self, other)

    def __radd__(self, other: object) -> Value:
        return self._record("add", "+", other, self)

    def __sub__(self, other: object) -> Value:
        return self._record("sub", "-", self, other)

    def __rsub__(self, other: object) -> Value:
        return self._record("sub", "-", other, self)

    def __mul__(self, other: object) -> Value:
        return self._record("mul", "*", self, other)

    def __rmul__(self, other: object) -> Value:
        return self._record("mul", "*", other, self)

    def __truediv__(self, other: object) -> Value:
        return self._record("div", "/", self, other)

    def __rtruediv__(self, other: object) -> Value:
        return self._record("div", "/", other, self)

    def __neg__(self) -> Value:
        return self._record("neg", "-", self)

    def __lt__(self, other: object) -> Value:
        return self._record("less", "<", self, other)

    def __gt__(self, other: object) -> Value:
        return self._record("less", ">", other, self)

    def __le__(self, other: object) -> Value:
        return self._record("less_equal", "<=", self, other)

    def __ge__(self, other: object) -> Value:
        return self._record("less_equal", ">=", other, self)

    def __eq__(self, other: object) -> Value:  # type: ignore[override]
        return self._record("equal", "==", self, other)

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return 1 - (self == other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        active(self).fail(
            f"{self} has no truth value: a cell is traced once, for every row and step.\n"
            f"  Choose between two values with where(condition, a, b)."
        )

    def __pow__(self, other: object) -> Value:
        active(self).fail("'**' is no operation of the language; write x * x, sqrt(x) or exp(a * log(x))")

    __rpow__ = __pow__

    def __iter__(self) -> Iterator[Any]:
        active(self).fail(f"{self} cannot be taken apart: it stands for all units at once")

    def __float__(self) -> float:
        raise TypeError(f"{self} has no number yet: a cell is traced, never run")


class Value(Operand):
    """One value of the step: a node of the trace."""

    __slots__ = ("node", "trace")

    def __init__(self, trace: Trace, node: Node):
        self.trace = trace
        self.node = node

    def __str__(self) -> str:
        return self.trace.text(self.node)

    def __repr__(self) -> str:
        return f"<{self}: ({', '.join(self.node.shape)})>"

    def __matmul__(self, other: object) -> Value:
        self.trace.fail(f"'@' needs a map on its left, W.name, U.name or V.name; {self} is a value")

    __rmatmul__ = __matmul__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.trace.fail(f"{self} has no attribute {name!r}.{did_you_mean(name, language_operations())}")

    def __getitem__(self, key: object) -> Any:
        self.trace.fail(f"{self} cannot be indexed: it stands for all units at once")


class Symbol(Operand):
    """A parameter as the equations name it; its shape comes from its first use."""

    __slots__ = ("family", "name")

    def __init__(self, family: str, name: str):
        self.family = family
        self.name = name

    def __str__(self) -> str:
        return f"{self.family}.{self.name}"

    __repr__ = __str__

    def __getitem__(self, key: object) -> Symbol:
        if not isinstance(key, int):
            active(self).fail(f"{self}[…] is subscripted by integers, not {key!r}")
        return Symbol(self.family, f"{self.name}[{key}]")

    def resolve(self, trace: Trace, like: Shape | None) -> Node:
        """The node of a bias, vector or scalar, on the axis `like` unless one is declared."""
        if self.family in ("W", "U", "V"):
            trace.fail(f"{self} is a map: write {self} @ …")
        if self.family == "s":
            return trace.parameter("s", self.name, ())
        declared = trace.declared_axis(str(self))
        if declared is not None:
            like = (declared,)
        elif not like and str(self) in trace.symbols:
            like = trace.symbols[str(self)].shape
        return trace.parameter(self.family, self.name, like or ("hidden",))

    def __matmul__(self, other: object) -> Value:
        return active(self).map(self, other)

    def __rmatmul__(self, other: object) -> Value:
        active(self).fail(f"'@' needs its map on the left: {self} @ …")


class Family:
    """All symbols of one kind: `W.f`, `W.i`, …"""

    def __init__(self, name: str):
        self._family = name

    def __getattr__(self, name: str) -> Symbol:
        # Underscored names are asked for by inspectors, copiers and notebooks: they must find nothing.
        if name.startswith("_"):
            raise AttributeError(f"the name of a symbol does not begin with an underscore: {self._family}.{name}")
        return Symbol(self._family, name)

    def __matmul__(self, other: object) -> Value:
        active(self._family).fail(f"{self._family} needs a name: {self._family}.h @ …")

    def __repr__(self) -> str:
        return self._family


def language_operations() -> list[str]:
    """The names of the functions that a cell may call."""
    return [name for name, row in OPERATIONS.items() if not row.internal and name not in _WRITTEN_OTHERWISE]


_WRITTEN_OTHERWISE = {
    *("sequence", "row", "state", "parameter", "scalar", "constant", "product"),
    *("neg", "add", "sub", "mul", "div", "less", "less_equal", "equal"),
}
