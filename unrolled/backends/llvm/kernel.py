"""A plan as a kernel on the CPU: the call's tensors laid out, the scan run, the large products around it taken."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from unrolled import sequence
from unrolled.backends import Call, Cotangents, Gradients, Result
from unrolled.backends.environment import histories_of, split_groups
from unrolled.backends.llvm.arena import arena
from unrolled.backends.llvm.backward import Reverse, make_reverse
from unrolled.backends.llvm.call import KernelCall, Maps, rows_apart
from unrolled.backends.llvm.driver import Variant
from unrolled.backends.llvm.forward import BEFORE_LOOP, TABLE, Forward, make_forward
from unrolled.backends.llvm.gradients import Sums
from unrolled.backends.llvm.leaves import once_values, outside_products, set_leaves
from unrolled.backends.llvm.machine import host
from unrolled.backends.llvm.phases import Step, make_step
from unrolled.backends.llvm.rows import Rows, dense_rows, ragged_rows
from unrolled.backends.llvm.scan_code import ScanCode
from unrolled.backends.llvm.schedule import Schedule, choose
from unrolled.backends.llvm.work import Index
from unrolled.backends.reference import Interpreter
from unrolled.ir.plan import Plan

# An input of more units, or of few rows, is multiplied with its maps before the loop, by one large product.
FUSED_INPUTS = 512
FUSED_ROWS = 4


class CompiledPlan:
    """A plan whose scans run as compiled kernels; what those do not do, the reference does."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.reference = Interpreter(plan)
        self._forwards: dict[tuple[bool, tuple[tuple[str, str], ...], bool], tuple[Forward, Step]] = {}
        self._reverses: dict[tuple[frozenset[str], bool], tuple[Reverse, Step]] = {}
        self._codes: dict[tuple[object, ...], ScanCode] = {}

    @cached_property
    def _output(self) -> str:
        return self.plan.program.states[0][0]

    def sizes(self, call: Call) -> dict[str, int]:
        """The sizes of the axes."""
        return dict(zip(self.plan.axes, call.sizes, strict=True))

    def runs(self, call: Call) -> bool:
        """Whether kernels do what the call asks for."""
        dtype = call.states[0].dtype
        time, batch = call.sequences[0].shape[:2]
        return dtype in (torch.float32, torch.float64) and not call.precision and time > 0 and batch > 0

    def forward(self, call: Call, train: bool) -> Result:
        """Run over all time."""
        if not self.runs(call):
            return self.reference.forward(call, train)
        time, batch = call.sequences[0].shape[:2]
        sizes, dtype = self.sizes(call), call.states[0].dtype
        modes = self._modes(call, sizes, batch)
        code, forward = self._forward_code(call, train, modes, sizes)
        all_sizes = self._all_sizes(sizes, forward.work.extra, forward.work.axes)
        schedule = self._schedule(code, all_sizes, batch, dtype, reverse=False)
        rows = self._rows(call, schedule.shares)
        kernel = KernelCall(code, rows, all_sizes, dtype)
        maps = Maps(split_groups(self.plan.groups, call.parameters), {**sizes, **forward.work.extra})
        empty = torch.zeros if rows.ragged else torch.empty

        def sequence_of(axis: str) -> Tensor:
            return empty(time, batch, all_sizes[axis] if axis else 1, dtype=dtype)

        outputs = [sequence_of(buffer.axis) for buffer in forward.outputs]
        saved = [sequence_of(buffer.axis) for buffer in forward.saved]
        for buffer, tensor in zip((*forward.outputs, *forward.saved), (*outputs, *saved), strict=True):
            kernel.set_tensor(buffer.name, tensor)
        set_leaves(kernel, self.plan, call)
        outside_products(kernel, self.plan, call, forward, modes, maps)
        once_values(kernel, self.plan.program, call, forward.once, maps, sizes)
        by_name = {
            buffer.name: tensor
            for buffer, tensor in zip((*forward.outputs, *forward.saved), (*outputs, *saved), strict=True)
        }
        for (name, _), initial in zip(self.plan.program.states, call.states, strict=True):
            if forward.states[name].index is Index.STEP:
                kernel.set_tensor(f"state {name}", by_name[forward.states[name].name])
            kernel.set_rows_of(f"state {name}", "initial", initial)
        self._set_resets(kernel, call, rows)
        splits = 4 if batch == 1 else 2 if batch == 2 else 1
        kernel.set_tiles(self._counts(rows), splits)
        threads = schedule.shares * schedule.members
        with arena(kernel.scratch_bytes() + kernel.packed_bytes()) as memory:
            carried = kernel.set_scratch(memory)
            kernel.pack(maps, memory, threads)
            order = torch.from_numpy(rows.order)
            for (name, _), initial in zip(self.plan.program.states, call.states, strict=True):
                for half in carried.get(f"state {name}", ())[: 2 if rows.ragged else 1]:
                    half.copy_(initial[order] if rows.ragged else initial)
            kernel.launch(0, rows.longest, schedule.members)
            finals = []
            for (name, _), initial in zip(self.plan.program.states, call.states, strict=True):
                if forward.states[name].index is Index.STEP:
                    finals.append(self._last(by_name[forward.states[name].name], initial, rows))
                else:
                    finals.append(self._last_carried(carried[f"state {name}"], rows))
        return Result(outputs, finals, saved)

    def saved_like(self, call: Call) -> list[Tensor]:
        """Empty tensors of the shapes that `forward` saves for this call."""
        return self.reference.saved_like(call)

    def backward(
        self, call: Call, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents, wanted: Sequence[bool]
    ) -> Gradients:
        """The gradients of the call's tensors."""
        if not self.runs(call):
            return self.reference.backward(call, outputs, saved, d, wanted)
        program, plan = self.plan.program, self.plan
        time, batch = call.sequences[0].shape[:2]
        sizes, dtype = self.sizes(call), call.states[0].dtype
        lists = (call.sequences, call.rows, call.states, call.restarts, call.parameters)
        flags = iter(wanted)
        wants = [[next(flags) for _ in tensors] for tensors in lists]
        names = {name for (name, _), want in zip(program.inputs, wants[0], strict=True) if want}
        names |= {name for (name, _), want in zip(program.rows, wants[1], strict=True) if want}
        code, reverse = self._reverse_code(call, frozenset(names), sizes)
        all_sizes = self._all_sizes(sizes, reverse.work.extra, reverse.work.axes)
        schedule = self._schedule(code, all_sizes, batch, dtype, reverse=True)
        rows = self._rows(call, schedule.shares)
        kernel = KernelCall(code, rows, all_sizes, dtype)
        maps = Maps(split_groups(plan.groups, call.parameters), {**sizes, **reverse.work.extra})
        nothing = torch.zeros(max(all_sizes.values()), dtype=dtype)

        def set_cotangent(name: str, value: Tensor | None) -> None:
            if value is None:
                kernel.set_tensor(name, nothing, stride=0)
            else:
                kernel.set_tensor(name, rows_apart(value))

        set_cotangent("d_output", d.outputs[0])
        for name, value in zip(plan.taps, d.outputs[1:], strict=True):
            set_cotangent(reverse.seeds[name].name, value)
        for buffer, value in zip(reverse.saved, saved, strict=False):
            kernel.set_tensor(buffer.name, value)
        others = histories_of(plan)
        states = {self._output: outputs[0], **dict(zip(others, saved[len(reverse.saved) :], strict=True))}
        for (name, _), initial in zip(program.states, call.states, strict=True):
            if name in states:
                kernel.set_tensor(f"sequence {name}", states[name])
                kernel.set_tensor(f"state {name}", states[name])
            kernel.set_rows_of(f"state {name}", "initial", initial)
        set_leaves(kernel, plan, call)
        once_values(kernel, program, call, reverse.once, maps, sizes)
        self._set_resets(kernel, call, rows)
        anew = [torch.zeros_like(state) for state in call.states] if call.resets is not None else []
        for (name, _), restart in zip(program.states, anew, strict=False):
            kernel.set_rows_of(f"carried {name}", "anew", restart)
        kernel.set_tiles(self._counts(rows), 4 if batch == 1 else 2 if batch == 2 else 1)
        sums = Sums(plan, call, reverse, kernel, maps, wants, states)
        with arena(kernel.scratch_bytes() + kernel.packed_bytes() + sums.bytes()) as memory:
            carried = kernel.set_scratch(memory)
            sums.lay_out(memory)
            kernel.pack(maps, memory, schedule.shares * schedule.members)
            order = torch.from_numpy(rows.order)
            for (name, _), final in zip(program.states, d.finals, strict=True):
                for half in carried[f"carried {name}"]:
                    if final is None:
                        half.zero_()
                    else:
                        half.copy_(final[order] if rows.ragged else final)
            for start, stop in sums.chunks():
                sums.begin(start, stop)
                kernel.launch(start, stop, schedule.members)
                sums.end(start, stop)
            initial = []
            for (name, _), state, want in zip(program.states, call.states, wants[2], strict=True):
                found = torch.empty_like(state, memory_format=torch.contiguous_format) if want else None
                if found is not None:
                    found[order] = carried[f"carried {name}"][1]
                initial.append(found)
            return Gradients(
                sums.passed,
                sums.rows(),
                initial,
                [value if want else None for value, want in zip(anew, wants[3], strict=False)],
                sums.parameters(),
            )

    # What a call runs

    def _modes(self, call: Call, sizes: dict[str, int], batch: int) -> dict[str, str]:
        """The inputs whose products are not taken in the loop, and how they are."""
        modes = {}
        for (name, shape), value in zip(self.plan.program.inputs, call.sequences, strict=True):
            if not value.is_floating_point():
                modes[name] = TABLE
            elif shape and (sizes[shape[0]] > FUSED_INPUTS or batch < FUSED_ROWS):
                modes[name] = BEFORE_LOOP
        return modes

    def _variant(self, call: Call, sizes: dict[str, int], *, reverse: bool) -> Variant:
        double = call.states[0].dtype == torch.float64
        lanes = host().lanes(double)
        whole = all(size % lanes == 0 for size in sizes.values())
        return Variant(reverse, double, whole, call.resets is not None)

    def _forward_code(
        self, call: Call, train: bool, modes: dict[str, str], sizes: dict[str, int]
    ) -> tuple[ScanCode, Forward]:
        key = (train, tuple(sorted(modes.items())), call.resets is not None)
        if key not in self._forwards:
            forward = make_forward(self.plan, train, modes, resets=call.resets is not None)
            self._forwards[key] = forward, make_step(forward.work)
        forward, step = self._forwards[key]
        variant = self._variant(call, {**sizes, **forward.work.extra}, reverse=False)
        return self._code(("forward", *key), step, variant), forward

    def _reverse_code(self, call: Call, names: frozenset[str], sizes: dict[str, int]) -> tuple[ScanCode, Reverse]:
        key = (names, call.resets is not None)
        if key not in self._reverses:
            reverse = make_reverse(self.plan, names, resets=call.resets is not None)
            self._reverses[key] = reverse, make_step(reverse.work)
        reverse, step = self._reverses[key]
        variant = self._variant(call, {**sizes, **reverse.work.extra}, reverse=True)
        return self._code(("reverse", tuple(sorted(names)), key[1]), step, variant), reverse

    def _code(self, key: tuple[object, ...], step: Step, variant: Variant) -> ScanCode:
        machine = host()
        whole = (*key, variant, machine)
        if whole not in self._codes:
            self._codes[whole] = ScanCode(step, variant, machine)
        return self._codes[whole]

    @staticmethod
    def _all_sizes(sizes: dict[str, int], extra: dict[str, int], axes: dict[str, str]) -> dict[str, int]:
        """The sizes by the names that the code gives the axes."""
        return {**{axes.get(axis, axis): size for axis, size in sizes.items()}, **sizes, **extra}

    def _schedule(
        self, code: ScanCode, sizes: dict[str, int], batch: int, dtype: torch.dtype, *, reverse: bool
    ) -> Schedule:
        weights = 0
        for block, each in code.passes:
            for segment in each.segments:
                length = sum(sizes[axis] for axis in segment.widths)
                weights += sizes.get(block.axis, 1) * length * len(segment.slots) * dtype.itemsize
        return choose(batch, weights, torch.get_num_threads(), reverse)

    def _rows(self, call: Call, shares: int) -> Rows:
        time, batch = call.sequences[0].shape[:2]
        if call.lengths is None:
            return dense_rows(time, batch, call.reverse, shares)
        return ragged_rows(time, call.lengths.numpy(), call.reverse, shares)

    @staticmethod
    def _counts(rows: Rows) -> set[int]:
        """The numbers of rows that may run together."""
        most = [int(rows.bounds[share + 1] - rows.bounds[share]) for share in range(rows.shares)]
        return set(range(1, max(most) + 1)) if rows.ragged else set(most)

    def _set_resets(self, kernel: KernelCall, call: Call, rows: Rows) -> None:
        if call.resets is None:
            return
        resets = sequence.reverse_resets(call.resets, call.lengths) if call.reverse else call.resets
        flags = resets.contiguous().view(torch.uint8)
        kernel.kept.append(flags)
        kernel.words["resets"] = flags.data_ptr()
        for (name, _), restart in zip(self.plan.program.states, call.restarts, strict=True):
            kernel.set_rows_of(f"state {name}", "restart", restart)

    @staticmethod
    def _last(values: Tensor, initial: Tensor, rows: Rows) -> Tensor:
        """The final values of a state whose values stand in a sequence."""
        if not rows.ragged:
            return (values[0] if rows.reverse else values[-1]).clone()
        order, lengths = torch.from_numpy(rows.order), torch.from_numpy(rows.lengths)
        last = torch.from_numpy(rows.first) + (lengths - 1) * rows.delta
        flat = values.flatten(0, 1)
        found = torch.where((lengths > 0)[:, None], flat[last.clamp(min=0)], initial[order])
        result = torch.empty_like(found)
        result[order] = found
        return result

    @staticmethod
    def _last_carried(halves: tuple[Tensor, Tensor], rows: Rows) -> Tensor:
        """The final values of a state that is carried in two buffers in turn."""
        if not rows.ragged:
            return halves[rows.time % 2].clone(memory_format=torch.contiguous_format)
        odd = torch.from_numpy(rows.lengths % 2 == 1)[:, None]
        found = torch.where(odd, halves[1], halves[0])
        result = torch.empty_like(found, memory_format=torch.contiguous_format)
        result[torch.from_numpy(rows.order)] = found
        return result
