"""The reference: the plan interpreted in torch, obvious rather than fast. It says what every backend must compute.

The forward scan differentiates like any torch code, any number of times. The backward scan runs the plan's own
backward, and is held against that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unrolled.backends import Call, Cotangents, Gradients, Ran, Result
from unrolled.backends.environment import Environment, Instruction, Values, columns_of, histories_of
from unrolled.backends.reverse import Reverse, restore
from unrolled.ir.graph import Node, reachable
from unrolled.ir.plan import Plan


class ReferenceBackend:
    """Runs everywhere."""

    name = "reference"
    linear = False

    def available(self, device: torch.device) -> str:
        """It always is."""
        return ""

    def compile(self, plan: Plan) -> Interpreter:
        """Nothing to compile: the plan is read as it stands."""
        return Interpreter(plan)

    def forward(self, group: Sequence[tuple[Plan, Call]], train: bool) -> list[Result]:
        """One after the other."""
        return [self.compile(plan).forward(call, train) for plan, call in group]

    def backward(self, group: Sequence[tuple[Plan, Ran]]) -> list[Gradients]:
        """One after the other."""
        return [self.compile(plan).backward(*ran) for plan, ran in group]


class Interpreter:
    """A plan as a kernel."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def forward(self, call: Call, train: bool = False) -> Result:
        """Run over all time."""
        environment = Environment(self.plan, call, leaves_of(self.plan.program.nodes))
        run_hoisted(environment)
        return _forward(environment, train)

    def saved_like(self, call: Call) -> list[Tensor]:
        """Empty tensors of the shapes that `forward` saves for this call."""
        time, batch = call.sequences[0].shape[:2]
        sizes, program = dict(zip(self.plan.axes, call.sizes, strict=True)), self.plan.program
        shapes = [node.shape for _, node in self.plan.backward.saved]
        shapes += [dict(program.states)[name] for name in histories_of(self.plan)]
        return [call.states[0].new_empty(time, batch, sizes[shape[0]] if shape else 1) for shape in shapes]

    def backward(
        self, call: Call, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents, wanted: Sequence[bool]
    ) -> Gradients:
        """The gradients by the plan's backward."""
        environment = Environment(self.plan, call, leaves_of(reachable(self.plan.backward.roots)))
        restore(environment, outputs, saved, d)
        return Reverse(environment, wanted).run(d)


def leaves_of(nodes: Iterable[Node]) -> list[Node]:
    """Those of the nodes that nothing computes."""
    return [node for node in nodes if not node.args]


def run_hoisted(environment: Environment) -> None:
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
    others = histories_of(plan) if train else []
    inside = set(plan.step_nodes)
    recorded: dict[Node, list[Tensor]] = {node: [] for node in (*shown, *saved) if node in inside}
    histories: dict[str, list[Tensor]] = {name: [] for name in others}
    leaves = [environment.leaves.get(("state", name)) for name, _ in program.states]
    delays = {environment.leaves.get(("state", name)) for name in plan.delays}
    recorded |= {leaf: [] for leaf in leaves if leaf in (*shown, *saved) and leaf not in delays}
    instructions = instructions_of(environment)
    columns = columns_of(environment.values)
    values: Values = dict(environment.values)
    states = list(call.states)
    read: list[Tensor] = []
    for step in range(environment.time):
        for node, column in columns:
            values[node] = column[step]
        if environment.resets is not None:
            pairs = zip(call.restarts, states, strict=True)
            states = [torch.where(environment.resets[step], restart, state) for restart, state in pairs]
        read = _read_states(environment, step, states, read)
        for leaf, state in zip(leaves, read, strict=True):
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
    environment.values.update({node: torch.stack(column) for node, column in recorded.items() if column})
    kept = [
        torch.stack(histories[name]) if histories[name] else state.new_zeros(0, *state.shape)
        for (name, _), state in zip(program.states, states, strict=True)
        if name in histories
    ]
    # A state that is handed on, or that is a step of an input, is not to share its memory.
    return packed(environment, [state.clone() for state in states], kept, train)


def packed(environment: Environment, finals: list[Tensor], histories: list[Tensor], train: bool) -> Result:
    """What a scan gives, of the values over all time; nothing shares its memory with another.

    histories   the states that are kept beside the output, over all time
    """
    plan, program = environment.plan, environment.plan.program

    def sequence_of(node: Node) -> Tensor:
        if node in environment.values and environment.time:
            return environment.over_time(environment.values[node]).clone()
        width = environment.sizes[node.shape[0]] if node.shape else 1
        return finals[0].new_zeros(environment.time, environment.batch, width)

    outputs = []
    for node in (program.results[0], *(program.tap(name) for name in plan.taps)):
        value = sequence_of(node)
        if environment.mask is not None:
            value = torch.where(environment.mask, value, value.new_zeros(()))
        outputs.append(environment.outgoing(value))
    kept = [sequence_of(node) for _, node in plan.backward.saved] if train else []
    return Result(outputs, finals, [*kept, *histories])


def _read_states(environment: Environment, step: int, states: list[Tensor], before: list[Tensor]) -> list[Tensor]:
    """The states as the step reads them: in the padding, as at the row's last valid step, like the inputs there."""
    if environment.mask is None or not environment.batch:
        return states
    if not before:
        return [state[environment.model_rows] for state in states]
    mask = environment.mask[step]
    return [torch.where(mask, now, old.detach()) for now, old in zip(states, before, strict=True)]


def instructions_of(environment: Environment) -> list[Instruction]:
    """What a step computes, in order."""
    plan = environment.plan
    found = [environment.instruction(node) for node in plan.prelude]
    for stage in plan.stages:
        found += [environment.product(product) for product in stage.products]
        found += [environment.instruction(node) for node in (*stage.reductions, *stage.elementwise)]
    return found
