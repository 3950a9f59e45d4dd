"""Graphs of operations: nodes interned per graph, so that equal expressions are one node; source order kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from unrolled.errors import CellError
from unrolled.ir.ops import OPERATIONS, Shape


class Node:
    """One operation on other nodes of its graph. `index` is its place in source order; compared by identity."""

    __slots__ = ("args", "attributes", "index", "op", "shape")

    def __init__(
        self, op: str, args: tuple[Node, ...], shape: Shape, attributes: tuple[tuple[str, Any], ...], index: int
    ):
        self.op = op
        self.args = args
        self.shape = shape
        self.attributes = attributes
        self.index = index

    def __getitem__(self, key: str) -> Any:
        for name, value in self.attributes:
            if name == key:
                return value
        raise KeyError(key)

    @property
    def symbol(self) -> str:
        """The name of a parameter as it is written: `W.f`."""
        return f"{self['family']}.{self['name']}"

    def __repr__(self) -> str:
        inside = [f"%{arg.index}" for arg in self.args] + [f"{key}={value}" for key, value in self.attributes]
        return f"%{self.index} {self.op}({', '.join(inside)})"


class Graph:
    """A growing list of nodes. Arguments always stand before the nodes that use them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._interned: dict[tuple[Any, ...], Node] = {}

    def add(self, op: str, *args: Node, **attributes: Any) -> Node:
        """The node of this operation on these arguments, new only if there is none yet.

        Raises   ShapeError when the axes do not fit the operation's rule
        """
        row = OPERATIONS[op]
        if len(args) != row.arity:
            raise CellError(f"{op} takes {row.arity} values, not {len(args)}")
        kept = tuple(sorted(attributes.items()))
        key = (op, tuple(arg.index for arg in args), repr(kept))
        node = self._interned.get(key)
        if node is None:
            shape = row.shape(tuple(arg.shape for arg in args), attributes)
            node = Node(op, args, shape, kept, len(self.nodes))
            self.nodes.append(node)
            self._interned[key] = node
        return node

    def constant(self, value: float) -> Node:
        """The node of a number."""
        return self.add("constant", shape=(), value=float(value) + 0.0)  # -0.0 is 0.0, as its text is

    def leaf(self, op: str, name: str, shape: Shape) -> Node:
        """A sequence, row, state or scalar."""
        return self.add(op, name=name, shape=shape)


Rewrite = Callable[[Graph, Node, tuple[Node, ...]], Node]


def again(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
    """The rewrite that changes nothing: the same operation on the new arguments."""
    return graph.add(node.op, *args, **dict(node.attributes))


def reachable(roots: Iterable[Node], seen: set[Node] | None = None) -> list[Node]:
    """Every node that the roots depend on, roots included, arguments first, each where it is first needed.

    seen   nodes to leave out; what is found is added to it
    """
    order: list[Node] = []
    seen = set() if seen is None else seen
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args) if arg not in seen)
    return order


def in_source_order(nodes: Iterable[Node]) -> list[Node]:
    """The nodes by their index."""
    return sorted(nodes, key=lambda node: node.index)


def copy_into(graph: Graph, roots: Iterable[Node], rewrite: Rewrite = again) -> dict[Node, Node]:
    """Copy what the roots depend on into `graph`, each node as `rewrite` makes it, in source order.

    returns   old node -> new node
    """
    image: dict[Node, Node] = {}
    for node in in_source_order(reachable(roots)):
        image[node] = rewrite(graph, node, tuple(image[arg] for arg in node.args))
    return image


def users(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """For each argument, the nodes among `nodes` that use it."""
    found: dict[Node, list[Node]] = {}
    for node in nodes:
        for arg in node.args:
            found.setdefault(arg, []).append(node)
    return found


def verify(nodes: Iterable[Node]) -> None:
    """Raise unless every node obeys its operation's row: known name, arity, axes, arguments before it."""
    for node in nodes:
        row = OPERATIONS.get(node.op)
        if row is None:
            raise CellError(f"unknown operation {node.op!r}")
        if len(node.args) != row.arity:
            raise CellError(f"{node.op} takes {row.arity} values, not {len(node.args)}")
        if any(arg.index >= node.index for arg in node.args):
            raise CellError(f"{node!r} stands before one of its arguments")
        try:
            expected = row.shape(tuple(arg.shape for arg in node.args), dict(node.attributes))
        except KeyError as missing:
            raise CellError(f"{node!r} lacks its attribute {missing.args[0]}") from None
        if node.shape != expected:
            raise CellError(f"{node!r} has axes {node.shape}, its operation gives {expected}")


def listing(nodes: Iterable[Node], names: Mapping[Node, str] | None = None) -> str:
    """The nodes, one a line, with their axes: what `unrolled show --ir` prints."""
    names = names or {}
    rows = []
    for node in nodes:
        axes = ", ".join(node.shape)
        name = f"   # {names[node]}" if node in names else ""
        rows.append(f"{node!r}: ({axes}){name}")
    return "\n".join(rows)
