"""Linear recurrences over all time at once: an associative scan in place of the reference's loop over steps.

Where a recurrence is linear and element-wise in its states, h_t = a_t h_{t-1} + b_t, two steps are one step of the same
form, so that all states follow in as many rounds as time can be halved. The rest of a step is done for all steps at
once, by the reference's operations. Backward is such a recurrence too, from the end.

Nothing is divided, so that a_t may be 0. Products of many a_t appear that the loop does not have: a recurrence that
grows without bound overflows sooner here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unrolled.backends import Call, Cotangents, Gradients, Result
from unrolled.backends.environment import Environment, Values, histories_of
from unrolled.backends.reference import Interpreter, ReferenceBackend, instructions_of, leaves_of, packed, run_hoisted
from unrolled.backends.reverse import Reverse, restore
from unrolled.ir.backward import Accumulation
from unrolled.ir.graph import Node, in_source_order, reachable
from unrolled.ir.plan import Plan


class AssociativeBackend(ReferenceBackend):
    """Runs everywhere, but linear recurrences alone."""

    name = "associative"
    linear = True

    def compile(self, plan: Plan) -> Interpreter:
        """Nothing to compile here either."""
        return ParallelInterpreter(plan)


class ParallelInterpreter(Interpreter):
    """A plan with a linear recurrence as a kernel."""

    def forward(self, call: Call, train: bool = False) -> Result:
        """Run over all time."""
        plan, program = self.plan, self.plan.program
        environment = Environment(plan, call, leaves_of([*program.nodes, *reachable(plan.linear.values())]))
        if not environment.time:
            return super().forward(call, train)
        run_hoisted(environment)
        values = environment.values
        for name, history in _states(environment).items():
            values[environment.leaves["state", name]] = environment.previous(name, history)
        for run in instructions_of(environment):
            run(values)
        names = [name for name, _ in program.states]
        new = {name: environment.over_time(values[node]) for name, node in zip(names, program.results, strict=True)}
        finals = [_last(environment, new[name], state) for name, state in zip(names, call.states, strict=True)]
        return packed(environment, finals, [new[name].clone() for name in histories_of(plan)] if train else [], train)

    def backward(
        self, call: Call, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents, wanted: Sequence[bool]
    ) -> Gradients:
        """The gradients by the plan's backward, all steps at once."""
        environment = Environment(self.plan, call, leaves_of(reachable(self.plan.backward.roots)))
        if not environment.time:
            return super().backward(call, outputs, saved, d, wanted)
        restore(environment, outputs, saved, d)
        return ParallelReverse(environment, wanted).run(d)


def linear_scan(a: Tensor, b: Tensor, anew: Tensor | None = None) -> Tensor:
    """h_t = a_t h_{t-1} + b_t from h = 0: pairs of steps are scanned as one step each, then those between filled in.

    Shapes   a and b (time, …); anew, true where h_t is b_t whatever stands before, like them; returns h like b
    Source   Blelloch 1990; for recurrences: Martin & Cundy 2018, arXiv 1709.04057
    """
    if len(b) < 2:
        return b

    def step(steps: slice, before: Tensor) -> Tensor:
        h = torch.addcmul(b[steps], a[steps], before[: len(b[steps])])
        return h if anew is None else torch.where(anew[steps], b[steps], h)

    first, second, rest = slice(None, -1, 2), slice(1, None, 2), slice(2, None, 2)
    pairs = None if anew is None else anew[first] | anew[second]
    h = torch.empty_like(b)
    h[0], h[second] = b[0], linear_scan(a[first] * a[second], step(second, b[first]), pairs)
    h[rest] = step(rest, h[second])
    return h


def _states(environment: Environment) -> dict[str, Tensor]:
    """The new values of the states that the recurrence is linear in, at every step."""
    plan, call, anew = environment.plan, environment.call, environment.resets
    index = {name: number for number, (name, _) in enumerate(plan.program.states)}
    results = {name: plan.program.results[index[name]] for name in plan.linear}
    slopes = _computed(environment, {}, plan.linear.values())
    nothing = {environment.leaves["state", name]: torch.zeros_like(call.states[index[name]]) for name in plan.linear}
    offsets = _computed(environment, nothing, results.values())
    found = {}
    for name, slope in plan.linear.items():
        a, b = environment.over_time(slopes[slope]), environment.over_time(offsets[results[name]])
        begun = call.states[index[name]]
        if anew is not None:
            b = torch.where(anew, torch.addcmul(b, a, call.restarts[index[name]]), b)
            begun = torch.where(anew[0], 0, begun)
        b = torch.cat([torch.addcmul(b[:1], a[:1], begun), b[1:]])
        found[name] = linear_scan(a, b, anew)
    return found


def _computed(environment: Environment, given: Values, roots: Iterable[Node]) -> Values:
    """The values of the roots and of what they depend on, with these beside the environment's."""
    values = environment.values | given
    for node in in_source_order(reachable(roots)):
        if node not in values and node.args:
            environment.instruction(node)(values)
    return values


