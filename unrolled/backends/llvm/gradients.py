"""What follows the reverse loop, chunk by chunk while it is near: the gradients of maps, inputs and vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from unrolled.backends import Call
from unrolled.backends.environment import group_symbols
from unrolled.backends.llvm.arena import Arena
from unrolled.backends.llvm.backward import Reverse, Share, Stack
from unrolled.backends.llvm.call import KernelCall, Maps
from unrolled.backends.llvm.work import Buffer
from unrolled.backends.maps import MAPS
from unrolled.ir.graph import Node
from unrolled.ir.plan import Plan
from unrolled.ir.structure import DENSE

# Rows, over time and batch, of a chunk: their cotangents stay in the cache until the large products have read them.
CHUNK_ROWS = 2048


class Sums:
    """The gradients of one backward call as they grow."""

    def __init__(
        self,
        plan: Plan,
        call: Call,
        reverse: Reverse,
        kernel: KernelCall,
        maps: Maps,
        wants: Sequence[Sequence[bool]],
        states: Mapping[str, Tensor],
    ):
        self.plan, self.call, self.reverse, self.kernel, self.maps = plan, call, reverse, kernel, maps
        self.wants, self.states = wants, states
        rows = kernel.rows
        # Kept values of ragged rows stand without padding, row after row, all at once.
        self.whole = rows.ragged or call.resets is not None
        self.steps = rows.longest if self.whole else max(1, min(rows.time, CHUNK_ROWS // rows.batch))
        self.count = int(rows.starts[-1]) if rows.ragged else self.steps * rows.batch
        self.inputs = dict(zip((name for name, _ in plan.program.inputs), call.sequences, strict=True))
        self.groups = [
            torch.zeros_like(value) if want else None for value, want in zip(call.parameters, wants[4], strict=True)
        ]
        self.passed: list[Tensor | None] = []
        for (name, _), value, want in zip(plan.program.inputs, call.sequences, wants[0], strict=True):
            if not want:
                self.passed.append(None)
            elif name in reverse.passed and not rows.ragged:
                self.passed.append(torch.empty_like(value, memory_format=torch.contiguous_format))
            else:
                self.passed.append(torch.zeros_like(value, memory_format=torch.contiguous_format))
        self.row_sums = [
            torch.zeros_like(value) if want else None for value, want in zip(call.rows, wants[1], strict=True)
        ]
        self.kept: dict[str, Tensor] = {}
        self.partials: list[tuple[int, int, Tensor]] = []

    def _joint_widths(self) -> dict[str, list[int]]:
        return {joint.name: [self._units(part) for part in joint.parts] for joint in self.reverse.work.joints}

    def _units(self, buffer: Buffer) -> int:
        return self.kernel.sizes[buffer.axis] if buffer.axis else 1

    def _kept_shapes(self) -> dict[str, tuple[int, int]]:
        shapes = {name: (self.count, sum(widths)) for name, widths in self._joint_widths().items()}
        return shapes | {buffer.name: (self.count, self._units(buffer)) for buffer in self.reverse.kept}

    def bytes(self) -> int:
        """The memory of what the loop keeps, and of partial sums."""
        size = sum((rows * units * self.kernel.item + 64) for rows, units in self._kept_shapes().values())
        parts = [buffer for group in self.reverse.sums for _, buffer in group]
        return size + sum(
            self.kernel.rows.shares * self.kernel.width(buffer) * self.kernel.item + 64 for buffer in parts
        )

    def lay_out(self, memory: Arena) -> None:
        """Say where it stands."""
        self.kept = {name: memory.tensor(shape, self.kernel.dtype) for name, shape in self._kept_shapes().items()}
        for number, group in enumerate(self.reverse.sums):
            for place, buffer in group:
                sums = memory.tensor((self.kernel.rows.shares, self.kernel.width(buffer)), self.kernel.dtype).zero_()
                self.kernel.set_tensor(buffer.name, sums)
                self.partials.append((number, place, sums[:, : self._units(buffer)]))

    def chunks(self) -> Iterator[tuple[int, int]]:
        """The stretches of steps, the last first."""
        stop = self.kernel.rows.longest
        while stop > 0:
            yield max(0, stop - self.steps), stop
            stop -= self.steps

    def begin(self, start: int, stop: int) -> None:
        """Make room for what these steps keep."""
        rows, kernel = self.kernel.rows, self.kernel
        kernel.words["kept first"] = kernel.address(rows.starts) if rows.ragged else kernel.words["first"]
        kernel.words["kept delta"] = 1 if rows.ragged else rows.delta
        lowest = 0 if rows.ragged else self._times(start, stop)[0] * rows.batch
        for joint in self.reverse.work.joints:
            tensor, column = self.kept[joint.name], 0
            for part in joint.parts:
                kernel.set_tensor(part.name, tensor, column=column - lowest * tensor.shape[1])
                column += self._units(part)
        for buffer in self.reverse.kept:
            tensor = self.kept[buffer.name]
            kernel.set_tensor(buffer.name, tensor, column=-lowest * tensor.shape[1])

    def _times(self, start: int, stop: int) -> tuple[int, int]:
        """The stretch of the caller's time of these steps."""
        rows = self.kernel.rows
        return (rows.time - stop, rows.time - start) if rows.reverse else (start, stop)

    def end(self, start: int, stop: int) -> None:
        """Take the large products of these steps."""
        rows = self.kernel.rows
        count = self.count if rows.ragged else (stop - start) * rows.batch
        for index, shares in enumerate(self.reverse.shares):
            total = self.groups[index]
            if total is not None:
                for share in shares:
                    self._add_share(index, total, share, start, stop, count)
        for (name, _), total in zip(self.plan.program.inputs, self.passed, strict=True):
            if total is not None and name in self.reverse.passed:
                self._pass_on(name, total, start, stop, count)
        for (name, _), total in zip(self.plan.program.rows, self.row_sums, strict=True):
            if total is not None and name in self.reverse.rows:
                self._add_rows(self.reverse.rows[name].name, total, count)

    def _stack(self, stack: Stack, count: int) -> Tensor:
        widths = self._joint_widths()[stack.joint]
        first, last = sum(widths[: stack.first]), sum(widths[: stack.last])
        return self.kept[stack.joint][:count, first:last]

    def _add_share(self, index: int, total: Tensor, share: Share, start: int, stop: int, count: int) -> None:
        group = self.plan.groups[index]
        d = self._stack(share.stack, count)
        if group.structure != DENSE:
            v = self._operand(share.operand, start, stop, count, rounded=False)
            entries = self.call.parameters[index]
            total += MAPS[group.structure.name].gradient(group.structure, entries, d, v, "").reshape(total.shape)
            return
        whole = len(share.symbols) == len(group.names)
        parts = [total] if whole else [total.chunk(len(group.names))[place] for place in share.symbols]
        for part in parts:
            if isinstance(share.operand, Node) and share.operand.op == "state" and not self.whole:
                self._add_old_state(part, d, share.operand["name"], start, stop)
                continue
            if isinstance(share.operand, Node) and share.operand.op == "sequence":
                value = self.inputs[share.operand["name"]]
                if not value.is_floating_point():
                    self._add_one_hot(part, d, value, start, stop)
                    continue
            v = self._operand(share.operand, start, stop, count)
            part.addmm_(d.mT, v)

    def _add_one_hot(self, total: Tensor, d: Tensor, index: Tensor, start: int, stop: int) -> None:
        """The gradient of a map of one-hot vectors: cotangents summed by symbol."""
        places = self._flat(index[..., None], start, stop)[:, 0]
        total.mT.index_add_(0, places, d)

    def _add_old_state(self, total: Tensor, d: Tensor, name: str, start: int, stop: int) -> None:
        """Cotangents times the old values of a state, which stand one step beside its new ones."""
        rows, values = self.kernel.rows, self.states[name]
        first, last = self._times(start, stop)
        batch = rows.batch
        initial = self.call.states[[state for state, _ in self.plan.program.states].index(name)]
        if rows.reverse:
            begins = last == rows.time
            inner, old = d[: d.shape[0] - batch] if begins else d, values[first + 1 : last + (not begins)]
            outer = d[d.shape[0] - batch :]
        else:
            begins = first == 0
            inner, old = d[batch:] if begins else d, values[max(first - 1, 0) : last - 1]
            outer = d[:batch]
        if inner.shape[0]:
            total.addmm_(inner.mT, old.flatten(0, 1))
        if begins:
            total.addmm_(outer.mT, initial)

    def _flat(self, value: Tensor, start: int, stop: int) -> Tensor:
        """The values of a sequence as the kept ones stand."""
        rows = self.kernel.rows
        if rows.ragged:
            return value.reshape(-1, value.shape[-1])[torch.from_numpy(rows.steps)]
        first, last = self._times(start, stop)
        return value[first:last].reshape(-1, value.shape[-1])

    def _operand(self, operand: Node | Buffer, start: int, stop: int, count: int, rounded: bool = True) -> Tensor:
        del rounded
        if isinstance(operand, Buffer):
            return self.kept[operand.name][:count]
        if operand.op == "sequence":
            value = self.inputs[operand["name"]]
            if value.is_floating_point():
                return self._flat(value, start, stop)
            one_hot = torch.nn.functional.one_hot(value, self.kernel.sizes[operand.shape[0]]).to(self.kernel.dtype)
            return self._flat(one_hot, start, stop)
        if operand.op == "state":
            return self._flat_old(operand["name"])
        raise AssertionError(operand)

    def _flat_old(self, name: str) -> Tensor:
        """The old values of a state at every valid step."""
        rows, call = self.kernel.rows, self.call
        values = self.states[name]
        place = [state for state, _ in self.plan.program.states].index(name)
        flat = values.flatten(0, 1)
        steps = torch.from_numpy(rows.steps)
        old = flat[(steps - rows.delta).clamp(0, len(flat) - 1)]
        order, starts = torch.from_numpy(rows.order), torch.from_numpy(rows.starts[:-1])
        present = torch.from_numpy(rows.lengths > 0)
        old[starts[present]] = call.states[place][order[present]]
        if call.resets is not None:
            resets = self._resets_by_row()
            owner = torch.repeat_interleave(order, torch.from_numpy(rows.lengths))
            old = torch.where(resets[:, None], call.restarts[place][owner], old)
        if rows.ragged:
            return old
        result = torch.empty_like(old)
        result[steps] = old
        return result

    def _resets_by_row(self) -> Tensor:
        from unrolled import sequence

        rows, call = self.kernel.rows, self.call
        assert call.resets is not None
        resets = sequence.reverse_resets(call.resets, call.lengths) if call.reverse else call.resets
        counts = torch.from_numpy(rows.lengths)
        within = torch.arange(int(rows.starts[-1])) - torch.repeat_interleave(
            torch.from_numpy(rows.starts[:-1]), counts
        )
        owner = torch.repeat_interleave(torch.from_numpy(rows.order), counts)
        return resets[within, owner]

    def _pass_on(self, name: str, total: Tensor, start: int, stop: int, count: int) -> None:
        """The gradient of an input."""
        rows, passed = self.kernel.rows, self.reverse.passed[name]
        if rows.ragged:
            target = total.new_empty(count, total.shape[-1])
        else:
            first, last = self._times(start, stop)
            target = total[first:last].view(count, total.shape[-1])
        begun = False
        if passed.rest is not None:
            target.copy_(self.kept[passed.rest.name][:count])
            begun = True
        for stack, matrices in passed.products:
            d = self._stack(stack, count)
            structure = matrices[0]["structure"]
            if structure == DENSE:
                stacked = self._stacked(matrices)
                if begun:
                    target.addmm_(d, stacked)
                else:
                    torch.mm(d, stacked, out=target)
            else:
                own = MAPS[structure.name].transposed(structure, self.maps.symbols[matrices[0].symbol], d, "")
                target.copy_(target + own if begun else own)
            begun = True
        if rows.ragged:
            total.view(-1, total.shape[-1])[torch.from_numpy(rows.steps)] = target

    def _stacked(self, matrices: Sequence[Node]) -> Tensor:
        keys = tuple(node.symbol for node in matrices)
        for group, value in zip(self.plan.groups, self.call.parameters, strict=True):
            if group_symbols(group) == keys:
                return value
        return torch.cat([self.maps.symbols[key] for key in keys])

    def _add_rows(self, name: str, total: Tensor, count: int) -> None:
        rows, values = self.kernel.rows, self.kept[name][:count]
        if not rows.ragged:
            total += values.view(-1, rows.batch, values.shape[1]).sum(0)
            return
        owner = torch.repeat_interleave(torch.from_numpy(rows.order), torch.from_numpy(rows.lengths))
        total.index_add_(0, owner, values)

    def rows(self) -> list[Tensor | None]:
        """The gradients of the row values."""
        return list(self.row_sums)

    def parameters(self) -> list[Tensor | None]:
        """The gradients of the groups."""
        for number, place, sums in self.partials:
            total, group = self.groups[number], self.plan.groups[number]
            if total is not None:
                part = total.chunk(len(group.names))[place] if group.structure == DENSE else total
                part += sums.sum(0).view_as(part)
        return list(self.groups)
