"""The scan: plans run over time, as two functional torch operations and their place in autograd.

`unrolled::scan` and `unrolled::scan_backward` are opaque to torch.compile, which knows them by their fake
implementations. Two autograd functions wrap them: the backward of the first is the second, whose own backward is the
reference differentiated twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import cache
from itertools import chain, islice, repeat
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.backends import Backend, Call, Cotangents, Ran, backends, choose
from unrolled.backends.environment import histories_of
from unrolled.backends.reference import Interpreter
from unrolled.errors import UsageError
from unrolled.ir.plan import Plan, plan_of_key

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

T = TypeVar("T")
Scanned = tuple[list[Tensor], list[Tensor]]


def scan(plan: Plan, call: Call, backend: str = "") -> Scanned:
    """Run a plan over time.

    Shapes   returns y and the taps, each (time, batch, axis), and the final states, each (batch, axis)
    backend  "" for the fastest that runs on the device; "reference" runs plain torch, which has forward mode too
    Raises   UsageError for a backend that is unknown or does not run here
    """
    return scans([(plan, call)], backend)[0]


def scans(group: Sequence[tuple[Plan, Call]], backend: str = "") -> list[Scanned]:
    """Run plans that do not wait for one another, with the lengths and resets of the first: see `scan`."""
    plans, calls = zip(*group, strict=True)
    first = calls[0]
    if backend == "reference":
        with _no_autocast(first):
            results = [Interpreter(plan).forward(call) for plan, call in group]
        return [(result.outputs, result.finals) for result in results]
    lists = [_joined(column) for column in zip(*(call.lists for call in calls), strict=True)]
    clocks = [call.clock for call in calls]
    tensors: list[Tensor | None] = [*_joined(lists), *clocks]
    train = _trains(tensors)
    engine = _engine(first.states[0].device.type, backend)
    shown = [1 + len(plan.taps) for plan in plans]
    layout = (*map(len, lists), len(clocks), sum(shown))
    numbers = (tuple(_joined(call.scalars for call in calls)), tuple(_joined(call.sizes for call in calls)))
    ways = (tuple(call.reverse for call in calls), tuple(call.precision for call in calls))
    fixed = (tuple(plan.key for plan in plans), layout, *numbers, *ways, engine, train)
    run: Any = _EagerScan.apply if train or _transformed() else _Scan.forward
    if torch.compiler.is_compiling():
        # Dynamo takes no tensor twice, such as one zero state for h and c.
        tensors = [
            tensor
            if tensor is None or all(tensor is not other for other in tensors[:index])
            else tensor.view_as(tensor)
            for index, tensor in enumerate(tensors)
        ]
        run = _Scan.apply if train else _Scan.forward
    results = run(*fixed, first.lengths, first.resets, *tensors)
    outputs = _dealt(results, shown)
    finals = _dealt(results[sum(shown) :], [len(call.states) for call in calls])
    return list(zip(outputs, finals, strict=True))


def _joined(lists: Iterable[Iterable[T]]) -> list[T]:
    return list(chain.from_iterable(lists))


def _dealt(values: Iterable[T], counts: Iterable[int]) -> list[list[T]]:
    """So many of the values for each."""
    given = iter(values)
    return [list(islice(given, count)) for count in counts]


def _transformed() -> bool:
    """Whether a transform of torch.func or forward mode looks at what is called, beside autograd."""
    functions: Any = torch._C
    return functions._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _trains(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def multiplies_in(own: torch.dtype, device: torch.device) -> str:
    """The type that autocast asks the products to be computed in, or "" without autocast, which leaves float64 be."""
    if own == torch.float64 or device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return ""
    return str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")


def _choose_engine(device: str, backend: str) -> str:
    """The backend of this call, named once, so that its forward and backward are the same one's."""
    return choose(torch.device(device), backend).name


_engine: Any = torch.compiler.assume_constant_result(_choose_engine)


@cache
def _backend(name: str) -> Backend:
    return backends()[name]


