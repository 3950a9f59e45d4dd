"""The work of a reverse step, from the plan: the cotangents of one step from those of the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from unrolled.backends.llvm.due import chosen_last
from unrolled.backends.llvm.forward import fixed_buffer, is_of_rows, old_state
from unrolled.backends.llvm.work import Buffer, Index, Joint, Work, plainer, unified_axes
from unrolled.ir.backward import Backward, Contribution
from unrolled.ir.graph import Graph, Node, copy_into, reachable
from unrolled.ir.plan import Plan


@dataclass(frozen=True)
class Stack:
    """Cotangents that stand side by side in a kept sequence: columns `first` to `last` of a joint."""

    joint: str
    first: int
    last: int


@dataclass(frozen=True)
class Share:
    """A part of the gradient of a group of symbols: stacked cotangents times an operand.

    symbols   the places of the symbols in their group
    operand   a leaf of the plan's backward, or the kept buffer of what was computed
    """

    symbols: tuple[int, ...]
    stack: Stack
    operand: Node | Buffer


@dataclass(frozen=True)
class Passed:
    """The gradient of an input: products of stacked cotangents with maps, taken after the loop, and the rest of it.

    products   (stack, the maps that it is multiplied with) pairs
    rest       the sequence of what is added, if anything is
    """

    products: tuple[tuple[Stack, tuple[Node, ...]], ...]
    rest: Buffer | None


@dataclass(frozen=True)
class Reverse:
    """The backward work, and what the caller has to lay ready for it and to do with its results.

    seeds     tap -> the buffer of its cotangent
    carried   state -> the buffer of its cotangent
    shares    for each group of the plan
    sums      for each group the (place of the symbol, buffer) pairs of what is summed in the loop
    passed    input -> its gradient
    rows      row value -> the sequence that is summed over time, if it has a gradient
    kept      sequences of what the loop computes and that stand alone
    """

    work: Work
    once: tuple[tuple[Node, Buffer], ...]
    saved: tuple[Buffer, ...]
    seeds: Mapping[str, Buffer]
    carried: Mapping[str, Buffer]
    shares: tuple[tuple[Share, ...], ...]
    sums: tuple[tuple[tuple[int, Buffer], ...], ...]
    passed: Mapping[str, Passed]
    rows: Mapping[str, Buffer]
    kept: tuple[Buffer, ...]


def make_reverse(plan: Plan, wanted: frozenset[str], resets: bool = False) -> Reverse:
    """The backward work of a plan.

    wanted   the inputs and row values whose gradients are asked for
    resets   whether states may begin anew within a sequence
    """
    return _Making(plan, wanted, resets).reverse()


def _added(one: Node, other: Node) -> Node:
    return Node("add", (one, other), one.shape, (), max(one.index, other.index))


class _Making:
    """The making of one reverse work."""

    def __init__(self, plan: Plan, wanted: frozenset[str], resets: bool):
        self.plan = plan
        self.resets = resets
        self.wanted = wanted
        self.backward: Backward = plan.backward
        self.stacks: dict[tuple[Node, ...], Stack] = {}
        self.joints: list[tuple[str, tuple[Node, ...]]] = []
        self.carried: dict[str, Buffer] = {}

    def reverse(self) -> Reverse:
        plan, backward, program = self.plan, self.backward, self.plan.program
        parts = [self._parts(group) for group in backward.groups]
        passed_parts = self._passed_parts()
        row_roots = {
            leaf["name"]: node
            for leaf, node in backward.results.items()
            if leaf.op == "row" and leaf["name"] in self.wanted
        }
        tuples = [part[1] for group in parts for part in group[0]]
        tuples += [cotangents for products, _ in passed_parts.values() for cotangents, _ in products]
        self._lay_out(tuples)
        operands = {operand for group in parts for _, _, operand in group[0] if operand.args}
        rest_roots = {name: rest for name, (_, rest) in passed_parts.items() if rest is not None}
        roots = [
            *backward.carried.values(),
            *(node for _, nodes in self.joints for node in nodes),
            *operands,
            *(node for _, sums in parts for _, node in sums),
            *rest_roots.values(),
            *row_roots.values(),
        ]
        seeded = self._seeded(roots)
        extra: dict[str, int] = {}
        image = plainer(list(seeded.values()), extra, (), self.resets)
        image = {node: image[new] for node, new in seeded.items()}
        axes = unified_axes(list(image.values()))
        called = {node: plan.names.get(original) for node, original in backward.origin.items()}
        names = {new: name for node, new in image.items() if (name := called.get(node)) is not None}
        work = Work(given={}, stores=[], axes=axes, extra=extra, names=names)
        once = self._give(work, image)
        for name, shape in program.states:
            node = backward.carried.get(name)
            buffer = self.carried[name]
            result = image[node] if node is not None else Graph().constant(0.0)
            work.stores.append((result, Buffer(buffer.name, work.axis(shape), Index.CARRIED)))
        for name, nodes in self.joints:
            buffers = tuple(
                Buffer(f"{name} {number}", work.axis(node.shape), Index.KEPT) for number, node in enumerate(nodes)
            )
            work.joints.append(Joint(name, buffers))
            work.stores += [(image[node], buffer) for node, buffer in zip(nodes, buffers, strict=True)]

        def keep(prefix: str, node: Node) -> Buffer:
            buffer = Buffer(prefix, work.axis(node.shape), Index.KEPT)
            work.stores.append((image[node], buffer))
            return buffer

        kept_operands = {
            node: keep(f"operand {number}", node)
            for number, node in enumerate(sorted(operands, key=lambda node: node.index))
        }
        shares = tuple(
            tuple(
                Share(symbols, self.stacks[cotangents], kept_operands.get(operand, operand))
                for symbols, cotangents, operand in group
            )
            for group, _ in parts
        )
        sums = []
        for number, (_, summed) in enumerate(parts):
            pairs = []
            for place, node in summed:
                buffer = Buffer(f"sum {number} {place}", work.axis(node.shape), Index.FIXED)
                work.sums.append((image[node], buffer))
                pairs.append((place, buffer))
            sums.append(tuple(pairs))
        passed = {
            name: Passed(
                tuple((self.stacks[cotangents], maps) for cotangents, maps in products),
                keep(f"rest {name}", rest) if rest is not None else None,
            )
            for name, (products, rest) in passed_parts.items()
        }
        rows = {name: keep(f"d_row {name}", node) for name, node in row_roots.items()}
        return Reverse(
            work,
            tuple(once),
            tuple(
                Buffer(f"saved {number}", work.axis(node.shape), Index.STEP)
                for number, (node, _) in enumerate(backward.saved)
            ),
            {
                name: Buffer(f"d_tap {name}", work.axis(backward.seeds[f"tap_{name}"].shape), Index.STEP)
                for name in plan.taps
            },
            {
                name: Buffer(buffer.name, work.axis(dict(program.states)[name]), Index.CARRIED)
                for name, buffer in self.carried.items()
            },
            shares,
            tuple(sums),
            passed,
            rows,
            (*kept_operands.values(), *(p.rest for p in passed.values() if p.rest is not None), *rows.values()),
        )

    def _parts(
        self, contributions: Sequence[Contribution]
    ) -> tuple[list[tuple[tuple[int, ...], tuple[Node, ...], Node]], list[tuple[int, Node]]]:
        """Of a group: (places of symbols, their cotangents, operand) for products, (place, cotangent) for sums."""
        products: list[tuple[tuple[int, ...], tuple[Node, ...], Node]] = []
        sums: list[tuple[int, Node]] = []
        for part in contributions:
            present = [(place, node) for place, node in enumerate(part.cotangents) if node is not None]
            if part.operand is None:
                sums += present
                continue
            if len(present) == len(part.cotangents):
                products.append((tuple(range(len(present))), tuple(node for _, node in present), part.operand))
            else:
                products += [((place,), (node,), part.operand) for place, node in present]
        return products, sums

    def _passed_parts(
        self,
    ) -> dict[str, tuple[list[tuple[tuple[Node, ...], tuple[Node, ...]]], Node | None]]:
        """For each input whose gradient is wanted: the products that are taken after the loop, and the rest."""
        found = {}
        for leaf, node in self.backward.results.items():
            if leaf.op != "sequence" or leaf["name"] not in self.wanted:
                continue
            terms, stack = [], [node]
            while stack:
                term = stack.pop()
                if term.op == "add" and term.shape == node.shape:
                    stack += term.args[::-1]
                else:
                    terms.append(term)
            products = [term for term in terms if term.op == "transposed_product"]
            others = [term for term in terms if term.op != "transposed_product"]
            rest = reduce(_added, others) if others else None
            dense = [term for term in products if term.args[0]["structure"].name == "dense"]
            single = [term for term in products if term not in dense]
            groups = []
            if dense:
                dense.sort(key=lambda term: term.args[0].index)
                groups.append((tuple(term.args[1] for term in dense), tuple(term.args[0] for term in dense)))
            groups += [((term.args[1],), (term.args[0],)) for term in single]
            found[leaf["name"]] = (groups, rest)
        return found

    def _lay_out(self, tuples: Sequence[tuple[Node, ...]]) -> None:
        """Joints for the tuples of cotangents; one that is a run of another's is a part of it."""
        for cotangents in sorted(dict.fromkeys(tuples), key=len, reverse=True):
            for name, nodes in self.joints:
                starts = [
                    start
                    for start in range(len(nodes) - len(cotangents) + 1)
                    if nodes[start : start + len(cotangents)] == cotangents
                ]
                if starts:
                    self.stacks[cotangents] = Stack(name, starts[0], starts[0] + len(cotangents))
                    break
            else:
                name = f"stack {len(self.joints)}"
                self.joints.append((name, cotangents))
                self.stacks[cotangents] = Stack(name, 0, len(cotangents))

    def _seeded(self, roots: Sequence[Node]) -> dict[Node, Node]:
        """The graph in which the cotangent of the output is what comes from outside plus what is carried."""
        program, seeds = self.plan.program, self.backward.seeds
        states = {seeds[name]: name for name, _ in program.states}
        output = program.states[0][0]
        for name, shape in program.states:
            self.carried[name] = Buffer(f"carried {name}", shape[0] if shape else "", Index.CARRIED)

        def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
            if node not in states:
                return chosen_last(graph, node, args)
            name = states[node]
            carried = graph.add("row", name=f"carried {name}", shape=node.shape)
            if name != output:
                return carried
            return graph.add("add", carried, graph.add("sequence", name="d_output", shape=node.shape))

        return copy_into(Graph(), roots, rewrite)

    def _give(self, work: Work, image: Mapping[Node, Node]) -> list[tuple[Node, Buffer]]:
        """Say where everything stands that the step begins from; returns what is computed once a call."""
        backward, program, given = self.backward, self.plan.program, work.given
        next_values = dict(backward.next_values)
        saved = {node: number for number, (node, _) in enumerate(backward.saved)}
        tap_seeds = {backward.seeds[f"tap_{name}"]: name for name in self.plan.taps}
        for node, new in image.items():
            axis = work.axis(node.shape)
            if node in saved:
                given[new] = Buffer(f"saved {saved[node]}", axis, Index.STEP)
            elif node in next_values:
                given[new] = Buffer(f"sequence {next_values[node]}", axis, Index.STEP)
            elif node in tap_seeds:
                given[new] = Buffer(f"d_tap {tap_seeds[node]}", axis, Index.STEP)
            elif node.op == "state":
                given[new] = old_state(node["name"], axis)
            elif node.op == "sequence" and node["name"] in dict(program.inputs):
                given[new] = Buffer(f"input {node['name']}", axis, Index.STEP)
            elif node.op == "tick":
                given[new] = Buffer(f"tick {node['periods']}", axis, Index.CLOCK)
            elif node.op in ("row", "scalar", "size") or (node.op == "parameter" and len(node.shape) < 2):
                given[new] = fixed_buffer(node, axis)
        for new in reachable(list(image.values())):
            if new.op == "row" and new["name"].startswith("carried "):
                given[new] = Buffer(new["name"], work.axis(new.shape), Index.CARRIED)
            elif new.op == "sequence" and new["name"] == "d_output":
                given[new] = Buffer("d_output", work.axis(new.shape), Index.STEP)
            elif new.op == "parameter" and len(new.shape) < 2:
                given[new] = fixed_buffer(new, work.axis(new.shape))
        once: list[tuple[Node, Buffer]] = []
        timed = self._timed(image)
        for node, new in image.items():
            if node.args and len(node.shape) < 2 and node not in timed and new not in given:
                kind = Index.ROW if is_of_rows(node) else Index.FIXED
                given[new] = Buffer(f"once {len(once)}", work.axis(node.shape), kind)
                once.append((node, given[new]))
        return once

    def _timed(self, image: Mapping[Node, Node]) -> set[Node]:
        """What changes from step to step."""
        found: set[Node] = set()
        for node in image:
            if node.op in ("sequence", "state", "tick") or any(arg in found for arg in node.args):
                found.add(node)
        return found
