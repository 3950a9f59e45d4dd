"""The reference: the plan interpreted in torch, obvious rather than fast. It says what every backend must compute.

The forward scan differentiates like any torch code, any number of times. The backward scan runs the plan's own
backward, and is held against that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unrolled.backends import Call, Cotangents, Gradients, Result
from unrolled.backends.environment import Environment, Instruction, Values, group_symbols, sizes_of
from unrolled.backends.maps import MAPS
from unrolled.backends.operations import OPERATIONS
from unrolled.ir.backward import Accumulation
from unrolled.ir.graph import Node, reachable
from unrolled.ir.plan import Group, Plan
from unrolled.ir.structure import DENSE


class ReferenceBackend:
    """Runs everywhere."""

    name = "reference"

    def available(self, device: torch.device) -> str:
        """It always is."""
        return ""

    def compile(self, plan: Plan) -> Interpreter:
        """Nothing to compile: the plan is read as it stands."""
        return Interpreter(plan)


class Interpreter:
    """A plan as a kernel."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def forward(self, call: Call, train: bool = False) -> Result:
        """Run over all time."""
        environment = Environment(self.plan, call, _leaves(self.plan.program.nodes))
        _run_hoisted(environment)
        return _forward(environment, train)

    def saved_like(self, call: Call) -> list[Tensor]:
        """Empty tensors of the shapes that `forward` saves for this call."""
        time, batch = call.sequences[0].shape[:2]
        sizes, program = sizes_of(self.plan, call), self.plan.program
        shapes = [node.shape for _, node in self.plan.backward.saved]
        shapes += [dict(program.states)[name] for name in _histories(self.plan)]
        return [call.states[0].new_empty(time, batch, sizes[shape[0]] if shape else 1) for shape in shapes]

    def backward(
        self, call: Call, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents, wanted: Sequence[bool]
    ) -> Gradients:
        """The gradients by the plan's backward."""
        plan = self.plan.backward
        roots = [
            *plan.carried.values(),
            *plan.results.values(),
            *plan.seeds.values(),
            *(node for node, _ in plan.saved),
        ]
        environment = Environment(self.plan, call, _leaves(reachable(roots)))
        _restore(environment, outputs, saved, d)
        kept, carried, restarts = _reverse_loop(environment, d)
        return _after(environment, kept, carried, restarts, wanted)


def _histories(plan: Plan) -> list[str]:
    """The states whose sequences are kept for backward beside the output, which is there already."""
    return [name for name in plan.backward.kept_states if name != plan.program.states[0][0]]


def _leaves(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if not node.args]


def _run_hoisted(environment: Environment) -> None:
    """What depends on no state, over all time at once; the old values of a delay are its new ones shifted."""
    plan, values = environment.plan, environment.values
    program = plan.program
    for node in plan.once:
        environment.instruction(node)(values)
    fused = {output: product for product in plan.hoisted_products for output in product.outputs}
    new = {name: node for (name, _), node in zip(program.states, program.results, strict=True)}

    def need(node: Node) -> None:
        if node in values or len(node.shape) == 2:
            return
        if node.op == "state":
            need(new[node["name"]])
            values[node] = environment.previous(node["name"], environment.over_time(values[new[node["name"]]]))
            return
        for arg in node.args:
            need(arg)
        (environment.product(fused[node]) if node in fused else environment.instruction(node))(values)

    for node in plan.hoisted:
        need(node)
    for name in plan.delays:
        if ("state", name) in environment.leaves:
            need(environment.leaves["state", name])


def _forward(environment: Environment, train: bool) -> Result:
    plan, call, program = environment.plan, environment.call, environment.plan.program
    shown = [program.results[0], *(program.tap(name) for name in plan.taps)]
    saved = [node for _, node in plan.backward.saved] if train else []
    others = _histories(plan) if train else []
    inside = set(plan.step_nodes)
    recorded: dict[Node, list[Tensor]] = {node: [] for node in (*shown, *saved) if node in inside}
    histories: dict[str, list[Tensor]] = {name: [] for name in others}
    leaves = [environment.leaves.get(("state", name)) for name, _ in program.states]
    delays = {environment.leaves.get(("state", name)) for name in plan.delays}
    recorded |= {leaf: [] for leaf in leaves if leaf in (*shown, *saved) and leaf not in delays}
    instructions = _instructions(environment)
    columns = _columns(environment.values)
    values: Values = dict(environment.values)
    states = list(call.states)
    for step in range(environment.time):
        for node, column in columns:
            values[node] = column[step]
        if environment.resets is not None:
            pairs = zip(call.restarts, states, strict=True)
            states = [torch.where(environment.resets[step], restart, state) for restart, state in pairs]
        for leaf, state in zip(leaves, states, strict=True):
            if leaf is not None and leaf not in delays:
                values[leaf] = state
        for run in instructions:
            run(values)
        new = [values[node].expand_as(old) for node, old in zip(program.results, states, strict=True)]
        if environment.mask is not None:
            new = [torch.where(environment.mask[step], now, old) for now, old in zip(new, states, strict=True)]
        states = new
        for node, column_of_node in recorded.items():
            column_of_node.append(values[node])
        for (name, _), state in zip(program.states, states, strict=True):
            if name in histories:
                histories[name].append(state)

    def sequence_of(node: Node) -> Tensor:
        if recorded.get(node):
            return torch.stack(recorded[node])
        if node in environment.values and environment.time:
            return environment.over_time(environment.values[node]).clone()
        width = environment.sizes[node.shape[0]] if node.shape else 1
        return call.states[0].new_zeros(environment.time, environment.batch, width)

    outputs = []
    for node in shown:
        value = sequence_of(node)
        if environment.mask is not None:
            value = torch.where(environment.mask, value, value.new_zeros(()))
        outputs.append(environment.outgoing(value))
    kept = [sequence_of(node) for node in saved]
    for (name, _), state in zip(program.states, states, strict=True):
        if name in histories:
            history = histories[name]
            kept.append(torch.stack(history) if history else state.new_zeros(0, *state.shape))
    return Result(outputs, _own(states, call.states), kept)


