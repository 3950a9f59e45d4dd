"""The two operations: what they are given, scan after scan in flat lists, and what they do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import cache
from itertools import chain, islice, repeat
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from unrolled.backends import Backend, Call, Cotangents, Ran, backends
from unrolled.backends.environment import histories_of
from unrolled.ir.plan import Plan, plan_of_key

T = TypeVar("T")

# Of several scans: what each takes and gives stands in lists of all, scan after scan.
_ARGUMENTS = (
    "str[] plans, Tensor[] sequences, Tensor[] rows, Tensor[] states, Tensor[] restarts, Tensor[] parameters, "
    "float[] scalars, int[] sizes, Tensor?[] clocks, bool[] reverse, str[] precision, Tensor? lengths, Tensor? resets, "
    "str backend"
)
_library = torch.library.Library("unrolled", "DEF")
_library.define(f"scan({_ARGUMENTS}, bool train) -> Tensor[]")
_library.define(
    f"scan_backward({_ARGUMENTS}, Tensor[] outputs, Tensor[] saved, Tensor?[] d_outputs, Tensor?[] d_finals, "
    "bool[] wanted) -> Tensor[]"
)


def joined(lists: Iterable[Iterable[T]]) -> list[T]:
    """All that the lists hold."""
    return list(chain.from_iterable(lists))


def dealt(values: Iterable[T], counts: Iterable[int]) -> list[list[T]]:
    """So many of the values for each."""
    given = iter(values)
    return [list(islice(given, count)) for count in counts]


@cache
def backend_of(name: str) -> Backend:
    """The backend of this name."""
    return backends()[name]


def no_autocast(call: Call) -> Any:
    """A context without autocast: a call says what it multiplies in."""
    device = call.states[0].device.type
    if device == "meta" or not (torch.compiler.is_compiling() or torch.is_autocast_enabled(device)):
        return nullcontext()
    return torch.autocast(device, enabled=False)


class _Counts(NamedTuple):
    """How many values of each list are one plan's."""

    sequences: int
    rows: int
    states: int
    restarts: int
    parameters: int
    scalars: int
    sizes: int
    shown: int


@cache
def _counts(key: str, resets: bool) -> _Counts:
    plan = plan_of_key(key)
    program, states = plan.program, len(plan.program.states)
    given = (len(program.inputs), len(program.rows), states, states if resets else 0, len(plan.groups))
    return _Counts(*given, len(program.scalars), len(plan.axes), 1 + len(plan.taps))


def group_of(plans: Sequence[str], *inputs: Any) -> tuple[list[tuple[Plan, Call]], list[_Counts]]:
    """The scans of an operation, and how its lists are theirs."""
    *lists, clocks, reverse, precision, lengths, resets = inputs
    counts = [_counts(key, resets is not None) for key in plans]
    own = [dealt(values, column) for values, column in zip(lists, zip(*counts, strict=True), strict=False)]
    parts = zip(*own, repeat(lengths), repeat(resets), clocks, reverse, precision, strict=False)
    return [(plan_of_key(key), Call(*part)) for key, part in zip(plans, parts, strict=True)], counts


def run_scan(plans: Sequence[str], *arguments: Any) -> list[Tensor]:
    """The scans: all outputs, then all final states, then all that is kept."""
    *inputs, backend, train = arguments
    group, _ = group_of(plans, *inputs)
    with torch.no_grad(), no_autocast(group[0][1]):
        results = backend_of(backend).forward(group, train)
    return joined(joined(column) for column in zip(*((r.outputs, r.finals, r.saved) for r in results), strict=True))


def _fake_scan(plans: Sequence[str], *arguments: Any) -> list[Tensor]:
    *inputs, backend, train = arguments
    outputs, finals, saved = [], [], []
    for plan, call in group_of(plans, *inputs)[0]:
        sizes = dict(zip(plan.axes, call.sizes, strict=True))
        like, (time, batch) = call.states[0], call.sequences[0].shape[:2]
        nodes = [plan.program.results[0], *(plan.program.tap(name) for name in plan.taps)]
        outputs += [like.new_empty(time, batch, sizes[node.shape[0]] if node.shape else 1) for node in nodes]
        finals += [torch.empty_like(state, memory_format=torch.contiguous_format) for state in call.states]
        saved += backend_of(backend).compile(plan).saved_like(call) if train else []
    return [*outputs, *finals, *saved]


def run_scan_backward(plans: Sequence[str], *arguments: Any) -> list[Tensor]:
    """The gradients that are wanted, in the order of the lists that the scans were given."""
    *inputs, backend, outputs, saved, d_outputs, d_finals, wanted = arguments
    group, counts = group_of(plans, *inputs)
    shown, states = [each.shown for each in counts], [each.states for each in counts]
    kept = [len(plan.backward.saved) + len(histories_of(plan)) for plan, _ in group]
    flags = dealt(wanted, map(len, inputs[:5]))
    own = [dealt(values, column) for values, column in zip(flags, zip(*counts, strict=True), strict=False)]
    arriving = map(Cotangents, dealt(d_outputs, shown), dealt(d_finals, states))
    parts = zip(dealt(outputs, shown), dealt(saved, kept), arriving, map(joined, zip(*own, strict=True)), strict=True)
    ran = [(plan, Ran(call, *part)) for (plan, call), part in zip(group, parts, strict=True)]
    with torch.no_grad(), no_autocast(group[0][1]):
        found = backend_of(backend).backward(ran)
    gradients = joined(joined(column) for column in zip(*(each.lists for each in found), strict=True))
    return _apart([value for value in gradients if value is not None], [*d_outputs, *d_finals])


def _apart(tensors: list[Tensor], given: Sequence[Tensor | None]) -> list[Tensor]:
    """The tensors, copied where they would share memory with one that was given or with one another."""
    seen = {tensor.untyped_storage().data_ptr() for tensor in given if tensor is not None}
    apart = []
    for tensor in tensors:
        place = tensor.untyped_storage().data_ptr()
        apart.append(tensor.clone() if place in seen else tensor.contiguous())
        seen.add(place)
    return apart


def _fake_scan_backward(_plans: Sequence[str], *arguments: Any) -> list[Tensor]:
    wanted = zip(joined(arguments[:5]), arguments[-1], strict=False)
    return [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor, want in wanted if want]


_library.impl("scan", run_scan, "CompositeExplicitAutograd")
_library.impl("scan_backward", run_scan_backward, "CompositeExplicitAutograd")
torch.library.register_fake("unrolled::scan", _fake_scan, lib=_library)
torch.library.register_fake("unrolled::scan_backward", _fake_scan_backward, lib=_library)
