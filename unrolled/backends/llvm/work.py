"""The work of one step: what stands in memory, what is computed from it, and where the results go."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from unrolled.ir.graph import Graph, Node, copy_into
from unrolled.ir.ops import OPERATIONS, Shape
from unrolled.ir.structure import DENSE


class Index(Enum):
    """How the place of a row's value in a buffer is found."""

    STEP = auto()  # the row's own step of a sequence of the caller's
    BEFORE = auto()  # the step before it: the old value of a state; at the first step, or after a reset, another buffer
    LOOKUP = auto()  # a row of a table, named by a whole number at the row's own step
    KEPT = auto()  # the row's own step of a sequence without padding
    CARRIED = auto()  # two buffers in turn: what this step reads, and what it leaves for the next
    SCRATCH = auto()  # one value for each row, of this step alone
    ROW = auto()  # one value for each row of the caller's batch
    CLOCK = auto()  # one value for each step, the same for all rows
    FIXED = auto()  # one value for all


@dataclass(frozen=True)
class Buffer:
    """A place in memory, (…, axis); `axis` is "" for one number."""

    name: str
    axis: str
    index: Index


@dataclass(frozen=True)
class Joint:
    """Buffers that lie side by side, so that one product can read all of them."""

    name: str
    parts: tuple[Buffer, ...]


@dataclass
class Work:
    """What one step computes.

    given    nodes that stand in memory when the step begins
    stores   (node, buffer) for each result
    sums     (node, buffer) for what is summed over steps and rows
    joints   the buffers that lie side by side
    axes     axis -> its name here: axes of one size that `raw` joins have one name
    extra    sizes of axes that the plan does not know: the ranks of maps
    names    what the equations call a value, for the reader of the generated code
    when_due   buffer -> the periods of the tick, if it is read of units that are due alone
    """

    given: dict[Node, Buffer]
    stores: list[tuple[Node, Buffer]]
    sums: list[tuple[Node, Buffer]] = field(default_factory=list)
    joints: list[Joint] = field(default_factory=list)
    axes: dict[str, str] = field(default_factory=dict)
    extra: dict[str, int] = field(default_factory=dict)
    names: dict[Node, str] = field(default_factory=dict)
    when_due: dict[Buffer, tuple[int, ...]] = field(default_factory=dict)

    def axis(self, shape: Shape) -> str:
        """The name of a vector's axis; "" for a number."""
        return self.axes.get(shape[0], shape[0]) if shape else ""


def unified_axes(nodes: Sequence[Node]) -> dict[str, str]:
    """One name for the axes that `raw` joins."""
    names: dict[str, str] = {}

    def root(axis: str) -> str:
        while names.get(axis, axis) != axis:
            axis = names[axis]
        return axis

    for node in nodes:
        if node.op == "raw":
            one, other = root(node.shape[0]), root(node.args[0].shape[0])
            if one != other:
                names[max(one, other)] = min(one, other)
    return {axis: root(axis) for axis in names}


def plainer(
    roots: Sequence[Node], extra: dict[str, int], keep: Container[Node], resets: bool, tables: Container[Node] = ()
) -> dict[Node, Node]:
    """The graph with maps of low rank as two maps, and diagonal ones as products of units; old node -> new node.

    extra    receives the ranks, by the names of their axes
    keep     products to leave as they are
    resets   whether states may begin anew: then their old values stand in two places, and are brought to one where
             other units read them
    tables   values that are looked up in a table, which no product can read
    """

    def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
        kind = OPERATIONS[node.op].kind

        def read(old: Node, new: Node) -> Node:
            twofold = resets and kind in ("map", "units") and new.op == "state" and new.shape
            return graph.add("raw", new, axis=new.shape[0]) if twofold or (kind == "map" and old in tables) else new

        args = tuple(read(old, new) for old, new in zip(node.args, args, strict=True))
        if node.op in ("product", "transposed_product") and node not in keep:
            matrix, operand = args
            structure, shape = matrix["structure"], matrix.shape
            if structure.name == "diagonal":
                out = shape[0] if node.op == "product" else shape[1]
                entries = graph.add("parameter", family=matrix["family"], name=matrix["name"], shape=(out,))
                same = operand if operand.shape == (out,) else graph.add("raw", operand, axis=out)
                return graph.add("mul", entries, same)
            if structure.name == "low_rank":
                rank = f"rank {matrix.symbol}"
                extra[rank] = structure.number()
                family, name = matrix["family"], matrix["name"]

                def factor(part: str, axes: Shape) -> Node:
                    return graph.add("parameter", family=family, name=f"{name}/{part}", shape=axes, structure=DENSE)

                left, right = factor("left", (shape[0], rank)), factor("right", (rank, shape[1]))
                first, second = (right, left) if node.op == "product" else (left, right)
                return graph.add(node.op, second, graph.add(node.op, first, operand))
        return graph.add(node.op, *args, **dict(node.attributes))

    return copy_into(Graph(), roots, rewrite)
