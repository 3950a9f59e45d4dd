"""What follows the reverse loop, chunk by chunk while it is near: the gradients of maps, inputs and vectors."""

from __future__ import annotations

import ctypes
from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from unrolled import sequence
from unrolled.backends import Call
from unrolled.backends.llvm.arena import Arena
from unrolled.backends.llvm.backward import Reverse, Share, Stack
from unrolled.backends.llvm.layout import ALIGNMENT, ARENA, Layout
from unrolled.backends.llvm.leaves import Leaves
from unrolled.backends.llvm.rows import Rows
from unrolled.backends.llvm.work import Buffer
from unrolled.backends.maps import MAPS, matmul
from unrolled.ir.graph import Node
from unrolled.ir.plan import Plan
from unrolled.ir.structure import DENSE


class Sums:
    """Where what the loop keeps for these products stands, for all calls of one shape."""

    def __init__(self, plan: Plan, reverse: Reverse, layout: Layout, leaves: Leaves):
        self.plan, self.reverse, self.layout, self.leaves = plan, reverse, layout, leaves
        self.columns: dict[str, list[int]] = {}
        self.widths: dict[str, int] = {}
        item = layout.item
        for joint in reverse.work.joints:
            starts = [0]
            for part in joint.parts:
                starts.append(starts[-1] + self._units(part))
            self.columns[joint.name], self.widths[joint.name] = starts, starts[-1]
            for part, start in zip(joint.parts, starts, strict=False):
                layout.rows_of(part.name, f"kept {joint.name}", starts[-1] * item, start * item)
        for buffer in reverse.kept:
            self.widths[buffer.name] = self._units(buffer)
            layout.rows_of(buffer.name, f"kept {buffer.name}", self._units(buffer) * item)
        # Of a group: its number, and where the sums of each share's rows begin, symbol by symbol.
        self.partials: list[tuple[int, int]] = []
        self.begins = layout.size
        for number, group in enumerate(reverse.sums):
            if not group:
                continue
            stride = layout.width(group[0][1].axis) * item
            start = layout.reserve(layout.shares * len(group) * stride)
            for index, (_, buffer) in enumerate(group):
                layout.rows_of(buffer.name, ARENA, len(group) * stride, start + index * stride)
            self.partials.append((number, start))
        self.ends = layout.size

    def _units(self, buffer: Buffer) -> int:
        return self.layout.sizes[buffer.axis] if buffer.axis else 1

    def bytes(self, count: int) -> int:
        """The memory of what so many rows keep."""
        return sum(-(-count * width * self.layout.item // ALIGNMENT) * ALIGNMENT for width in self.widths.values())

    def begin(
        self,
        call: Call,
        states: Mapping[str, Tensor],
        rows: Rows,
        wants: Sequence[Sequence[bool]],
        memory: Arena,
        count: int,
    ) -> GrowingGradients:
        """The gradients of a call, nothing yet."""
        place, kept = self.layout.size, {}
        for name, width in self.widths.items():
            kept[name] = memory.tensor(place, count, width, width, self.layout.dtype)
            place += -(-count * width * self.layout.item // ALIGNMENT) * ALIGNMENT
        ctypes.memset(memory.address + self.begins, 0, self.ends - self.begins)
        return GrowingGradients(self, call, states, rows, wants, kept, memory)

    def partial(self, number: int, start: int, memory: Arena) -> Tensor:
        """The sums of a group over all shares, (symbols, units)."""
        group, layout = self.reverse.sums[number], self.layout
        axis = group[0][1].axis
        units, width = layout.sizes[axis] if axis else 1, layout.width(axis)
        sums = memory.tensor(start, layout.shares, len(group) * width, len(group) * width, layout.dtype).sum(0)
        return sums.view(len(group), width)[:, :units]


class GrowingGradients:
    """The gradients of one call as they grow."""

    def __init__(
        self,
        sums: Sums,
        call: Call,
        states: Mapping[str, Tensor],
        rows: Rows,
        wants: Sequence[Sequence[bool]],
        kept: Mapping[str, Tensor],
        memory: Arena,
    ):
        self.sums, self.call, self.states, self.placed = sums, call, states, rows
        self.plan, self.reverse, self.kept, self.memory = sums.plan, sums.reverse, kept, memory
        self._rounded: dict[Hashable, Tensor] = {}  # what several products of a chunk read
        program = self.plan.program
        self.inputs = dict(zip((name for name, _ in program.inputs), call.sequences, strict=True))
        self.groups = [
            torch.zeros_like(value, memory_format=torch.contiguous_format) if want else None
            for value, want in zip(call.parameters, wants[4], strict=True)
        ]
        # Of maps that read one-hot vectors the gradients by symbol, which are summed faster than by unit.
        self._tables: dict[tuple[int, tuple[int, ...]], tuple[Tensor, Tensor]] = {}
        self.passed: list[Tensor | None] = []
        for (name, _), value, want in zip(program.inputs, call.sequences, wants[0], strict=True):
            make = torch.empty_like if name in self.reverse.passed and not rows.ragged else torch.zeros_like
            self.passed.append(make(value, memory_format=torch.contiguous_format) if want else None)
        self.rows: list[Tensor | None] = [
            torch.zeros_like(value) if want else None for value, want in zip(call.rows, wants[1], strict=True)
        ]

    def kept_tensors(self) -> dict[str, Tensor]:
        """Where the loop keeps its values, by the names of the sources."""
        return {f"kept {name}": value for name, value in self.kept.items()}

    def times(self, start: int, stop: int) -> tuple[int, int]:
        """The stretch of the caller's time of these steps."""
        rows = self.placed
        return (rows.time - stop, rows.time - start) if rows.reverse else (start, stop)

    def add(self, start: int, stop: int) -> None:
        """Take the large products of these steps."""
        rows = self.placed
        self._rounded.clear()
        count = int(rows.starts[-1]) if rows.ragged else (stop - start) * rows.batch
        for index, shares in enumerate(self.reverse.shares):
            total = self.groups[index]
            if total is not None:
                for share in shares:
                    self._add_share(index, total, share, start, stop, count)
        for (name, _), total in zip(self.plan.program.inputs, self.passed, strict=True):
            if total is not None and name in self.reverse.passed:
                self._pass_on(name, total, start, stop, count)
        for (name, _), total in zip(self.plan.program.rows, self.rows, strict=True):
            if total is not None and name in self.reverse.rows:
                self._add_rows(self.reverse.rows[name].name, total, count)

    def _stack(self, stack: Stack, count: int) -> Tensor:
        columns = self.sums.columns[stack.joint]
        return self.kept[stack.joint][:count, columns[stack.first] : columns[stack.last]]

    def _factor(self, key: Hashable, value: Tensor) -> Tensor:
        """A factor of several products, rounded once to the type that they are taken in."""
        if not self.call.precision:
            return value
        if key not in self._rounded:
            self._rounded[key] = value.to(getattr(torch, self.call.precision))
        return self._rounded[key]

    def _add_product(self, total: Tensor, one: Tensor, other: Tensor) -> None:
        if self.call.precision:
            total += matmul(one, other, self.call.precision)
        else:
            total.addmm_(one, other)

    def _add_share(self, index: int, total: Tensor, share: Share, start: int, stop: int, count: int) -> None:
        group, operand = self.plan.groups[index], share.operand
        d = self._stack(share.stack, count)
        if group.structure != DENSE:
            v = self._operand(operand, start, stop, count)
            entries = self.call.parameters[index]
            row, precision = MAPS[group.structure.name], self.call.precision
            total += row.gradient(group.structure, entries, d, v, precision).reshape(total.shape)
            return
        whole = len(share.symbols) == len(group.names)
        part = total if whole else total.chunk(len(group.names))[share.symbols[0]]
        steady = not self.placed.ragged and self.call.resets is None
        if isinstance(operand, Node) and operand.op == "state" and steady:
            olds, factor = self._old_parts(operand["name"], start, stop), self._factor(share.stack, d)
            for old, own in zip(olds, factor.split([len(old) for old in olds]), strict=True):
                self._add_product(part, own.mT, old)
            return
        if isinstance(operand, Node) and operand.op == "sequence":
            value = self.inputs[operand["name"]]
            if not value.is_floating_point():
                table = self._tables.setdefault((index, share.symbols), (part, part.new_zeros(part.mT.shape)))[1]
                table.index_add_(0, self._flat(value[..., None], start, stop)[:, 0], d)
                return
        self._add_product(part, self._factor(share.stack, d).mT, self._operand(operand, start, stop, count))

    def _old_parts(self, name: str, start: int, stop: int) -> list[Tensor]:
        """The old values of a state at these steps of rows that all have them, as they stand: its new values, which are
        one step beside, and where the rows begin the initial ones.
        """
        (first, last), values, rows = self.times(start, stop), self.states[name], self.placed
        initial = self.call.states[[state for state, _ in self.plan.program.states].index(name)]
        if rows.reverse:
            begins = last == rows.time
            parts = [values[first + 1 : last + (not begins)].flatten(0, 1), *([initial] if begins else [])]
        else:
            begins = first == 0
            parts = [*([initial] if begins else []), values[max(first - 1, 0) : last - 1].flatten(0, 1)]
        return [part for part in parts if part.shape[0]]

    def _flat(self, value: Tensor, start: int, stop: int) -> Tensor:
        """The values of a sequence as the kept ones stand."""
        if self.placed.ragged:
            return value.reshape(-1, value.shape[-1])[torch.from_numpy(self.placed.steps)]
        first, last = self.times(start, stop)
        return value[first:last].reshape(-1, value.shape[-1])

    def _operand(self, operand: Node | Buffer, start: int, stop: int, count: int) -> Tensor:
        if isinstance(operand, Buffer):
            return self.kept[operand.name][:count]
        if operand.op == "state":
            steady = not self.placed.ragged and self.call.resets is None
            return (
                torch.cat(self._old_parts(operand["name"], start, stop)) if steady else self._flat_old(operand["name"])
            )
        value = self.inputs[operand["name"]]
        if value.is_floating_point():
            return self._flat(value, start, stop)
        one_hot = torch.nn.functional.one_hot(value, self.sums.layout.sizes[operand.shape[0]])
        return self._flat(one_hot.to(self.sums.layout.dtype), start, stop)

    def _flat_old(self, name: str) -> Tensor:
        """The old values of a state at every valid step."""
        rows, call = self.placed, self.call
        place = [state for state, _ in self.plan.program.states].index(name)
        flat = self.states[name].flatten(0, 1)
        steps, counts = torch.from_numpy(rows.steps), torch.from_numpy(rows.lengths)
        old = flat[(steps - rows.delta).clamp(0, len(flat) - 1)]
        order, starts = torch.from_numpy(rows.order), torch.from_numpy(rows.starts[:-1])
        present = counts > 0
        old[starts[present]] = call.states[place][order[present]]
        if call.resets is not None:
            resets = sequence.reverse_resets(call.resets, call.lengths) if call.reverse else call.resets
            owner = torch.repeat_interleave(order, counts)
            within = torch.arange(len(steps), device="cpu") - torch.repeat_interleave(starts, counts)
            old = torch.where(resets[within, owner][:, None], call.restarts[place][owner], old)
        if rows.ragged:
            return old
        result = torch.empty_like(old)
        result[steps] = old
        return result

    def _pass_on(self, name: str, total: Tensor, start: int, stop: int, count: int) -> None:
        """The gradient of an input."""
        passed = self.reverse.passed[name]
        if self.placed.ragged:
            target = total.new_empty(count, total.shape[-1])
        else:
            first, last = self.times(start, stop)
            target = total[first:last].view(count, total.shape[-1])
        begun = passed.rest is not None
        if passed.rest is not None:
            target.copy_(self.kept[passed.rest.name][:count])
        for stack, matrices in passed.products:
            d, structure = self._stack(stack, count), matrices[0]["structure"]
            if structure == DENSE:
                stacked = self.sums.leaves.stacked(matrices, self.call)
                d = self._factor(stack, d)
                if begun:
                    self._add_product(target, d, stacked)
                elif self.call.precision:
                    target.copy_(matmul(d, stacked, self.call.precision))
                else:
                    torch.mm(d, stacked, out=target)
            else:
                entries = self.call.parameters[self.sums.leaves.groups[matrices[0].symbol][0]]
                own = MAPS[structure.name].transposed(structure, entries, d, self.call.precision)
                target.copy_(target + own if begun else own)
            begun = True
        if self.placed.ragged:
            total.view(-1, total.shape[-1])[torch.from_numpy(self.placed.steps)] = target

    def _add_rows(self, name: str, total: Tensor, count: int) -> None:
        rows, values = self.placed, self.kept[name][:count]
        if not rows.ragged:
            total += values.view(-1, rows.batch, values.shape[1]).sum(0)
            return
        owner = torch.repeat_interleave(torch.from_numpy(rows.order), torch.from_numpy(rows.lengths))
        total.index_add_(0, owner, values)

    def parameters(self) -> list[Tensor | None]:
        """The gradients of the groups."""
        for part, table in self._tables.values():
            part += table.mT
        for number, start in self.sums.partials:
            total, group = self.groups[number], self.plan.groups[number]
            if total is None:
                continue
            parts, sums = self.reverse.sums[number], self.sums.partial(number, start, self.memory)
            if len(parts) == len(group.names):
                total += sums.reshape(total.shape)
            else:
                for (place, _), own in zip(parts, sums, strict=True):
                    part = total.chunk(len(group.names))[place]
                    part += own.view_as(part)
        return self.groups