def _no_autocast(call: Call) -> Any:
    device = call.states[0].device.type
    return torch.autocast(device, enabled=False) if device != "meta" else nullcontext()


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


def _group(plans: Sequence[str], *inputs: Any) -> tuple[list[tuple[Plan, Call]], list[_Counts]]:
    """The scans of an operation, and how its lists are theirs."""
    *lists, clocks, reverse, precision, lengths, resets = inputs
    counts = [_counts(key, resets is not None) for key in plans]
    own = [_dealt(values, column) for values, column in zip(lists, zip(*counts, strict=True), strict=False)]
    parts = zip(*own, repeat(lengths), repeat(resets), clocks, reverse, precision, strict=False)
    return [(plan_of_key(key), Call(*part)) for key, part in zip(plans, parts, strict=True)], counts


def _run_scan(plans: Sequence[str], *arguments: Any) -> list[Tensor]:
    *inputs, backend, train = arguments
    group, _ = _group(plans, *inputs)
    with torch.no_grad(), _no_autocast(group[0][1]):
        results = _backend(backend).forward(group, train)
    return _joined(_joined(column) for column in zip(*((r.outputs, r.finals, r.saved) for r in results), strict=True))


def _observed(tensors: Sequence[Any]) -> bool:
    """Whether the scan must be an operation that torch sees: a call through its dispatcher costs more in Python."""
    modes: Any = torch._C
    if torch.compiler.is_compiling() or modes._len_torch_dispatch_stack() > 0 or torch._C._get_tracing_state():
        return True
    plain = (Tensor, torch.nn.Parameter)
    return any(tensor is not None and (type(tensor) not in plain or tensor.is_meta) for tensor in tensors)


def _fake_scan(plans: Sequence[str], *arguments: Any) -> list[Tensor]:
    *inputs, backend, train = arguments
    outputs, finals, saved = [], [], []
    for plan, call in _group(plans, *inputs)[0]:
        sizes = dict(zip(plan.axes, call.sizes, strict=True))
        like, (time, batch) = call.states[0], call.sequences[0].shape[:2]
        nodes = [plan.program.results[0], *(plan.program.tap(name) for name in plan.taps)]
        outputs += [like.new_empty(time, batch, sizes[node.shape[0]] if node.shape else 1) for node in nodes]
        finals += [torch.empty_like(state, memory_format=torch.contiguous_format) for state in call.states]
        saved += _backend(backend).compile(plan).saved_like(call) if train else []
    return [*outputs, *finals, *saved]


def _run_scan_backward(plans: Sequence[str], *arguments: Any) -> list[Tensor]:
    *inputs, backend, outputs, saved, d_outputs, d_finals, wanted = arguments
    group, counts = _group(plans, *inputs)
    shown, states = [each.shown for each in counts], [each.states for each in counts]
    kept = [len(plan.backward.saved) + len(histories_of(plan)) for plan, _ in group]
    flags = _dealt(wanted, map(len, inputs[:5]))
    own = [_dealt(values, column) for values, column in zip(flags, zip(*counts, strict=True), strict=False)]
    arriving = map(Cotangents, _dealt(d_outputs, shown), _dealt(d_finals, states))
    parts = zip(
        _dealt(outputs, shown), _dealt(saved, kept), arriving, map(_joined, zip(*own, strict=True)), strict=True
    )
    ran = [(plan, Ran(call, *part)) for (plan, call), part in zip(group, parts, strict=True)]
    with torch.no_grad(), _no_autocast(group[0][1]):
        found = _backend(backend).backward(ran)
    gradients = _joined(_joined(column) for column in zip(*(each.lists for each in found), strict=True))
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
    wanted = zip(_joined(arguments[:5]), arguments[-1], strict=False)
    return [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor, want in wanted if want]


_library.impl("scan", _run_scan, "CompositeExplicitAutograd")
_library.impl("scan_backward", _run_scan_backward, "CompositeExplicitAutograd")
torch.library.register_fake("unrolled::scan", _fake_scan, lib=_library)
torch.library.register_fake("unrolled::scan_backward", _fake_scan_backward, lib=_library)

