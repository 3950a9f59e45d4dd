"""The backward plan: what is saved, what is computed before, in and after the reverse loop.

Only the cotangents of the states flow through the loop. What depends on saved values alone is computed before it, over
all time at once; the gradients of inputs and parameters are large products over all time after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unrolled.ir.gradient import gradient
from unrolled.ir.graph import Graph, Node, in_source_order, reachable, users
from unrolled.ir.ops import OPERATIONS
from unrolled.ir.program import Program
from unrolled.ir.regroup import regroup_into
from unrolled.ir.structure import DENSE


@dataclass(frozen=True)
class Accumulation:
    """Cotangents times stacked maps, transposed: one product for all maps whose cotangents meet in one sum.

    `node` is the sum, `rest` what is added to the product. A map that is not dense is alone.
    """

    node: Node
    maps: tuple[Node, ...]
    cotangents: tuple[Node, ...]
    rest: tuple[Node, ...] = ()


@dataclass(frozen=True)
class ReverseStage:
    """What the reverse step can do without waiting for other units; the first stage has no products."""

    products: tuple[Accumulation, ...]
    reductions: tuple[Node, ...]
    elementwise: tuple[Node, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All of it, in order."""
        return (*self.products, *self.reductions, *self.elementwise)


@dataclass(frozen=True)
class Contribution:
    """A part of the gradient of a group: its symbols' cotangents, stacked, times `operand`, over all time and rows.

    Without an operand, as for biases, the cotangents themselves are summed. A symbol without a cotangent has None.
    """

    cotangents: tuple[Node | None, ...]
    operand: Node | None


Item = Node | Accumulation


@dataclass(frozen=True)
class Backward:
    """The reverse loop of a plan. Its nodes are of a graph of its own, which holds the forward step too.

    seeds        state name, or tap_<name> -> the leaf of its cotangent
    saved        (node here, node of the forward plan) pairs: what forward keeps for backward, in source order
    kept_states  the states whose values at every step are kept besides; that of the output is the output
    next_values  (node, state): forward values that are a kept state's own sequence
    before       over all time: values computed again, and slopes
    loop         one step, given the cotangents of the next states, stage by stage
    kept         loop values that are read after the loop
    after        over all time: what the gradients of inputs, row values, biases and vectors need
    groups       for each group of the plan, the large products and sums that are its gradient
    origin       forward value here -> node of the forward plan
    carried      state name -> cotangent of its old value, which the next turn of the loop starts from
    results      sequence, row or parameter leaf -> its cotangent; that of a parameter is summed over time and rows
    """

    seeds: Mapping[str, Node]
    saved: tuple[tuple[Node, Node], ...]
    kept_states: tuple[str, ...]
    next_values: tuple[tuple[Node, str], ...]
    before: tuple[Node, ...]
    loop: tuple[ReverseStage, ...]
    kept: tuple[Node, ...]
    after: tuple[Item, ...]
    groups: tuple[tuple[Contribution, ...], ...]
    origin: Mapping[Node, Node]
    carried: Mapping[str, Node]
    results: Mapping[Node, Node]

    @property
    def roots(self) -> tuple[Node, ...]:
        """What everything here is reachable from."""
        values = (*self.carried.values(), *self.results.values(), *self.seeds.values())
        return (*values, *(node for node, _ in self.saved))

    def saved_floats(self, sizes: Mapping[str, int]) -> int:
        """Numbers kept for each row and step, the output included."""
        kept = [node for node, _ in self.saved] + [self.seeds[name] for name in self.kept_states]
        return sum(sizes[node.shape[0]] if node.shape else 1 for node in kept)


class _Saved(NamedTuple):
    nodes: list[Node]
    states: tuple[str, ...]
    next_values: tuple[tuple[Node, str], ...]
    recomputed: set[Node]