def _instructions(environment: Environment) -> list[Instruction]:
    plan = environment.plan
    found = [environment.instruction(node) for node in plan.prelude]
    for stage in plan.stages:
        found += [environment.product(product) for product in stage.products]
        found += [environment.instruction(node) for node in (*stage.reductions, *stage.elementwise)]
    return found


def _columns(values: Values) -> list[tuple[Node, tuple[Tensor, ...]]]:
    """The values that change with time, one tensor a step."""
    return [(node, value.unbind(0)) for node, value in values.items() if value.dim() == 3]


def _own(states: list[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """The final states, none of them the same tensor as another or as one that was given."""
    seen = {id(tensor) for tensor in given}
    own = []
    for state in states:
        own.append(state.clone() if id(state) in seen or state._is_view() else state)
        seen.add(id(state))
    return own


def _restore(environment: Environment, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents) -> None:
    """Bring back what forward kept and compute, over all time, what stands before the reverse loop."""
    plan, call, values = environment.plan, environment.call, environment.values
    program, backward = plan.program, plan.backward
    output = program.states[0][0]
    for (node, _), value in zip(backward.saved, saved, strict=False):
        values[node] = value
    others = _histories(plan)
    new = {output: environment.read(outputs[0])}
    new |= dict(zip(others, saved[len(backward.saved) :], strict=True))
    for name, value in new.items():
        leaf = environment.leaves.get(("state", name))
        if leaf is not None and environment.time:
            values[leaf] = environment.previous(name, value)
    for node, name in backward.next_values:
        values[node] = new[name]
    for name, arriving in zip(plan.taps, d.outputs[1:], strict=True):
        seed = backward.seeds[f"tap_{name}"]
        width = environment.sizes[seed.shape[0]] if seed.shape else 1
        zero = call.states[0].new_zeros(environment.time, environment.batch, width)
        values[seed] = zero if arriving is None else environment.incoming(arriving)
    if environment.time:
        for node in backward.before:
            environment.instruction(node)(values)


def _reverse_loop(environment: Environment, d: Cotangents) -> tuple[Values, list[Tensor], list[Tensor]]:
    """Carry the cotangents of the states back in time.

    returns   the loop values that are read after it, the cotangents of the initial states and of the restarts
    """
    plan, call = environment.plan, environment.call
    backward, states = plan.backward, plan.program.states
    names = [name for name, _ in states]
    instructions = [environment.instruction(item) for item in backward.loop]
    columns = _columns(environment.values)
    values: Values = dict(environment.values)
    carried = [
        torch.zeros_like(state) if final is None else final for state, final in zip(call.states, d.finals, strict=True)
    ]
    restarts = [torch.zeros_like(state) for state in call.states]
    d_output = None if d.outputs[0] is None else environment.incoming(d.outputs[0])
    kept: dict[Node, list[Tensor]] = {node: [] for node in backward.kept}
    for step in reversed(range(environment.time)):
        for node, column in columns:
            values[node] = column[step]
        for index, name in enumerate(names):
            arriving = carried[index] + d_output[step] if index == 0 and d_output is not None else carried[index]
            values[backward.seeds[name]] = arriving
        for run in instructions:
            run(values)
        old = [
            values[backward.carried[name]].expand_as(state) if name in backward.carried else torch.zeros_like(state)
            for name, state in zip(names, call.states, strict=True)
        ]
        if environment.mask is not None:
            active = environment.mask[step]
            old = [torch.where(active, now, before) for now, before in zip(old, carried, strict=True)]
        if environment.resets is not None:
            anew = environment.resets[step]
            zero = old[0].new_zeros(())
            restarts = [total + torch.where(anew, now, zero) for total, now in zip(restarts, old, strict=True)]
            old = [torch.where(anew, zero, now) for now in old]
        carried = old
        for node, column_of_node in kept.items():
            value = values[node]
            if environment.mask is not None:
                value = torch.where(environment.mask[step], value, value.new_zeros(()))
            column_of_node.append(value)
    stacked = {node: torch.stack(column[::-1]) for node, column in kept.items() if column}
    return stacked, carried, restarts


def _after(
    environment: Environment, kept: Values, carried: list[Tensor], restarts: list[Tensor], wanted: Sequence[bool]
) -> Gradients:
    """The gradients of inputs and parameters: large products over all time."""
    plan, call, values = environment.plan, environment.call, environment.values
    backward, program = plan.backward, plan.program
    values.update(kept)
    leaves = {(leaf.op, leaf.symbol if leaf.op == "parameter" else leaf["name"]): leaf for leaf in backward.results}
    inputs = [
        leaves.get(("sequence", name)) if want else None for (name, _), want in zip(program.inputs, wanted, strict=True)
    ]
    roots = [backward.results[leaf] for leaf in (*inputs, *leaves.values()) if leaf and leaf.op != "sequence"]
    roots += [backward.results[leaf] for leaf in inputs if leaf]
    needed = set(reachable(roots))
    if environment.time:
        for item in backward.after:
            node = item.node if isinstance(item, Accumulation) else item
            if node in needed and len(node.shape) < 2:
                environment.instruction(item)(values)
    sequences: list[Tensor | None] = []
    for leaf, want, value in zip(inputs, wanted, call.sequences, strict=True):
        gradient = values.get(backward.results[leaf]) if leaf is not None else None
        if gradient is not None:
            gradient = environment.outgoing(environment.over_time(gradient))
        elif want:
            gradient = torch.zeros_like(value)
        sequences.append(gradient)
    rows = []
    for (name, _), value in zip(program.rows, call.rows, strict=True):
        leaf = leaves.get(("row", name))
        of_row = None if leaf is None else values.get(backward.results[leaf])
        rows.append(torch.zeros_like(value) if of_row is None else environment.over_time(of_row).sum(0))
    parameters = _Parameters(environment, leaves)
    groups = [parameters.group(group, value) for group, value in zip(plan.groups, call.parameters, strict=True)]
    return Gradients(sequences, rows, carried, restarts, groups)


class _Parameters:
    """The gradients of stored parameters: contributions summed over time and rows, gates of one operand together."""

    def __init__(self, environment: Environment, leaves: dict[tuple[str, str], Node]):
        self.environment = environment
        self.leaves = leaves
        self._joined: dict[tuple[Node, ...], Tensor] = {}

    def group(self, group: Group, value: Tensor) -> Tensor:
        """The gradient of a group, in the shape in which it is stored."""
        environment, results = self.environment, self.environment.plan.backward.results
        if not environment.time or not environment.batch:
            return torch.zeros_like(value)
        leaves = [self.leaves.get(("parameter", symbol)) for symbol in group_symbols(group)]
        nodes = [results[leaf] if leaf is not None else None for leaf in leaves]
        if len(group.shape) == 2:
            outers = [node for node in nodes if node is not None and node.op == "outer"]
            if len(outers) == len(nodes) and len({node.args[1] for node in outers}) == 1 and group.structure == DENSE:
                return self._outer(group, value, tuple(node.args[0] for node in outers), outers[0].args[1])
            parts = [
                self._matrix(group, node, like) for node, like in zip(nodes, self._parts(group, value), strict=True)
            ]
            return torch.cat(parts)
        found = []
        for node, like in zip(nodes, self._parts(group, value), strict=True):
            if node is None:
                found.append(torch.zeros_like(like))
                continue
            total = environment.over_time(environment.values[node])
            found.append(total.sum((0, 1)) if group.shape else total.sum().reshape(1))
        return torch.cat(found)

    def _parts(self, group: Group, value: Tensor) -> Sequence[Tensor]:
        return [value] if group.structure != DENSE else value.chunk(len(group.names))

    def _outer(self, group: Group, entries: Tensor, cotangents: tuple[Node, ...], operand: Node) -> Tensor:
        """Cotangents times operand, contracted over time and rows."""
        values = self.environment.values
        if cotangents not in self._joined:
            joined = torch.cat([self.environment.over_time(values[node]) for node in cotangents], -1)
            self._joined[cotangents] = joined.flatten(0, 1)
        d, v = self._joined[cotangents], values[operand]
        structure, precision = group.structure, self.environment.call.precision
        if v.is_floating_point():
            v = self.environment.over_time(v).flatten(0, 1)
            return MAPS[structure.name].gradient(structure, entries, d, v, precision)
        if structure != DENSE:
            v = torch.nn.functional.one_hot(v.flatten(), self.environment.sizes[group.shape[1]]).to(d.dtype)
            return MAPS[structure.name].gradient(structure, entries, d, v, precision)
        return torch.zeros_like(entries.mT).index_add_(0, v.flatten(), d).mT.contiguous()

    def _matrix(self, group: Group, node: Node | None, entries: Tensor) -> Tensor:
        if node is None:
            return torch.zeros_like(entries)
        if node.op == "outer":
            return self._outer(group, entries, node.args[:1], node.args[1])
        parts = [self._matrix(group, arg, entries) for arg in node.args]
        return OPERATIONS[node.op](node, self.environment.sizes)(*parts)