# The leading arguments of both autograd functions: what `fixed` holds in `scans`, then lengths and resets.
_FIXED = 8
_LEADING = _FIXED + 2


def _split(layout: Sequence[int], tensors: Sequence[Any]) -> tuple[list[Any], ...]:
    """The flat list of tensors as sequences, rows, states, restarts, parameters, clocks, and what follows them."""
    return (*_dealt(tensors, layout[:6]), list(tensors[sum(layout[:6]) :]))


def _operation_arguments(leading: Sequence[Any], lists: Sequence[list[Tensor]]) -> tuple[Any, ...]:
    plans, _layout, scalars, sizes, reverse, precision, backend, _train, lengths, resets = leading
    *given, clocks = lists
    numbers = (list(scalars), list(sizes), clocks, list(reverse), list(precision))
    return list(plans), *given, *numbers, lengths, resets, backend


class _Scan(torch.autograd.Function):
    """The scan in autograd."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        leading, tensors = arguments[:_LEADING], arguments[_LEADING:]
        *lists, _ = _split(leading[1], tensors)
        run = torch.ops.unrolled.scan if _observed(tensors) else _run_scan
        return tuple(run(*_operation_arguments(leading, lists), leading[_FIXED - 1]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        leading, tensors = inputs[:_LEADING], inputs[_LEADING:]
        shown, states = leading[1][6], leading[1][2]
        ctx.fixed, ctx.given = leading[:_FIXED], len(tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[shown + states :])
        ctx.save_for_backward(*leading[_FIXED:], *tensors, *output[:shown], *output[shown + states :])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors  # once: each reading unpacks anew, which checkpointing forbids
        leading = (*ctx.fixed, *saved[:2])
        _, _, states, _, _, _, shown = leading[1]
        tensors, kept = saved[2 : 2 + ctx.given], saved[2 + ctx.given :]
        wanted = tuple(ctx.needs_input_grad[_LEADING:])
        counts = (shown, len(kept) - shown)
        # A compiled backward is not differentiated again, and Dynamo cannot trace one function within another.
        compiling = torch.compiler.is_compiling()
        run: Any = _ScanBackward.forward if compiling else _ScanBackward.apply
        gradients = iter(run(wanted, counts, *leading, *tensors, *kept, *cotangents[: shown + states]))
        return (None,) * _LEADING + tuple(next(gradients) if want else None for want in wanted)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """A batched sequence or state folds into the batch; batched parameters and clocks loop."""
        sequences, _, states, _, parameters, clocks, shown = arguments[1]
        # A batched tensor does not show whether the one inside it wants a gradient.
        train = arguments[_FIXED - 1] or _trains(arguments[_LEADING:])
        arguments = (*arguments[: _FIXED - 1], train, *arguments[_FIXED:])
        folding = len(arguments) - parameters - clocks
        if any(dim is not None for dim in in_dims[folding:]):
            return _looped(_EagerScan, info.batch_size, in_dims, arguments)
        folded = list(arguments)
        batch_axes = {_FIXED: 0, _FIXED + 1: 1}  # lengths, resets
        for index in range(_LEADING, folding):
            batch_axes[index] = 1 if index < _LEADING + sequences else 0
        for index, axis in batch_axes.items():
            if arguments[index] is not None:
                folded[index] = _folded(arguments[index], in_dims[index], axis, info.batch_size)
        run: Any = _EagerScan.apply
        results = run(*folded)
        dims = tuple(0 if shown <= index < shown + states else 1 for index in range(len(results)))
        apart = [result.unflatten(axis, (info.batch_size, -1)) for result, axis in zip(results, dims, strict=True)]
        return tuple(apart), dims


class _EagerScan(_Scan):
    """The scan where forward mode is asked for by a call, not by a compiler, which wants no `jvp` at all."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise UsageError('the scan has no forward-mode derivative; the layer takes backend="reference", which has')


