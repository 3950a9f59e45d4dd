"""The work of a forward step, from the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unrolled.backends.llvm.due import saved_when_due
from unrolled.backends.llvm.work import Buffer, Index, Work, plainer, unified_axes
from unrolled.ir.graph import Node, reachable
from unrolled.ir.plan import Plan

# How the products with an input are computed: in the loop, all before it, or by a table's rows.
FUSED, BEFORE_LOOP, TABLE = "fused", "before", "table"


@dataclass(frozen=True)
class Forward:
    """The forward work, and what the caller has to lay ready for it.

    work      what a step computes
    outside   input -> its products that are not computed in the loop, in the order in which they stand side by side
    once      nodes that the caller computes, once a call
    outputs   buffers of y and the taps
    saved     buffers of the values that backward wants
    states    state -> the buffer that its values stand in: a whole sequence, or one that is carried
    """

    work: Work
    outside: Mapping[str, tuple[Node, ...]]
    once: tuple[tuple[Node, Buffer], ...]
    outputs: tuple[Buffer, ...]
    saved: tuple[Buffer, ...]
    states: Mapping[str, Buffer]


def old_state(name: str, axis: str) -> Buffer:
    """Where the old value of a state stands, if its values stand in a sequence."""
    return Buffer(f"state {name}", axis, Index.BEFORE)


def fixed_buffer(node: Node, axis: str) -> Buffer:
    """Where a leaf stands that is the same for all rows and steps, or for all steps."""
    if node.op == "parameter":
        return Buffer(node.symbol, axis, Index.FIXED)
    if node.op == "size":
        return Buffer(f"size {node['axis']}", "", Index.FIXED)
    return Buffer(f"{node.op} {node['name']}", axis, Index.ROW if node.op == "row" else Index.FIXED)


def make_forward(
    plan: Plan, train: bool, inputs: Mapping[str, str], resets: bool = False, carried: bool = False
) -> Forward:
    """The forward work of a plan.

    inputs    how the products with each input are computed, where that is not in the loop
    resets    whether states may begin anew within a sequence
    carried   whether every state is carried, and the output stored besides: for calls of one step
    """
    program = plan.program
    outside: dict[str, tuple[Node, ...]] = {}
    given_products: dict[Node, Buffer] = {}
    for name in inputs:
        outside[name] = _products_of(plan, name)
        index = Index.LOOKUP if inputs[name] == TABLE else Index.STEP
        for number, node in enumerate(outside[name]):
            given_products[node] = _product_buffer(name, number, node.shape[0], index)
    saved = [node for _, node in plan.backward.saved] if train else []
    histories = [name for name in plan.backward.kept_states if name != program.states[0][0]] if train else []
    shown = [program.results[0], *(program.tap(name) for name in plan.taps)]
    extra: dict[str, int] = {}
    tables = {node for node, buffer in given_products.items() if buffer.index is Index.LOOKUP}
    image = plainer([*program.nodes], extra, given_products, resets, tables)
    axes = unified_axes(list(image.values()))
    names = {image[node]: name for node, name in plan.names.items() if node in image}
    work = Work(given={}, stores=[], axes=axes, extra=extra, names=names)
    given = work.given
    for node, buffer in given_products.items():
        given[image[node]] = Buffer(buffer.name, work.axis(node.shape), buffer.index)
    kept = set() if carried else {program.states[0][0], *histories}
    states: dict[str, Buffer] = {}
    for (name, shape), result in zip(program.states, program.results, strict=True):
        axis = work.axis(shape)
        if name in kept:
            states[name] = Buffer(f"sequence {name}", axis, Index.STEP)
        else:
            states[name] = Buffer(f"state {name}", axis, Index.CARRIED)
        work.stores.append((image[result], states[name]))
    for node in reachable(list(image.values())):
        axis = work.axis(node.shape)
        if node.op == "state":
            name = node["name"]
            given[node] = old_state(name, axis) if name in kept else states[name]
        elif node.op == "sequence":
            given[node] = Buffer(f"input {node['name']}", axis, Index.STEP)
        elif node.op == "tick":
            given[node] = Buffer(f"tick {node['periods']}", axis, Index.CLOCK)
        elif node.op in ("row", "scalar", "size") or (node.op == "parameter" and len(node.shape) < 2):
            given[node] = fixed_buffer(node, axis)
    once = []
    for number, node in enumerate(plan.once):
        buffer = Buffer(f"once {number}", work.axis(node.shape), Index.ROW if is_of_rows(node) else Index.FIXED)
        given[image[node]] = buffer
        once.append((node, buffer))

    def out(prefix: str, nodes: list[Node]) -> tuple[Buffer, ...]:
        buffers = tuple(
            Buffer(f"{prefix} {number}", work.axis(node.shape), Index.STEP) for number, node in enumerate(nodes)
        )
        work.stores.extend((image[node], buffer) for node, buffer in zip(nodes, buffers, strict=True))
        return buffers

    outputs = out("output", shown[:1]) if carried else (states[program.states[0][0]],)
    outputs = (*outputs, *out("tap", shown[1:]))
    kept_buffers = out("saved", saved)
    due = saved_when_due(plan) if train else {}
    work.when_due |= {buffer: due[node] for node, buffer in zip(saved, kept_buffers, strict=True) if node in due}
    return Forward(work, outside, tuple(once), outputs, (*kept_buffers, *(states[name] for name in histories)), states)


def make_ahead(plan: Plan, name: str) -> Work:
    """The work of a step that does nothing but multiply an input with its maps."""
    products = _products_of(plan, name)
    extra: dict[str, int] = {}
    image = plainer(products, extra, (), resets=False)
    work = Work(given={}, stores=[], axes=unified_axes(list(image.values())), extra=extra)
    for node in reachable(list(image.values())):
        if node.op == "sequence":
            work.given[node] = Buffer(f"input {name}", work.axis(node.shape), Index.STEP)
        elif node.op == "parameter" and len(node.shape) < 2:
            work.given[node] = fixed_buffer(node, work.axis(node.shape))
    for number, node in enumerate(products):
        buffer = _product_buffer(name, number, work.axis(node.shape), Index.STEP)
        work.stores.append((image[node], buffer))
    return work


def _products_of(plan: Plan, name: str) -> tuple[Node, ...]:
    """The products with an input, in the order in which they stand side by side."""
    return tuple(
        node
        for node in plan.program.nodes
        if node.op == "product" and node.args[1].op == "sequence" and node.args[1]["name"] == name
    )


def _product_buffer(name: str, number: int, axis: str, index: Index) -> Buffer:
    return Buffer(f"product {name} {number}", axis, index)


def is_of_rows(node: Node) -> bool:
    """Whether a value of parameters and row values differs from row to row."""
    stack = [node]
    while stack:
        current = stack.pop()
        if current.op == "row":
            return True
        stack += current.args
    return False