def _last(environment: Environment, new: Tensor, state: Tensor) -> Tensor:
    """The value of a state after each row's last valid step; what it began with where there is none."""
    lengths = environment.call.lengths
    if lengths is None:
        return new[-1].clone()
    rows = torch.arange(environment.batch, device=new.device)
    return torch.where((lengths > 0)[:, None], new[(lengths - 1).clamp(min=0), rows], state)


class ParallelReverse(Reverse):
    """The reverse recurrence as a scan from the end, and the large products after it."""

    def __init__(self, environment: Environment, wanted: Sequence[bool]):
        super().__init__(environment, wanted)
        items = [item for stage in self.plan.loop for item in stage.items]
        self.items = {item.node if isinstance(item, Accumulation) else item: item for item in items}
        self.zero = environment.call.states[0].new_zeros(())
        valid = torch.ones(environment.time, environment.batch, 1, dtype=torch.bool, device=self.zero.device)
        valid = valid if environment.mask is None else environment.mask
        follows = torch.cat([valid[1:], torch.zeros_like(valid[:1])])
        self.last = valid & ~follows
        # The steps to which the one after them hands nothing back; None where that is the last one alone.
        self.cut: Tensor | None = None
        if environment.resets is not None:
            self.cut = ~follows | environment.resets.roll(-1, 0)
        elif environment.mask is not None:
            self.cut = ~follows

    def _loop(self, d: Cotangents) -> tuple[list[Tensor], list[Tensor]]:
        environment, plan, values = self.environment, self.plan, self.environment.values
        arriving = self._arriving(d)
        values.update(self._solved(arriving))
        delayed = {plan.seeds[name]: name for name in environment.plan.delays}

        def need(node: Node) -> None:
            if node in values:
                return
            if node in delayed:
                name = delayed[node]
                values[node] = arriving[name]
                if name in plan.carried:
                    need(plan.carried[name])
                    values[node] = arriving[name] + self._handed_back(values[plan.carried[name]])
                return
            item = self.items[node]
            for arg in (*item.cotangents, *item.rest) if isinstance(item, Accumulation) else item.args:
                need(arg)
            environment.instruction(item)(values)

        for node in (*self.items, *delayed):
            need(node)
        back = [
            environment.over_time(values[plan.carried[name]]) if name in plan.carried else self.zero.expand_as(value)
            for name, value in arriving.items()
        ]
        initial = [value[0] for value in back]
        restarts = []
        if environment.resets is not None:
            restarts = [torch.where(environment.resets, value, self.zero).sum(0) for value in back]
            initial = [torch.where(environment.resets[0], self.zero, value) for value in initial]
        if environment.mask is not None:
            finals = (self.zero if final is None else final for final in d.finals)
            pairs = zip(initial, finals, strict=True)
            initial = [torch.where(environment.mask[0], value, final) for value, final in pairs]
        return initial, restarts

    def _arriving(self, d: Cotangents) -> dict[str, Tensor]:
        """What comes into each new state at every step, but from the step after it."""
        environment, call = self.environment, self.environment.call
        found = {}
        for (name, _), state, final in zip(environment.plan.program.states, call.states, d.finals, strict=True):
            none = self.zero.expand(environment.time, *state.shape)
            found[name] = none if final is None else torch.where(self.last, final, self.zero)
        if d.outputs[0] is not None:
            output = next(iter(found))
            found[output] = found[output] + environment.incoming(d.outputs[0])
        return found

    def _solved(self, arriving: dict[str, Tensor]) -> Values:
        """The cotangents of all new states but delays.

        What a step hands back is a sum over the cotangents of its results: with 1 for those of the recurrence and 0 for
        all others it is the factor, with 0 for those the offset.
        """
        plan, seeds = self.environment.plan, self.plan.seeds
        found = {seeds[name]: value for name, value in arriving.items() if name not in plan.delays}
        own = {seeds[name] for name in plan.linear}
        given = found | {seeds[f"tap_{name}"]: self.environment.values[seeds[f"tap_{name}"]] for name in plan.taps}
        inside = set(reachable(self.plan.carried[name] for name in plan.linear))
        ones = {seed: self.zero.add(seed in own).expand_as(value) for seed, value in given.items()}
        factors = self._evaluated(inside, ones)
        offsets: Values = {}
        if inside & (given.keys() - own):
            offsets = self._evaluated(inside, given | {seed: self.zero.expand_as(given[seed]) for seed in own})
        for name in plan.linear:
            node, total = self.plan.carried[name], arriving[name]
            total = total + self._handed_back(offsets[node]) if node in offsets else total
            cut = None if self.cut is None else self.cut.flip(0)
            found[seeds[name]] = linear_scan(self._handed_back(factors[node]).flip(0), total.flip(0), cut).flip(0)
        return found

    def _evaluated(self, inside: set[Node], seeds: Values) -> Values:
        """The values of these nodes, given these cotangents."""
        values = self.environment.values | seeds
        for node, item in self.items.items():
            if node in inside:
                self.environment.instruction(item)(values)
        return values

    def _handed_back(self, carried: Tensor) -> Tensor:
        """At each step, what the one after it hands back."""
        carried = self.environment.over_time(carried)
        after = torch.cat([carried[1:], torch.zeros_like(carried[:1])])
        return after if self.cut is None else torch.where(self.cut, self.zero, after)
