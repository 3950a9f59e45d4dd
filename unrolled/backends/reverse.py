"""The reference's backward scan: the plan's reverse loop and the large products after it, in torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unrolled.backends import Cotangents, Gradients
from unrolled.backends.environment import Environment, Values, columns_of, histories_of
from unrolled.backends.maps import MAPS
from unrolled.ir.backward import Accumulation, Contribution
from unrolled.ir.graph import Node, reachable
from unrolled.ir.plan import Group
from unrolled.ir.structure import DENSE, Structure


def restore(environment: Environment, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents) -> None:
    """Bring back what forward kept and compute, over all time, what stands before the reverse loop."""
    plan, call, values = environment.plan, environment.call, environment.values
    program, backward = plan.program, plan.backward
    output = program.states[0][0]
    for (node, _), value in zip(backward.saved, saved[: len(backward.saved)], strict=True):
        values[node] = value
    others = histories_of(plan)
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


class Reverse:
    """The reverse loop, and the large products after it."""

    def __init__(self, environment: Environment, wanted: Sequence[bool]):
        self.environment = environment
        call, self.plan = environment.call, environment.plan.backward
        lists = (call.sequences, call.rows, call.states, call.restarts, call.parameters)
        flags = iter(wanted)
        self.wanted = [[next(flags) for _ in tensors] for tensors in lists]
        self.parts = [parts if want else () for parts, want in zip(self.plan.groups, self.wanted[-1], strict=True)]
        self.roots = self._roots()
        ends = [node for parts in self.parts for part in parts for node in (*part.cotangents, part.operand)]
        self.needed = set(reachable([*self.roots, *(node for node in ends if node is not None)]))

    def run(self, d: Cotangents) -> Gradients:
        """All gradients that are wanted."""
        environment = self.environment
        carried, restarts = self._loop(d)
        self._after()
        _, _, states, anew, groups = self.wanted
        parameters = zip(self.parts, environment.plan.groups, environment.call.parameters, groups, strict=True)
        return Gradients(
            self._passed("sequence", 0),
            self._passed("row", 1),
            [value if want else None for value, want in zip(carried, states, strict=True)],
            [value if want else None for value, want in zip(restarts, anew, strict=False)],
            [self._group(parts, group, value) if want else None for parts, group, value, want in parameters],
        )

    def _loop(self, d: Cotangents) -> tuple[list[Tensor], list[Tensor]]:
        """Carry the cotangents of the states back in time; returns those of the initial states and of the restarts."""
        environment, plan, call = self.environment, self.plan, self.environment.call
        names = [name for name, _ in environment.plan.program.states]
        instructions = [environment.instruction(item) for stage in plan.loop for item in stage.items]
        columns = columns_of(environment.values)
        values: Values = dict(environment.values)
        pairs = zip(call.states, d.finals, strict=True)
        carried = [torch.zeros_like(state) if final is None else final for state, final in pairs]
        restarts = [torch.zeros_like(state) for state in call.states]
        d_output = None if d.outputs[0] is None else environment.incoming(d.outputs[0])
        joined: dict[tuple[Node | None, ...], list[Tensor]] = {key: [] for key in self._read_joined()}
        kept: dict[Node, list[Tensor]] = {node: [] for node in self._read_alone(joined)}
        for step in reversed(range(environment.time)):
            for node, column in columns:
                values[node] = column[step]
            for index, name in enumerate(names):
                arriving = carried[index] + d_output[step] if index == 0 and d_output is not None else carried[index]
                values[plan.seeds[name]] = arriving
            for run in instructions:
                run(values)
            old = [
                values[plan.carried[name]].expand_as(state) if name in plan.carried else torch.zeros_like(state)
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
            for key, steps in joined.items():
                steps.append(self._valid(environment.joined[key], step))
            for node, steps in kept.items():
                steps.append(self._valid(values[node], step))
        environment.values.update({node: torch.stack(steps[::-1]) for node, steps in kept.items() if steps})
        environment.joined = {key: torch.stack(steps[::-1]) for key, steps in joined.items() if steps}
        return carried, restarts

    def _read_joined(self) -> set[tuple[Node | None, ...]]:
        """The stacks of cotangents that the loop joins and that are read whole after it."""
        made: set[tuple[Node | None, ...]] = {
            item.cotangents for stage in self.plan.loop for item in stage.products if len(item.cotangents) > 1
        }
        read = {part.cotangents for parts in self.parts for part in parts}
        sums = [item for item in self.plan.after if isinstance(item, Accumulation) and item.node in self.needed]
        return made & (read | {item.cotangents for item in sums})

    def _read_alone(self, joined: Iterable[tuple[Node | None, ...]]) -> list[Node]:
        """The loop values that are read one by one after it."""
        read: set[Node | None] = {node for node in self.needed if node.args == ()}
        whole = set(joined)
        for item in self.plan.after:
            if isinstance(item, Node):
                read.update(item.args if item in self.needed else ())
            elif item.node in self.needed:
                read.update((*item.rest, *(() if item.cotangents in whole else item.cotangents)))
        for parts in self.parts:
            for part in parts:
                read.add(part.operand)
                read.update(() if part.cotangents in whole else part.cotangents)
        read |= set(self.roots)
        return [node for node in self.plan.kept if node in read]

    def _roots(self) -> list[Node]:
        """What is passed on to inputs and row values that want it."""
        program, results = self.environment.plan.program, self.plan.results
        wanted = {("sequence", name) for (name, _), w in zip(program.inputs, self.wanted[0], strict=True) if w}
        wanted |= {("row", name) for (name, _), w in zip(program.rows, self.wanted[1], strict=True) if w}
        return [node for leaf, node in results.items() if leaf.op != "parameter" and (leaf.op, leaf["name"]) in wanted]

    def _valid(self, value: Tensor, step: int) -> Tensor:
        mask = self.environment.mask
        return value if mask is None else torch.where(mask[step], value, value.new_zeros(()))

    def _after(self) -> None:
        environment, values = self.environment, self.environment.values
        for item in self.plan.after if environment.time else ():
            if isinstance(item, Accumulation) and item.node in self.needed and item.cotangents in environment.joined:
                values[item.node] = environment.accumulated(item, environment.joined[item.cotangents], values)
            elif (item if isinstance(item, Node) else item.node) in self.needed:
                environment.instruction(item)(values)

    def _passed(self, op: str, index: int) -> list[Tensor | None]:
        """The gradients of the inputs, or of the row values."""
        environment, call = self.environment, self.environment.call
        program, tensors = environment.plan.program, (call.sequences, call.rows)[index]
        leaves = {leaf["name"]: leaf for leaf in self.plan.results if leaf.op == op}
        found: list[Tensor | None] = []
        for (name, _), value, want in zip(
            (program.inputs, program.rows)[index], tensors, self.wanted[index], strict=True
        ):
            node = self.plan.results[leaves[name]] if name in leaves else None
            gradient = environment.values.get(node) if node is not None and environment.time else None
            if not want:
                found.append(None)
            elif gradient is None:
                found.append(torch.zeros_like(value))
            else:
                wide = environment.over_time(gradient)
                found.append(environment.outgoing(wide) if op == "sequence" else wide.sum(0))
        return found

    def _group(self, parts: Sequence[Contribution], group: Group, value: Tensor) -> Tensor:
        """The gradient of a group, in the shape in which it is stored."""
        environment = self.environment
        if not parts or not environment.time or not environment.batch:
            return torch.zeros_like(value)
        total: Tensor | None = None
        for part in parts:
            d = self._joined(part.cotangents, group)
            own = d.sum(0) if part.operand is None else self._product(group.structure, value, d, part.operand)
            own = own.reshape(value.shape)
            total = own if total is None else total + own
        assert total is not None
        return total

    def _joined(self, cotangents: tuple[Node | None, ...], group: Group) -> Tensor:
        """The cotangents side by side, (time · batch, stacked)."""
        environment, key = self.environment, tuple(node for node in cotangents if node is not None)
        if key not in environment.joined or len(key) < len(cotangents):
            width = environment.sizes[group.shape[0]] if group.shape else 1
            zero = environment.call.states[0].new_zeros(environment.time, environment.batch, width)
            columns = [zero if node is None else environment.over_time(environment.values[node]) for node in cotangents]
            stacked = torch.cat(columns, -1) if len(columns) > 1 else columns[0]
            if len(key) < len(cotangents):
                return stacked.flatten(0, 1)
            environment.joined[key] = stacked
        return environment.joined[key].flatten(0, 1)

    def _product(self, structure: Structure, entries: Tensor, d: Tensor, operand: Node) -> Tensor:
        """Cotangents times operand, contracted over time and rows."""
        environment = self.environment
        v = environment.values[operand]
        if v.is_floating_point():
            v = environment.over_time(v).flatten(0, 1)
        elif structure == DENSE:
            return torch.zeros_like(entries.mT).index_add_(0, v.flatten(), d).mT.contiguous()
        else:
            v = torch.nn.functional.one_hot(v.flatten(), environment.sizes[operand.shape[0]]).to(d.dtype)
        return MAPS[structure.name].gradient(structure, entries, d, v, environment.call.precision)
