"""The backward plan: what is saved, what is computed before, in and after the reverse loop.

Only the cotangents of the states flow through the loop. What depends on saved values alone is computed before it, over
all time at once; the gradients of inputs and parameters are large products over all time after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from unrolled.ir.gradient import gradient
from unrolled.ir.graph import Graph, Node, in_source_order, reachable, users
from unrolled.ir.ops import OPERATIONS
from unrolled.ir.program import Program
from unrolled.ir.regroup import regroup_into
from unrolled.ir.structure import DENSE


@dataclass(frozen=True)
class Accumulation:
    """A sum of transposed products: one product with the stacked maps. `node` is the sum; `rest` is added to it."""

    node: Node
    maps: tuple[Node, ...]
    cotangents: tuple[Node, ...]
    rest: tuple[Node, ...]


Item = Node | Accumulation


@dataclass(frozen=True)
class Backward:
    """The reverse loop of a plan. Its nodes are of a graph of its own, which holds the forward step too.

    seeds        state name, or tap_<name> -> the leaf of its cotangent
    saved        (node here, node of the forward plan) pairs: what forward keeps for backward, in source order
    kept_states  the states whose values at every step are kept besides; that of the output is the output
    next_values  (node, state): forward values that are a kept state's own sequence
    before       over all time: values computed again, and slopes
    loop         one step, given the cotangents of the next states
    kept         loop values that are read after the loop
    after        over all time
    origin       forward value here -> node of the forward plan
    carried      state name -> cotangent of its old value, which the next turn of the loop starts from
    results      sequence, row or parameter leaf -> its cotangent
    """

    seeds: Mapping[str, Node]
    saved: tuple[tuple[Node, Node], ...]
    kept_states: tuple[str, ...]
    next_values: tuple[tuple[Node, str], ...]
    before: tuple[Node, ...]
    loop: tuple[Item, ...]
    kept: tuple[Node, ...]
    after: tuple[Item, ...]
    origin: Mapping[Node, Node]
    carried: Mapping[str, Node]
    results: Mapping[Node, Node]

    def saved_floats(self, sizes: Mapping[str, int]) -> int:
        """Numbers kept for each row and step, the output included."""
        kept = [node for node, _ in self.saved] + [self.seeds[name] for name in self.kept_states]
        return sum(sizes[node.shape[0]] if node.shape else 1 for node in kept)


class _Saved(NamedTuple):
    nodes: list[Node]
    states: tuple[str, ...]
    next_values: tuple[tuple[Node, str], ...]
    recomputed: set[Node]


def backward_of(program: Program, taps: tuple[str, ...]) -> Backward:
    """The backward plan of a simplified program."""
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
    return _arrange(program, graph, seeds, origin, cotangents)


def _arrange(
    program: Program,
    graph: Graph,
    seeds: Mapping[str, Node],
    origin: Mapping[Node, Node],
    cotangents: Mapping[Node, Node],
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
    done = {*loop, *before, *origin}
    after = [node for node in in_source_order(reachable(results.values())) if node.args and node not in done]
    inner = {*loop, *before, *after}
    needed = {arg for node in inner for arg in node.args if arg in origin}
    needed |= {node for node in (*carried.values(), *results.values()) if node in origin}
    chosen = _choose_saved(program, needed, origin)
    loop_values = set(loop)
    kept = {arg for node in after for arg in node.args if arg in loop_values}
    kept |= {node for node in results.values() if node in loop_values}
    kept |= {leaf for leaf in flowing if not leaf.args and any(leaf in node.args for node in after)}
    kept |= {node for node in results.values() if node in flowing and not node.args}
    return Backward(
        seeds=seeds,
        saved=tuple((node, origin[node]) for node in chosen.nodes),
        kept_states=chosen.states,
        next_values=chosen.next_values,
        before=tuple(in_source_order({*before, *chosen.recomputed})),
        loop=_fused(loop, list(carried.values()), kept),
        kept=tuple(in_source_order(kept)),
        after=_fused(after, list(results.values()), set()),
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

    def given(node: Node) -> bool:
        return node in saved or next_of.get(origin[node]) in kept_states

    def missing(root: Node) -> bool:
        """Whether computing it again needs a value that is not kept."""
        stack, seen = [root], {root}
        while stack:
            node = stack.pop()
            if given(node) or not _timed(node):
                continue
            if node.op == "state" and node["name"] not in kept_states:
                return True
            if node.args and not OPERATIONS[node.op].cheap:
                return True
            stack += [arg for arg in node.args if arg not in seen]
            seen.update(node.args)
        return False

    candidates = [node for node in in_source_order(needed) if node.args and _timed(node)]
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


def _timed(node: Node) -> bool:
    return any(leaf.op in ("sequence", "state", "tick") for leaf in reachable([node]))


def _fused(nodes: list[Node], roots: list[Node], kept: set[Node]) -> tuple[Item, ...]:
    """The nodes in order, with sums of transposed products of plain maps as one product."""
    used = users(nodes)
    fixed = {*roots, *kept}
    own = set(nodes)

    def single(node: Node) -> bool:
        return node in own and node not in fixed and len(used.get(node, [])) == 1

    def plain(node: Node) -> bool:
        return node.op == "transposed_product" and node.args[0].op == "parameter" and node.args[0]["structure"] == DENSE

    absorbed: set[Node] = set()
    sums: dict[Node, Accumulation] = {}
    for node in reversed(nodes):
        if node in absorbed or node.op != "add":
            continue
        terms, stack = [], list(node.args)[::-1]
        inside: list[Node] = []
        while stack:
            term = stack.pop()
            if term.op == "add" and single(term) and term.shape == node.shape:
                inside.append(term)
                stack += term.args[::-1]
            else:
                terms.append(term)
        products = [term for term in terms if plain(term) and single(term)]
        products.sort(key=lambda term: term.args[0].index)
        if len(products) > 1:
            rest = tuple(term for term in terms if term not in products)
            maps = tuple(term.args[0] for term in products)
            sums[node] = Accumulation(node, maps, tuple(term.args[1] for term in products), rest)
            absorbed |= {*inside, *products}
    return tuple(sums.get(node, node) for node in nodes if node not in absorbed)
