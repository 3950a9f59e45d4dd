"""A plan as kernels on the CPU: for each shape of call the code, its layout and its schedule, found once."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from unrolled import sequence
from unrolled.backends import Call, Cotangents, Gradients, Ran, Result
from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.ahead import LEAST_ROWS, Ahead
from unrolled.backends.llvm.backward import Reverse, make_reverse
from unrolled.backends.llvm.forward import BEFORE_LOOP, TABLE, Forward, make_ahead, make_forward
from unrolled.backends.llvm.group import Course, together
from unrolled.backends.llvm.layout import rows_apart
from unrolled.backends.llvm.machine import host
from unrolled.backends.llvm.phases import Step, make_step
from unrolled.backends.llvm.rows import Rows, dense_rows, ragged_rows
from unrolled.backends.llvm.run_backward import BackwardRun, incoming_apart
from unrolled.backends.llvm.run_forward import ForwardRun
from unrolled.backends.llvm.scan_code import ScanCode, splits_of
from unrolled.backends.llvm.schedule import choose, own_threads, state_of_schedules
from unrolled.backends.llvm.variant import Variant
from unrolled.backends.reference import Interpreter
from unrolled.errors import ShapeError
from unrolled.ir.plan import Plan

# An input of more units, or of few rows, is multiplied with its maps before the loop, all steps together. However few
# those are: the parts of a sequence give the same bits as the whole.
FUSED_INPUTS = 512
FUSED_ROWS = 4
# Shapes of calls whose layouts are kept.
SHAPES = 64

T = TypeVar("T")


class Recent(OrderedDict[Hashable, T]):
    """What was last found by its key; the oldest goes first."""

    def find(self, key: Hashable, make: Callable[[], T]) -> T:
        """What the key stands for, made if it is not known."""
        found = self.get(key)
        if found is None:
            found = make()
        self[key] = found
        with contextlib.suppress(KeyError):  # another thread may have dropped it
            self.move_to_end(key)
            while len(self) > SHAPES:
                self.popitem(last=False)
        return found


class CompiledPlan:
    """A plan whose scans run as compiled kernels; what those do not do, the reference does."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.reference = Interpreter(plan)
        self._works: dict[Hashable, tuple[Forward, Step] | tuple[Reverse, Step]] = {}
        self._aheads: dict[str, Step] = {}
        self._codes: dict[Hashable, ScanCode] = {}
        self._forwards: Recent[ForwardRun] = Recent()
        self._backwards: Recent[BackwardRun] = Recent()

    def runs(self, call: Call) -> bool:
        """Whether kernels do what the call asks for."""
        time, batch = call.sequences[0].shape[:2]
        dtype = call.states[0].dtype
        types = {torch.float32: ("", "bfloat16"), torch.float64: ("",)}
        return call.precision in types.get(dtype, ()) and time > 0 and batch > 0

    def forward(self, call: Call, train: bool) -> Result:
        """Run over all time."""
        return together([self.forward_course(call, train, torch.get_num_threads())])[0]

    def forward_course(self, call: Call, train: bool, threads: int) -> Course[Result]:
        """The forward scan on so many threads."""
        if not self.runs(call):
            return self.reference.forward(call, train)
        call = _checked(self.plan, _evenly(call))
        key = (train, threads, *_shape(call))
        run = self._forwards.find(key, lambda: self._make_forward(call, train, threads))
        return (yield from run.course(call, _rows(call, run.layout.shares)))

    def saved_like(self, call: Call) -> list[Tensor]:
        """Empty tensors of the shapes that `forward` saves for this call."""
        return self.reference.saved_like(call)

    def backward(
        self, call: Call, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents, wanted: Sequence[bool]
    ) -> Gradients:
        """The gradients of the call's tensors."""
        return together([self.backward_course(Ran(call, outputs, saved, d, wanted), torch.get_num_threads())])[0]

    def backward_course(self, ran: Ran, threads: int) -> Course[Gradients]:
        """The backward scan on so many threads."""
        call, outputs, saved, d, wanted = ran
        if not self.runs(call):
            return self.reference.backward(call, outputs, saved, d, wanted)
        call, d = _checked(self.plan, _evenly(call)), incoming_apart(d)
        # As they were made, unless a transform such as vmap has cut them out of larger ones.
        outputs, saved = ([value.contiguous() for value in values] for values in (outputs, saved))
        lists = (call.sequences, call.rows, call.states, call.restarts, call.parameters)
        flags = iter(wanted)
        wants = [[next(flags) for _ in tensors] for tensors in lists]
        arriving = tuple(None if value is None else value.stride() for value in d.outputs)
        key = (tuple(wants[0]), tuple(wants[1]), threads, arriving, *_shape(call))
        run = self._backwards.find(key, lambda: self._make_backward(call, d, wants, threads))
        return (yield from run.course(call, outputs, saved, d, wants, _rows(call, run.layout.shares)))

    # What calls of one shape share

    def _make_forward(self, call: Call, train: bool, threads: int) -> ForwardRun:
        sizes, batch = dict(zip(self.plan.axes, call.sizes, strict=True)), call.states[0].shape[0]
        modes: dict[str, str] = {}
        most = FUSED_INPUTS
        if _way(call, batch) == narrow.MATRIX:
            most = narrow.FUSED_INPUTS if batch >= narrow.FUSED_ROWS else narrow.NEAR_INPUTS
        for (name, shape), value in zip(self.plan.program.inputs, call.sequences, strict=True):
            if not value.is_floating_point():
                modes[name] = TABLE
            elif shape and (sizes[shape[0]] > most or batch < FUSED_ROWS):
                modes[name] = BEFORE_LOOP
        resets = call.resets is not None
        key = ("forward", train, tuple(modes.items()), resets)
        if key not in self._works:
            made = make_forward(self.plan, train, modes, resets=resets)
            self._works[key] = made, make_step(made.work)
        forward, step = self._works[key]
        assert isinstance(forward, Forward)
        all_sizes = _all_sizes(sizes, forward.work.extra, forward.work.axes)
        code = self._code(key, step, call, all_sizes, Variant(resets=resets, weights=_way(call, batch)))
        schedule = choose(batch, code.weight_bytes(all_sizes), threads, reverse=False)
        rows = _rows(call, schedule.shares)
        aheads = {
            name: self._make_ahead(place, call, threads)
            for place, (name, _) in enumerate(self.plan.program.inputs)
            if modes.get(name) == BEFORE_LOOP and forward.outside[name]
        }
        return ForwardRun(
            self.plan, forward, code, aheads, all_sizes, schedule, call, rows, _counts(rows), splits_of(batch)
        )

    def _make_ahead(self, place: int, call: Call, threads: int) -> Ahead:
        name, _ = self.plan.program.inputs[place]
        if name not in self._aheads:
            self._aheads[name] = make_step(make_ahead(self.plan, name))
        step, sizes = self._aheads[name], dict(zip(self.plan.axes, call.sizes, strict=True))
        all_sizes = _all_sizes(sizes, step.work.extra, step.work.axes)
        variant = Variant(weights=_way(call, LEAST_ROWS))
        return Ahead(
            self.plan, self._code(("ahead", name), step, call, all_sizes, variant), all_sizes, call, place, threads
        )

    def _make_backward(self, call: Call, d: Cotangents, wants: Sequence[Sequence[bool]], threads: int) -> BackwardRun:
        program, sizes = self.plan.program, dict(zip(self.plan.axes, call.sizes, strict=True))
        names = {name for (name, _), want in zip(program.inputs, wants[0], strict=True) if want}
        names |= {name for (name, _), want in zip(program.rows, wants[1], strict=True) if want}
        resets = call.resets is not None
        key = ("reverse", tuple(sorted(names)), resets)
        if key not in self._works:
            made = make_reverse(self.plan, frozenset(names), resets=resets)
            self._works[key] = made, make_step(made.work)
        reverse, step = self._works[key]
        assert isinstance(reverse, Reverse)
        all_sizes = _all_sizes(sizes, reverse.work.extra, reverse.work.axes)
        batch = call.states[0].shape[0]
        code = self._code(key, step, call, all_sizes, Variant(True, resets=resets, weights=_way(call, batch)))
        schedule = choose(batch, code.weight_bytes(all_sizes), threads, reverse=True)
        rows = _rows(call, schedule.shares)
        return BackwardRun(
            self.plan, reverse, code, all_sizes, schedule, call, d, rows, _counts(rows), splits_of(rows.batch)
        )

    def _code(self, key: Hashable, step: Step, call: Call, sizes: dict[str, int], variant: Variant) -> ScanCode:
        machine, double = host(), call.states[0].dtype == torch.float64
        whole = all(size % machine.lanes(double) == 0 for size in sizes.values())
        variant = replace(variant, double=double, whole=whole)
        place = (key, variant, machine)
        if place not in self._codes:
            self._codes[place] = ScanCode(step, variant, machine)
        return self._codes[place]


