"""What units compute on the steps alone on which they are due: found in the graph, where `tick` chooses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unrolled.ir.graph import Graph, Node, again, copy_into, reachable, users
from unrolled.ir.ops import OPERATIONS
from unrolled.ir.plan import Plan

Periods = tuple[int, ...]


def chosen_by(
    values: Iterable[Node], used: Mapping[Node, Sequence[Node]], read: Mapping[Node, Sequence[Periods | None]]
) -> Periods | None:
    """The periods of the tick that chooses all that is read of some values; None if something is read at all steps.

    used   the users of each node
    read   node -> for each place that it is stored in the periods of what is read there, None for all of it
    """
    found: set[Periods | None] = set()
    stack = list(values)
    seen = set(stack)
    while stack:
        node = stack.pop()
        found.update(read.get(node, ()))
        for user in used.get(node, ()):
            if user.op == "where" and user.args[0].op == "tick" and user.args[2] is not node:
                found.add(user.args[0]["periods"])
            elif OPERATIONS[user.op].kind != "elementwise":
                return None  # it brings units together, of which others may be due
            elif user not in seen:
                seen.add(user)
                stack.append(user)
    return found.pop() if len(found) == 1 else None


def zero_unless_due(node: Node) -> Node | None:
    """The tick without which a value is zero."""
    if node.op != "where" or node.args[0].op != "tick":
        return None
    tick, _, other = node.args
    return tick if other.op == "constant" and other["value"] == 0.0 else None


def chosen_last(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
    """The rewrite that multiplies before it chooses: what units not due have computed is then read by nothing."""
    if node.op in ("mul", "div"):
        for place, arg in enumerate(args[: 2 if node.op == "mul" else 1]):
            tick = zero_unless_due(arg)
            if tick is not None and node.shape == arg.shape:
                inside = (*args[:place], arg.args[1], *args[place + 1 :])
                return graph.add("where", tick, graph.add(node.op, *inside), arg.args[2])
    return again(graph, node, args)


def saved_when_due(plan: Plan) -> dict[Node, Periods]:
    """The saved values that backward reads of units that are due alone."""
    backward = plan.backward
    roots = [*backward.carried.values(), *backward.results.values()]
    image = copy_into(Graph(), roots, chosen_last)
    last = [image[root] for root in roots]
    used = users(reachable(last))
    read: dict[Node, tuple[None]] = dict.fromkeys(last, (None,))
    found = {}
    for node, original in backward.saved:
        periods = chosen_by([image[node]], used, read) if node in image else None
        if periods is not None:
            found[original] = periods
    return found
