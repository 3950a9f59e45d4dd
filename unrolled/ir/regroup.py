"""Sums and products regrouped, so that the terms that wait for nothing are brought together and leave the loop."""

from __future__ import annotations

from collections.abc import Callable

from unrolled.ir.graph import Graph, Node, in_source_order, reachable, users
from unrolled.ir.simplify import simplest


def regroup_into(graph: Graph, roots: list[Node], early: Callable[[Node], bool]) -> dict[Node, Node]:
    """Copy what the roots depend on into `graph`, every chain of sums or products ordered: `early` terms first.

    Floating-point sums are taken in another order than the source writes; that order is the plan's, for every backend.

    returns   node -> new node; terms that went up in a chain have none
    """
    nodes = in_source_order(reachable(roots))
    used = users(nodes)
    fixed = set(roots)
    absorbed = {
        node
        for node in nodes
        if node not in fixed
        and len(used.get(node, [])) == 1
        and _chain(node) is not None
        and _chain(used[node][0]) == _chain(node)
        and used[node][0].shape == node.shape
    }
    image: dict[Node, Node] = {}
    for node in nodes:
        if node in absorbed:
            continue
        if _chain(node) is None:
            image[node] = simplest(graph, node, tuple(image[arg] for arg in node.args))
            continue
        terms = _terms(node, absorbed)
        ready = [term for term in terms if early(term[1])]
        waiting = [term for term in terms if not early(term[1])]
        if not ready or not waiting or len(terms) == 2:
            ready, waiting = terms, []
        total = _joined(graph, _chain(node) or "add", [(sign, image[term]) for sign, term in ready + waiting])
        image[node] = total
    return image


def _chain(node: Node) -> str | None:
    return {"add": "add", "sub": "add", "mul": "mul"}.get(node.op)


def _terms(node: Node, absorbed: set[Node], sign: int = 1) -> list[tuple[int, Node]]:
    found = []
    for position, arg in enumerate(node.args):
        flipped = -sign if node.op == "sub" and position == 1 else sign
        if arg in absorbed:
            found += _terms(arg, absorbed, flipped)
        else:
            found.append((flipped, arg))
    return found


def _joined(graph: Graph, chain: str, terms: list[tuple[int, Node]]) -> Node:
    """The chain of the terms in this order; where the first is subtracted, a term that is added goes before it."""
    if terms[0][0] < 0:
        plus = next((index for index, (sign, _) in enumerate(terms) if sign > 0), None)
        if plus is not None:
            terms = [terms[plus], *terms[:plus], *terms[plus + 1 :]]
    sign, total = terms[0]
    if sign < 0:
        total = graph.add("neg", total)
    for sign, term in terms[1:]:
        op = chain if sign > 0 else "sub"
        total = simplest(graph, graph.add(op, total, term), (total, term))
    return total
