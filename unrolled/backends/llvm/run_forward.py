"""A forward scan of calls of one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unrolled.backends import Call, Result
from unrolled.backends.environment import split_groups
from unrolled.backends.llvm.ahead import Ahead
from unrolled.backends.llvm.arena import Arena, recycled
from unrolled.backends.llvm.forward import Forward
from unrolled.backends.llvm.group import Course
from unrolled.backends.llvm.layout import Layout
from unrolled.backends.llvm.leaves import Leaves
from unrolled.backends.llvm.rows import Rows
from unrolled.backends.llvm.scan_code import ScanCode
from unrolled.backends.llvm.schedule import Schedule
from unrolled.backends.llvm.work import Buffer, Index
from unrolled.backends.maps import MAPS
from unrolled.ir.graph import Node
from unrolled.ir.plan import Plan
from unrolled.ir.structure import DENSE


class ForwardRun:
    """All that calls of one shape share."""

    def __init__(
        self,
        plan: Plan,
        forward: Forward,
        code: ScanCode,
        aheads: Mapping[str, Ahead],
        sizes: Mapping[str, int],
        schedule: Schedule,
        call: Call,
        rows: Rows,
        counts: set[int],
        splits: int,
    ):
        self.plan, self.forward, self.aheads = plan, forward, aheads
        self.sizes = sizes
        self.threads = schedule.shares * schedule.members
        layout = self.layout = Layout(code, sizes, call.states[0].dtype, rows.batch, rows.shares)
        self.leaves = Leaves(plan, layout, call, forward.once)
        for buffer in (*forward.outputs, *forward.saved):
            layout.rows_of(buffer.name, buffer.name, self._units(buffer) * layout.item)
        for name, buffer in forward.states.items():
            if buffer.index is Index.STEP:
                layout.rows_of(f"state {name}", buffer.name, self._units(buffer) * layout.item)
        for ahead in aheads.values():
            ahead.set_words(layout)
        self._set_tables()
        layout.number("delta", rows.delta)
        layout.number("members", schedule.members)
        layout.set_tiles(counts, splits, schedule.members)
        layout.set_weights(self.leaves.place, self.threads)
        layout.number("start", 0)
        layout.number("stop", 0)
        layout.finish()

    def _units(self, buffer: Buffer) -> int:
        return self.sizes[buffer.axis] if buffer.axis else 1

    def _set_tables(self) -> None:
        """Of inputs that are whole numbers: where the products with what they may stand for are looked up."""
        item = self.layout.item
        for name, products in self.forward.outside.items():
            if name in self.aheads:
                continue
            width = sum(self.sizes[node.shape[0]] for node in products)
            column = 0
            for number, node in enumerate(products):
                self.layout.rows_of(f"product {name} {number}", f"products {name}", width * item, column * item)
                column += self.sizes[node.shape[0]]

    def _tables(self, call: Call) -> dict[str, Tensor]:
        return {
            f"products {name}": self._table([node.args[0] for node in products], call)
            for name, products in self.forward.outside.items()
            if products and name not in self.aheads
        }

    def _table(self, matrices: Sequence[Node], call: Call) -> Tensor:
        """The columns of the maps, which are their products with one-hot vectors, side by side."""
        if all(matrix["structure"] == DENSE for matrix in matrices):
            return self.leaves.stacked(matrices, call).mT.contiguous()
        one_hot = torch.eye(self.sizes[matrices[0].shape[1]], dtype=self.layout.dtype, device="cpu")
        symbols = split_groups(self.plan.groups, call.parameters)
        return torch.cat(
            [
                MAPS[matrix["structure"].name].product(matrix["structure"], symbols[matrix.symbol], one_hot, "")
                for matrix in matrices
            ],
            1,
        )

    def course(self, call: Call, rows: Rows) -> Course[Result]:
        """Run a call."""
        forward, layout, dtype = self.forward, self.layout, self.layout.dtype
        made = {
            buffer.name: recycled((rows.time, rows.batch, self._units(buffer)), dtype)
            for buffer in (*forward.outputs, *forward.saved)
        }
        if rows.ragged:
            for buffer in forward.outputs:
                made[buffer.name].zero_()
        tensors = self.leaves.tensors(call) | self._tables(call) | made
        for ahead in self.aheads.values():
            tensors[ahead.source] = yield from ahead.course(call, tensors)
        with Arena(layout.size) as memory:
            self._begin(memory, call, rows)
            launches = layout.launches(tensors, memory.address, rows.address)
            yield launches.pack()
            yield launches.steps(0, rows.longest, self.threads)
            finals = [
                self._final(memory, buffer, made.get(buffer.name), initial, rows)
                for buffer, initial in zip(forward.states.values(), call.states, strict=True)
            ]
        outputs = [made[buffer.name] for buffer in forward.outputs]
        return Result(outputs, finals, [made[buffer.name] for buffer in forward.saved])

    def _begin(self, memory: Arena, call: Call, rows: Rows) -> None:
        """Bring the initial states that are carried to where the loop reads them first."""
        for buffer, initial in zip(self.forward.states.values(), call.states, strict=True):
            if buffer.index is Index.CARRIED:
                even, odd = self.layout.carried[buffer.name]
                if rows.ragged:  # a row may end before it has a step
                    initial = initial.index_select(0, torch.from_numpy(rows.order))
                    self._carried(memory, odd, buffer).copy_(initial)
                self._carried(memory, even, buffer).copy_(initial)

    def _carried(self, memory: Arena, place: int, buffer: Buffer) -> Tensor:
        layout = self.layout
        return memory.tensor(place, layout.batch, self._units(buffer), layout.width(buffer.axis), layout.dtype)

    def _final(self, memory: Arena, buffer: Buffer, values: Tensor | None, initial: Tensor, rows: Rows) -> Tensor:
        """The final values of a state, whose values stand in a sequence or are carried in two buffers in turn."""
        if values is not None:
            return _last(values, initial, rows)
        halves = self.layout.carried[buffer.name]
        if not rows.ragged:
            return self._carried(memory, halves[rows.time % 2], buffer).clone(memory_format=torch.contiguous_format)
        even, odd = (self._carried(memory, place, buffer) for place in halves)
        ends_odd = torch.from_numpy((rows.lengths % 2 == 1)[rows.positions])[:, None]
        positions = torch.from_numpy(rows.positions)
        return torch.where(ends_odd, odd.index_select(0, positions), even.index_select(0, positions))


def _last(values: Tensor, initial: Tensor, rows: Rows) -> Tensor:
    """The final values of a state whose values stand in a sequence."""
    if not rows.ragged:
        return values[0 if rows.reverse else -1].clone()
    found = values.flatten(0, 1).index_select(0, torch.from_numpy(rows.last))
    if len(rows.empty):
        empty = torch.from_numpy(rows.empty)
        found[empty] = initial[empty]
    return found
