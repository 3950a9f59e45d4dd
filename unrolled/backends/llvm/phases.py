"""The phases of a step: what can be computed before all units must have been waited for, and what each phase reads.

A phase begins with reductions, each over the units of one row, and goes on with blocks, each over the units of one
axis: matrix products, then every unit alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unrolled.backends.llvm.due import Periods, chosen_by, zero_unless_due
from unrolled.backends.llvm.work import Buffer, Index, Joint, Work
from unrolled.ir.graph import Node, reachable, users
from unrolled.ir.ops import OPERATIONS
from unrolled.ir.structure import DENSE, Structure

PRODUCTS = ("product", "transposed_product")
# Reductions whose value at a unit is written with its argument there and one or two numbers of the row.
BY_NUMBERS = {"layer_norm": ("mean", "scale"), "softmax": ("largest", "scale")}
_READABLE = (Index.STEP, Index.KEPT)


@dataclass(frozen=True)
class Segment:
    """A stretch of a product: operands side by side in memory, and the maps that read them.

    slots   for each map the accumulator of its pass that it adds to
    maps    for each slot and each operand the product with that operand
    due     the clock without which the operand is zero
    """

    operand: Buffer
    widths: tuple[str, ...]
    slots: tuple[int, ...]
    maps: tuple[tuple[Node, ...], ...]
    due: Buffer | None = None

    @property
    def structure(self) -> Structure:
        """The structure that all maps have."""
        return structure_of(self.maps[0][0])


@dataclass(frozen=True)
class Pass:
    """Accumulators that one run of a tile computes; `due` is the clock that chooses all that is read of them."""

    accumulators: tuple[int, ...]
    segments: tuple[Segment, ...]
    due: Buffer | None = None


@dataclass(frozen=True)
class Block:
    """What is computed for each unit of an axis.

    axis          "" for numbers
    sums          accumulator -> the node whose value it is, and the other terms of that sum
    nodes         what is computed, arguments first
    stores        where results go
    partials      what is summed over rows and steps
    """

    axis: str
    sums: tuple[tuple[Node, tuple[Node, ...]], ...]
    passes: tuple[Pass, ...]
    nodes: tuple[Node, ...]
    stores: tuple[tuple[Node, Buffer], ...]
    partials: tuple[tuple[Node, Buffer], ...]


@dataclass(frozen=True)
class Reduction:
    """A value over the units of a row: where its argument stands, and where it goes."""

    node: Node
    argument: Buffer
    results: tuple[Buffer, ...]


@dataclass(frozen=True)
class Phase:
    """Reductions, then blocks."""

    reductions: tuple[Reduction, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Step:
    """All phases, and for each node that is read from memory its buffer."""

    phases: tuple[Phase, ...]
    places: Mapping[Node, Buffer]
    numbers: Mapping[Node, tuple[Buffer, ...]]
    work: Work = field(repr=False)

    @property
    def text(self) -> str:
        """All that code depends on: steps of equal text have equal code."""
        # A node is shown with the numbers of its arguments alone; here those stand too, constants and maps among them.
        nodes = reachable([node for node, _ in (*self.work.stores, *self.work.sums)])
        return f"{nodes} {self.phases} {list(self.places.items())} {list(self.numbers.items())}"

    @property
    def passes(self) -> list[tuple[Block, Pass]]:
        """All passes, with their blocks."""
        return [(block, each) for phase in self.phases for block in phase.blocks for each in block.passes]


def structure_of(product: Node) -> Structure:
    """The structure of the map of a product."""
    structure = product.args[0]["structure"]
    assert isinstance(structure, Structure)
    return structure


def make_step(work: Work, panels: int = 4) -> Step:
    """Arrange the work; a pass has at most `panels` accumulators."""
    return _Arrangement(work, panels).step()


class _Arrangement:
    """The making of one step."""

    def __init__(self, work: Work, panels: int):
        self.work = work
        self.panels = panels
        self.roots = [node for node, _ in (*work.stores, *work.sums)]
        given = set(work.given)
        self.nodes = [node for node in reachable(self.roots, set(given)) if node.args]
        self.used = users(self.nodes)
        self.own = set(self.nodes)
        self.level: dict[Node, int] = {}
        self._find_levels()
        self._sink_free()
        self._sink_cheap()
        self.places: dict[Node, Buffer] = dict(work.given)
        self.numbers: dict[Node, tuple[Buffer, ...]] = {}
        self.scratch: list[tuple[Node, Buffer]] = []
        self._find_places()

    # Levels

    def _find_levels(self) -> None:
        for node in self.nodes:
            before = max([0, *(self.level[arg] for arg in node.args if arg in self.own)])
            waits = OPERATIONS[node.op].kind != "elementwise"
            self.level[node] = before + 1 if waits else max(before, 1)

    def _latest(self, node: Node) -> int | None:
        """The last level at which all users still find the node."""
        latest = [
            self.level[user] - (OPERATIONS[user.op].kind != "elementwise")
            for user in self.used.get(node, ())
            if user in self.own
        ]
        return min(latest) if latest else None

    def _sink_free(self) -> None:
        """What waits for nothing is computed where it is first read."""
        free: set[Node] = set()
        for node in self.nodes:
            inside = [arg for arg in node.args if arg in self.own]
            reduction = OPERATIONS[node.op].kind == "units"
            if not reduction and not (node.op in PRODUCTS and inside) and all(arg in free for arg in inside):
                free.add(node)
        for node in reversed(self.nodes):
            latest = self._latest(node)
            if node in free and latest is not None:
                self.level[node] = max(self.level[node], latest)

    def _sink_cheap(self) -> None:
        """A cheap value that only later levels read is computed there, if that reads nothing more from memory."""
        for node in reversed(self.nodes):
            row = OPERATIONS[node.op]
            latest = self._latest(node)
            if row.kind != "elementwise" or not row.cheap or latest is None or latest <= self.level[node]:
                continue
            inside = [arg for arg in node.args if arg in self.own]
            if all(self._read_later(arg, node, latest) for arg in inside):
                self.level[node] = latest

    def _read_later(self, node: Node, reader: Node, level: int) -> bool:
        """Whether the node is read from memory at the level anyway."""
        return any(user is not reader and self.level[user] >= level for user in self.used[node] if user in self.own)

    # Memory

    def _find_places(self) -> None:
        """A buffer for each value that a later level, a product or a reduction reads."""
        for node, buffer in self.work.stores:
            if buffer.index in _READABLE and node not in self.places:
                self.places[node] = buffer
        for node in self.nodes:
            if node.op in BY_NUMBERS:
                self.numbers[node] = tuple(self._new(node, "", f" {name}") for name in BY_NUMBERS[node.op])
            own = OPERATIONS[node.op].kind == "units" and node not in self.numbers
            if node not in self.places and (own or self._is_read(node)):
                self.places[node] = self._new(node, self.work.axis(node.shape))
                if not own:
                    self.scratch.append((node, self.places[node]))

    def _new(self, node: Node, axis: str, what: str = "") -> Buffer:
        return Buffer(f"{node.op} {node.index}{what}", axis, Index.SCRATCH)

    def _is_read(self, node: Node) -> bool:
        """Whether a product, a reduction or a later level reads the value from memory."""
        readers = [user for user in self.used.get(node, ()) if user in self.own]
        if any(OPERATIONS[user.op].kind != "elementwise" for user in readers):
            return True
        return node not in self.numbers and any(self.level[user] > self.level[node] for user in readers)

    # Phases

    def step(self) -> Step:
        levels = range(1, max([1, *self.level.values()]) + 1)
        return Step(tuple(self._phase(level) for level in levels), self.places, self.numbers, self.work)

    def _phase(self, level: int) -> Phase:
        reductions = []
        for node in self.nodes:
            if self.level[node] == level and OPERATIONS[node.op].kind == "units":
                (argument,) = node.args
                results = self.numbers.get(node) or (self.places[node],)
                reductions.append(Reduction(node, self.places[argument], results))
        targets: dict[str, list[tuple[Node, Buffer, bool]]] = defaultdict(list)
        for summed, pairs in ((False, [*self.work.stores, *self.scratch]), (True, self.work.sums)):
            for node, buffer in pairs:
                if self.level.get(node, 1) == level:
                    targets[buffer.axis].append((node, buffer, summed))
        # Numbers last: their blocks are no longer than others, and nothing waits for them.
        blocks = [self._block(level, axis, targets[axis]) for axis in sorted(targets, reverse=True)]
        return Phase(tuple(reductions), tuple(blocks))

    def _available(self, node: Node, level: int) -> bool:
        """Whether the value is read from memory at this level."""
        if node in self.work.given or not node.args:
            return True
        if node in self.numbers:
            return False
        return OPERATIONS[node.op].kind == "units" or (self.level[node] < level and node in self.places)

    def _block(self, level: int, axis: str, targets: Sequence[tuple[Node, Buffer, bool]]) -> Block:
        roots = [node for node, _, _ in targets]
        nodes: list[Node] = []
        seen: set[Node] = set()
        stack = [(root, False) for root in reversed(roots)]
        while stack:
            node, done = stack.pop()
            if done:
                nodes.append(node)
                continue
            if node in seen or self._available(node, level):
                continue
            seen.add(node)
            stack.append((node, True))
            if node.op in PRODUCTS:
                continue
            stack.extend((arg, False) for arg in reversed(node.args))
        sums, inner = self._accumulators(nodes, roots)
        nodes = [node for node in nodes if node not in inner]
        return Block(
            axis,
            tuple((node, rest) for node, _, rest in sums),
            self._passes([products for _, products, _ in sums], self._due(axis, nodes, targets, sums)),
            tuple(nodes),
            tuple((node, buffer) for node, buffer, summed in targets if not summed),
            tuple((node, buffer) for node, buffer, summed in targets if summed),
        )

    def _accumulators(
        self, nodes: Sequence[Node], roots: Sequence[Node]
    ) -> tuple[list[tuple[Node, list[Node], tuple[Node, ...]]], set[Node]]:
        """(value, its products, its other terms) for each accumulator; and the nodes that are only parts of one.

        Products that meet in one sum share an accumulator.
        """
        here, fixed = set(nodes), set(roots)
        inner: set[Node] = set()
        found: list[tuple[Node, list[Node], tuple[Node, ...]]] = []

        def single(node: Node) -> bool:
            inside = [user for user in self.used.get(node, ()) if user in here]
            return node in here and node not in fixed and len(inside) == 1 and node.args != ()

        for node in reversed(nodes):
            if node in inner:
                continue
            if node.op in PRODUCTS:
                found.append((node, [node], ()))
                continue
            if node.op != "add":
                continue
            products, rest, inside = [], [], []
            stack = list(node.args)[::-1]
            while stack:
                term = stack.pop()
                if term.op in PRODUCTS and single(term):
                    products.append(term)
                elif term.op == "add" and single(term) and term.shape == node.shape:
                    inside.append(term)
                    stack += term.args[::-1]
                else:
                    rest.append(term)
            if products:
                found.append((node, products, tuple(rest)))
                inner.update(inside, products)
        return found[::-1], inner

    def _due(
        self,
        axis: str,
        nodes: Sequence[Node],
        targets: Sequence[tuple[Node, Buffer, bool]],
        sums: Sequence[tuple[Node, Sequence[Node], tuple[Node, ...]]],
    ) -> list[Buffer | None]:
        """For each accumulator the clock that chooses all that is read of it."""
        clocks = {
            node["periods"]: buffer
            for node, buffer in self.work.given.items()
            if node.op == "tick" and buffer.axis == axis
        }
        if not clocks:
            return [None] * len(sums)
        used = users(nodes)
        read: dict[Node, list[Periods | None]] = defaultdict(list)
        for node, buffer, _ in targets:
            read[node].append(self.work.when_due.get(buffer))
        found = [chosen_by([node], used, read) for node, _, _ in sums]
        return [None if periods is None else clocks.get(periods) for periods in found]

    def _passes(self, accumulators: Sequence[Sequence[Node]], due: Sequence[Buffer | None]) -> tuple[Pass, ...]:
        passes = []
        count = -(-len(accumulators) // self.panels)
        for number in range(count):
            first, last = number * len(accumulators) // count, (number + 1) * len(accumulators) // count
            by_operand: dict[tuple[Node, Structure | Node], dict[int, Node]] = {}
            for slot, products in enumerate(accumulators[first:last]):
                for product in products:
                    structure = structure_of(product)
                    kind: Structure | Node = structure if structure == DENSE else product
                    while slot in by_operand.get((product.args[1], kind), {}):
                        kind = product  # a second map of the same operand in the same sum
                    by_operand.setdefault((product.args[1], kind), {})[slot] = product
            segments = [self._segment(operand, maps) for (operand, _), maps in by_operand.items()]
            clock = due[first] if len(set(due[first:last])) == 1 else None
            passes.append(Pass(tuple(range(first, last)), tuple(self._joined(segments)), clock))
        return tuple(passes)

    def _segment(self, operand: Node, maps: Mapping[int, Node]) -> Segment:
        place = self.places[operand]
        tick = zero_unless_due(operand)
        due = None if tick is None else self.places[tick]
        return Segment(place, (place.axis,), tuple(maps), tuple((product,) for product in maps.values()), due)

    def _joined(self, segments: Iterable[Segment]) -> list[Segment]:
        """The segments, those that read neighbours in memory as one."""
        joints = {part: (joint, index) for joint in self.work.joints for index, part in enumerate(joint.parts)}
        waiting = sorted(segments, key=lambda segment: joints[segment.operand][1] if segment.operand in joints else -1)
        found: list[Segment] = []
        while waiting:
            segment = waiting.pop(0)
            joint, index = joints.get(segment.operand, (Joint("", ()), 0))
            for part in joint.parts[index + 1 :]:
                following = next((other for other in waiting if self._continues(segment, other, part)), None)
                if following is None:
                    break
                waiting.remove(following)
                maps = tuple((*one, *more) for one, more in zip(segment.maps, following.maps, strict=True))
                segment = Segment(segment.operand, (*segment.widths, *following.widths), segment.slots, maps)
            found.append(segment)
        return found

    @staticmethod
    def _continues(segment: Segment, other: Segment, part: Buffer) -> bool:
        dense = segment.structure == DENSE and other.structure == DENSE
        return dense and other.operand == part and other.slots == segment.slots