_kernels: dict[str, CompiledPlan] = {}


def compiled_plan(plan: Plan) -> CompiledPlan:
    """The kernels of a plan, the same ones for equal plans."""
    found = _kernels.get(plan.key)
    return _kernels.setdefault(plan.key, CompiledPlan(plan)) if found is None else found


def forward(group: Sequence[tuple[Plan, Call]], train: bool) -> list[Result]:
    """Forward scans that do not wait for one another."""
    threads = _own_threads(group)
    if threads is None:
        return [compiled_plan(plan).forward(call, train) for plan, call in group]
    return together([compiled_plan(plan).forward_course(call, train, threads) for plan, call in group])


def backward(group: Sequence[tuple[Plan, Ran]]) -> list[Gradients]:
    """Their backward scans."""
    threads = _own_threads([(plan, ran.call) for plan, ran in group])
    if threads is None:
        return [compiled_plan(plan).backward(*ran) for plan, ran in group]
    return together([compiled_plan(plan).backward_course(ran, threads) for plan, ran in group])


def _way(call: Call, rows: int) -> str:
    """How the call's products with so many rows are taken, "" in the type of its tensors."""
    return narrow.way(host(), rows) if call.precision else ""


def _own_threads(group: Sequence[tuple[Plan, Call]]) -> int | None:
    weights = [
        sum(
            value.numel() * value.element_size()
            for symbols, value in zip(plan.groups, call.parameters, strict=True)
            if len(symbols.shape) == 2 and symbols.family != "W"
        )
        for plan, call in group
    ]
    return own_threads(len(group), torch.get_num_threads(), group[0][1].states[0].shape[0], max(weights))


