"""A reverse scan of calls of one shape, and the large products that follow it chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unrolled.backends import Call, Cotangents, Gradients
from unrolled.backends.environment import histories_of
from unrolled.backends.llvm.arena import Arena
from unrolled.backends.llvm.backward import Reverse
from unrolled.backends.llvm.gradients import Sums
from unrolled.backends.llvm.group import Course
from unrolled.backends.llvm.layout import Layout, row_stride, rows_apart
from unrolled.backends.llvm.leaves import Leaves
from unrolled.backends.llvm.rows import Rows
from unrolled.backends.llvm.scan_code import ScanCode
from unrolled.backends.llvm.schedule import Schedule
from unrolled.backends.llvm.work import Buffer
from unrolled.ir.plan import Plan

# Rows, over time and batch, of a chunk: their cotangents stay in the cache until the large products have read them.
CHUNK_ROWS = 4096


class BackwardRun:
    """All that calls of one shape share."""

    def __init__(
        self,
        plan: Plan,
        reverse: Reverse,
        code: ScanCode,
        sizes: Mapping[str, int],
        schedule: Schedule,
        call: Call,
        d: Cotangents,
        rows: Rows,
        counts: set[int],
        splits: int,
    ):
        self.plan, self.reverse, self.sizes = plan, reverse, sizes
        self.threads = schedule.shares * schedule.members
        layout = self.layout = Layout(code, sizes, call.states[0].dtype, rows.batch, rows.shares)
        self.leaves = Leaves(plan, layout, call, reverse.once)
        self.names = [name for name, _ in plan.program.states]
        # A cotangent that does not come: every row reads it here.
        self.nothing = torch.zeros(max(self.sizes.values()), dtype=layout.dtype, device="cpu")
        for name, value in self._incoming(d):
            stride = 0 if value is None else row_stride(value)
            layout.rows_of(name, "nothing" if value is None else name, stride)
        for buffer in reverse.saved:
            layout.rows_of(buffer.name, buffer.name, self._units(buffer) * layout.item)
        self.kept_states = [self.names[0], *histories_of(plan)]
        widths = {name: self.sizes[shape[0]] if shape else 1 for name, shape in plan.program.states}
        for name in self.kept_states:
            for what in ("sequence", "state"):
                layout.rows_of(f"{what} {name}", f"sequence {name}", widths[name] * layout.item)
        if call.resets is not None:
            for name in self.names:
                layout.address(f"carried {name}.anew", f"anew {name}")
                layout.number(f"carried {name}.anew stride", widths[name] * layout.item)
        layout.number("delta", rows.delta)
        layout.number("kept delta", rows.kept_delta)
        layout.number("members", schedule.members)
        layout.set_tiles(counts, splits, schedule.members)
        layout.set_weights(self.leaves.place, self.threads)
        # Kept values of ragged rows stand without padding, row after row, all at once.
        self.at_once = rows.ragged or call.resets is not None
        self.sums = Sums(plan, reverse, layout, self.leaves)
        for name in ("start", "stop", "kept lowest"):
            layout.number(name, 0)
        layout.finish()

    def _units(self, buffer: Buffer) -> int:
        return self.sizes[buffer.axis] if buffer.axis else 1

    def _incoming(self, d: Cotangents) -> list[tuple[str, Tensor | None]]:
        seeds = [self.reverse.seeds[name].name for name in self.plan.taps]
        return list(zip(("d_output", *seeds), d.outputs, strict=True))

    def course(
        self,
        call: Call,
        outputs: Sequence[Tensor],
        saved: Sequence[Tensor],
        d: Cotangents,
        wants: Sequence[Sequence[bool]],
        rows: Rows,
    ) -> Course[Gradients]:
        """Run a call."""
        reverse, layout = self.reverse, self.layout
        tensors = self.leaves.tensors(call)
        tensors["nothing"] = self.nothing
        tensors |= {name: value for name, value in self._incoming(d) if value is not None}
        tensors |= dict(zip((buffer.name for buffer in reverse.saved), saved, strict=False))
        states = dict(zip(self.kept_states, (outputs[0], *saved[len(reverse.saved) :]), strict=True))
        tensors |= {f"sequence {name}": value for name, value in states.items()}
        anew = [torch.zeros_like(state) for state in call.states] if call.resets is not None else []
        tensors |= {f"anew {name}": value for name, value in zip(self.names, anew, strict=False)}
        steps = rows.longest if self.at_once else max(1, min(rows.time, CHUNK_ROWS // rows.batch))
        count = int(rows.starts[-1]) if rows.ragged else steps * rows.batch
        with Arena(layout.size + self.sums.bytes(count)) as memory:
            found = self.sums.begin(call, states, rows, wants, memory, count)
            tensors |= found.kept_tensors()
            halves = self._begin(memory, call, d, rows)
            launches = layout.launches(tensors, memory.address, rows.address)
            yield launches.pack()
            stop = rows.longest
            while stop > 0:
                start = max(0, stop - steps)
                lowest = 0 if rows.ragged else found.times(start, stop)[0] * rows.batch
                yield launches.steps(start, stop, self.threads, lowest)
                found.add(start, stop)
                stop = start
            initial: list[Tensor | None] = []
            for half, want in zip(halves, wants[2], strict=True):
                if not want:
                    initial.append(None)
                elif rows.ragged:
                    initial.append(half[torch.from_numpy(rows.positions)])
                else:
                    initial.append(half.clone(memory_format=torch.contiguous_format))
            return Gradients(
                found.passed,
                found.rows,
                initial,
                [value if want else None for value, want in zip(anew, wants[3], strict=False)],
                found.parameters(),
            )

    def _begin(self, memory: Arena, call: Call, d: Cotangents, rows: Rows) -> list[Tensor]:
        """Bring in the cotangents of the final states; returns where those of the initial ones will stand."""
        layout = self.layout
        found = []
        for name, state, final in zip(self.names, call.states, d.finals, strict=True):
            buffer = self.reverse.carried[name]
            width = layout.width(buffer.axis)
            for place in layout.carried[buffer.name]:
                half = memory.tensor(place, layout.batch, state.shape[1], width, layout.dtype)
                if final is None:
                    half.zero_()
                else:
                    half.copy_(final[torch.from_numpy(rows.order)] if rows.ragged else final)
            found.append(half)
        return found


def incoming_apart(d: Cotangents) -> Cotangents:
    """The cotangents with rows at even steps."""
    return Cotangents([None if value is None else rows_apart(value) for value in d.outputs], d.finals)