class _ScanBackward(torch.autograd.Function):
    """The backward scan in autograd. `wanted`, and `counts` of outputs and saved tensors, stand before the rest."""

    @staticmethod
    def forward(wanted: tuple[bool, ...], counts: tuple[int, int], *arguments: Any) -> tuple[Tensor, ...]:
        leading, tensors = arguments[:_LEADING], arguments[_LEADING:]
        *lists, rest = _split(leading[1], tensors)
        shown, saved = counts
        d = rest[shown + saved :]
        run = torch.ops.unrolled.scan_backward if _observed(tensors) else _run_scan_backward
        return tuple(
            run(
                *_operation_arguments(leading, lists),
                rest[:shown],
                rest[shown : shown + saved],
                d[:shown],
                d[shown:],
                list(wanted),
            )
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.wanted, ctx.counts = inputs[:2]
        ctx.fixed = inputs[2 : 2 + _FIXED]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[2 + _FIXED :])

    @staticmethod
    def backward(ctx: Any, *second: Tensor | None) -> tuple[Any, ...]:
        """The reference, differentiated twice: the kept values are functions of the inputs, so all flows to those."""
        saved = ctx.saved_tensors
        leading = (*ctx.fixed, *saved[:2])
        *lists, rest = _split(leading[1], saved[2:])
        kept = sum(ctx.counts)
        cotangents = rest[kept:]
        given = [index for index, d in enumerate(cotangents) if d is not None]
        flat = _joined(lists)
        moving = [index for index, want in enumerate(ctx.wanted) if want]

        def run(*moved: Tensor) -> tuple[Tensor, ...]:
            whole = list(flat)
            for index, tensor in zip(moving, moved, strict=True):
                whole[index] = tensor
            *parts, _ = _split(leading[1], whole)
            group, _ = _group(*_operation_arguments(leading, parts)[:-1])
            with _no_autocast(group[0][1]):
                results = [Interpreter(plan).forward(call) for plan, call in group]
            both = _joined([*(each.outputs for each in results), *(each.finals for each in results)])
            return tuple(both[index] for index in given)

        def first(moved: tuple[Tensor, ...], d: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(torch.func.vjp(run, *moved)[1](d))

        moved, arriving = tuple(flat[index] for index in moving), tuple(cotangents[index] for index in given)
        linearised: Any = torch.func.vjp(first, moved, arriving)
        values, pull = linearised
        filled = tuple(torch.zeros_like(value) if d is None else d for value, d in zip(values, second, strict=True))
        to_moved, to_d = pull(filled)
        by_input: list[Tensor | None] = [None] * len(flat)
        for index, tensor in zip(moving, to_moved, strict=True):
            by_input[index] = tensor
        by_cotangent: list[Tensor | None] = [None] * len(cotangents)
        for index, tensor in zip(given, to_d, strict=True):
            by_cotangent[index] = tensor
        fixed: tuple[Any, ...] = (None,) * (2 + _LEADING)
        return (*fixed, *by_input, *([None] * kept), *by_cotangent)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """The gradients of the parameters are each row's own, so the rows loop."""
        return _looped(_ScanBackward, info.batch_size, in_dims, arguments)


def _folded(tensor: Tensor, dim: int | None, axis: int, size: int) -> Tensor:
    """The batched axis laid before the batch and flattened into it."""
    moved = (
        tensor.unsqueeze(axis).expand(*tensor.shape[:axis], size, *tensor.shape[axis:])
        if dim is None
        else (tensor.movedim(dim, axis))
    )
    return moved.flatten(axis, axis + 1)


def _looped(function: Any, size: int, in_dims: tuple[Any, ...], arguments: Sequence[Any]) -> tuple[Any, Any]:
    results = []
    for index in range(size):
        one = [
            argument.select(dim, index) if isinstance(argument, Tensor) and dim is not None else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        results.append(function.apply(*one))
    stacked = tuple(torch.stack(column) for column in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)