def _evenly(call: Call) -> Call:
    """The call with tensors whose rows lie at even steps, vectors in one piece."""
    tensors = (*call.sequences, *call.rows, *call.states, *call.restarts, *call.parameters)
    if all(tensor.is_contiguous() for tensor in tensors):
        return call
    return replace(
        call,
        sequences=[rows_apart(value) if value.is_floating_point() else value.contiguous() for value in call.sequences],
        rows=[rows_apart(value) for value in call.rows],
        states=[rows_apart(value) for value in call.states],
        restarts=[rows_apart(value) for value in call.restarts],
        parameters=[
            value if value.dim() == 2 and 1 in value.stride() else value.contiguous() for value in call.parameters
        ],
    )


def _checked(plan: Plan, call: Call) -> Call:
    """The call, without lengths if all rows have every step.

    Layers have looked at the values already, but not where torch compiles; a kernel trusts them with its memory.

    Raises   ShapeError for a length that is longer than the sequences, or a number that stands for no one-hot vector
    """
    time, sizes = call.sequences[0].shape[0], dict(zip(plan.axes, call.sizes, strict=True))
    if call.lengths is not None:
        least, most = (int(value) for value in torch.aminmax(call.lengths))
        if least < 0 or most > time:
            raise ShapeError(f"lengths are from {least} to {most}; the sequences have {time} steps")
        call = replace(call, lengths=None) if least == time else call
    for (name, shape), value in zip(plan.program.inputs, call.sequences, strict=True):
        if value.is_floating_point():
            continue
        read = value if call.lengths is None else value[sequence.mask(call.lengths, time)]
        if read.numel():
            least, most = (int(number) for number in torch.aminmax(read))
            if least < 0 or most >= sizes[shape[0]]:
                raise ShapeError(f"{name} holds numbers from {least} to {most}; its axis has {sizes[shape[0]]} units")
    return call


def _shape(call: Call) -> tuple[Hashable, ...]:
    """What tells calls apart that need another layout."""
    tensors = (*call.sequences, *call.rows, *call.states, *call.restarts, *call.parameters)
    return (
        call.states[0].dtype,
        call.states[0].shape[0],
        tuple(call.sizes),
        tuple([tensor.stride() for tensor in tensors]),
        tuple(value.is_floating_point() for value in call.sequences),
        call.reverse,
        call.lengths is None,
        call.resets is None,
        _way(call, call.states[0].shape[0]),
        state_of_schedules(),
        host(),
    )


def _all_sizes(sizes: dict[str, int], extra: dict[str, int], axes: dict[str, str]) -> dict[str, int]:
    """The sizes by the names that the code gives the axes."""
    return {**{axes.get(axis, axis): size for axis, size in sizes.items()}, **sizes, **extra}


def _rows(call: Call, shares: int) -> Rows:
    time, batch = call.sequences[0].shape[:2]
    if call.lengths is None:
        return dense_rows(time, batch, call.reverse, shares)
    return ragged_rows(time, call.lengths.numpy(), call.reverse, shares)


def _counts(rows: Rows) -> set[int]:
    """The numbers of rows that may run together."""
    most = [int(rows.bounds[share + 1] - rows.bounds[share]) for share in range(rows.shares)]
    return set(range(1, max(most) + 1)) if rows.ragged else set(most)