def backward_of(program: Program, taps: tuple[str, ...], groups: Sequence[Sequence[str]]) -> Backward:
    """The backward plan of a simplified program, whose parameters are stored in `groups` of symbols."""
    made = gradient(program, taps)
    carried_names = {made.seeds[name]["name"] for name, _ in program.states}
    waiting: set[Node] = set()
    for node in made.graph.nodes:
        own = node.op == "sequence" and node["name"] in carried_names
        if own or any(arg in waiting for arg in node.args):
            waiting.add(node)
    graph = Graph()
    early = set(made.graph.nodes) - waiting
    image = regroup_into(graph, [*made.image.values(), *made.cotangents.values()], early.__contains__)
    seeds = {
        name: image.get(node, graph.leaf("sequence", node["name"], node.shape)) for name, node in made.seeds.items()
    }
    origin = {image[node]: original for original, node in made.image.items()}
    cotangents = {image[leaf]: image[node] for leaf, node in made.cotangents.items()}
    return _arrange(program, graph, seeds, origin, cotangents, groups)


def _arrange(
    program: Program,
    graph: Graph,
    seeds: Mapping[str, Node],
    origin: Mapping[Node, Node],
    cotangents: Mapping[Node, Node],
    groups: Sequence[Sequence[str]],
) -> Backward:
    flowing = {seeds[name] for name, _ in program.states}
    for node in graph.nodes:
        if any(arg in flowing for arg in node.args):
            flowing.add(node)
    carried = {leaf["name"]: node for leaf, node in cotangents.items() if leaf.op == "state"}
    results = {leaf: node for leaf, node in cotangents.items() if leaf.op != "state"}
    below_loop = in_source_order(reachable(carried.values()))
    loop = [node for node in below_loop if node in flowing and node.args]
    before = [node for node in below_loop if node not in flowing and node.args and node not in origin]
    contributions = _contributions(results, groups)
    operands = [part.operand for parts in contributions for part in parts if part.operand is not None]
    summed = [node for parts in contributions for part in parts for node in part.cotangents if node is not None]
    passed = [node for leaf, node in results.items() if leaf.op != "parameter"]
    last = [*passed, *summed, *operands]
    done = {*loop, *before, *origin}
    after = [node for node in in_source_order(reachable(last)) if node.args and node not in done]
    needed = {arg for node in (*loop, *before, *after) for arg in node.args if arg in origin}
    needed |= {node for node in (*carried.values(), *last) if node in origin}
    chosen = _choose_saved(program, needed, origin)
    read_after = {*last, *(arg for node in after for arg in node.args)}
    kept = {node for node in read_after if node in flowing and node not in after}
    return Backward(
        seeds=seeds,
        saved=tuple((node, origin[node]) for node in chosen.nodes),
        kept_states=chosen.states,
        next_values=chosen.next_values,
        before=tuple(in_source_order({*before, *chosen.recomputed})),
        loop=_stages(_fused(loop, {*carried.values(), *kept})),
        kept=tuple(in_source_order(kept)),
        after=_fused(after, set(last)),
        groups=contributions,
        origin=origin,
        carried=carried,
        results=results,
    )


def _choose_saved(program: Program, needed: set[Node], origin: Mapping[Node, Node]) -> _Saved:
    """What forward keeps: costly values that backward reads, and cheap ones that would need another value kept."""
    output = program.states[0][0]
    next_of = {node: name for (name, _), node in zip(program.states, program.results, strict=True)}
    kept_states = {output} | {node["name"] for node in needed if node.op == "state"}
    saved: set[Node] = set()
    timed = timed_nodes(in_source_order(reachable(needed)))

    def given(node: Node) -> bool:
        return node in saved or next_of.get(origin[node]) in kept_states

    def missing(root: Node) -> bool:
        """Whether computing it again needs a value that is not kept."""
        stack, seen = [root], {root}
        while stack:
            node = stack.pop()
            if given(node) or node not in timed:
                continue
            if node.op == "state" and node["name"] not in kept_states:
                return True
            if node.args and not OPERATIONS[node.op].cheap:
                return True
            stack += [arg for arg in node.args if arg not in seen]
            seen.update(node.args)
        return False

    candidates = [node for node in in_source_order(needed) if node.args and node in timed]
    saved |= {node for node in candidates if not OPERATIONS[node.op].cheap and not given(node)}
    for node in candidates:
        if missing(node):
            saved.add(node)
    recomputed: set[Node] = set()
    next_values: set[Node] = set()
    stack = list(needed - saved)
    while stack:
        node = stack.pop()
        if not node.args or node in saved:
            continue
        if given(node):
            next_values.add(node)
        elif node not in recomputed:
            recomputed.add(node)
            stack += node.args
    names = tuple((node, next_of[origin[node]]) for node in in_source_order(next_values))
    read = {node["name"] for item in (*recomputed, *needed) for node in (*item.args, item) if node.op == "state"}
    states = tuple(name for name, _ in program.states if name in read | {name for _, name in names})
    return _Saved(in_source_order(saved), states, names, recomputed)


def _contributions(
    results: Mapping[Node, Node], groups: Sequence[Sequence[str]]
) -> tuple[tuple[Contribution, ...], ...]:
    """The gradient of each group. The cotangent of a map is a sum of outer products, one for each operand it reads."""
    cotangents = {leaf.symbol: node for leaf, node in results.items() if leaf.op == "parameter"}
    found = []
    for symbols in groups:
        by_operand: dict[Node | None, dict[str, Node]] = {}
        for symbol in symbols:
            terms = [cotangents[symbol]] if symbol in cotangents else []
            while terms:
                term = terms.pop()
                if len(term.shape) == 2 and term.op == "add":
                    terms += term.args[::-1]
                elif term.op == "outer":
                    by_operand.setdefault(term.args[1], {})[symbol] = term.args[0]
                else:
                    by_operand.setdefault(None, {})[symbol] = term
        parts = [
            Contribution(tuple(of_symbol.get(symbol) for symbol in symbols), operand)
            for operand, of_symbol in by_operand.items()
        ]
        found.append(tuple(parts))
    return tuple(found)


def _fused(nodes: list[Node], fixed: set[Node]) -> tuple[Item, ...]:
    """The nodes in order, their transposed products joined where dense ones meet in one sum."""
    used = users(nodes)
    own = set(nodes)

    def single(node: Node) -> bool:
        return node in own and node not in fixed and len(used.get(node, [])) == 1

    def product(node: Node) -> bool:
        return node in own and node.op == "transposed_product"

    absorbed: set[Node] = set()
    sums: dict[Node, Accumulation] = {}
    for node in reversed(nodes):
        if node in absorbed or node.op != "add":
            continue
        terms, inside, stack = [], [], list(node.args)[::-1]
        while stack:
            term = stack.pop()
            if term.op == "add" and single(term) and term.shape == node.shape:
                inside.append(term)
                stack += term.args[::-1]
            else:
                terms.append(term)
        products = [t for t in terms if product(t) and single(t) and t.args[0]["structure"] == DENSE]
        products.sort(key=lambda term: term.args[0].index)
        if len(products) > 1:
            rest = tuple(term for term in terms if term not in products)
            maps = tuple(term.args[0] for term in products)
            sums[node] = Accumulation(node, maps, tuple(term.args[1] for term in products), rest)
            absorbed |= {*inside, *products}
    for node in nodes:
        if product(node) and node not in absorbed:
            sums[node] = Accumulation(node, node.args[:1], node.args[1:])
    return tuple(sums.get(node, node) for node in nodes if node not in absorbed)


def _stages(items: Iterable[Item]) -> tuple[ReverseStage, ...]:
    """The items by what they wait for: a product or a reduction waits for all units of what it reads."""
    levels: dict[Node, int] = {}
    stages: list[tuple[list[Accumulation], list[Node], list[Node]]] = [([], [], [])]
    for item in items:
        if isinstance(item, Accumulation):
            waits = max(levels.get(node, 0) for node in item.cotangents) + 1
            level, node, place = max([waits, *(levels.get(term, 0) for term in item.rest)]), item.node, 0
        else:
            across = OPERATIONS[item.op].kind == "units"
            level, node, place = max(levels.get(arg, 0) for arg in item.args) + across, item, 2 - across
        levels[node] = level
        while len(stages) <= level:
            stages.append(([], [], []))
        column: list[Any] = stages[level][place]
        column.append(item)
    return tuple(ReverseStage(tuple(products), tuple(reductions), tuple(rest)) for products, reductions, rest in stages)


def timed_nodes(nodes: Iterable[Node]) -> set[Node]:
    """The values that change with time."""
    found: set[Node] = set()
    for node in nodes:
        if node.op in ("sequence", "state", "tick") or any(arg in found for arg in node.args):
            found.add(node)
    return found
