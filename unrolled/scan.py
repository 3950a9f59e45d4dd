"""The scan: a plan run over time, as two functional torch operations and their place in autograd.

`unrolled::scan` and `unrolled::scan_backward` are opaque to torch.compile, which knows them by their fake
implementations. Two autograd functions wrap them: the backward of the first is the second, whose own backward is the
reference differentiated twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor

from unrolled.backends import Call, Cotangents, Kernel, backends, choose
from unrolled.backends.reference import Interpreter
from unrolled.errors import UsageError
from unrolled.ir.plan import Plan, plan_of_key

_ARGUMENTS = (
    "str plan, Tensor[] sequences, Tensor[] rows, Tensor[] states, Tensor[] restarts, Tensor[] parameters, "
    "float[] scalars, int[] sizes, Tensor? lengths, Tensor? resets, Tensor? clock, bool reverse, str precision, "
    "str backend"
)
_library = torch.library.Library("unrolled", "DEF")
_library.define(f"scan({_ARGUMENTS}, bool train) -> Tensor[]")
_library.define(
    f"scan_backward({_ARGUMENTS}, Tensor[] outputs, Tensor[] saved, Tensor?[] d_outputs, Tensor?[] d_finals, "
    "bool[] wanted) -> Tensor[]"
)


def scan(plan: Plan, call: Call, backend: str = "") -> tuple[list[Tensor], list[Tensor]]:
    """Run a plan over time.

    Shapes   returns y and the taps, each (time, batch, axis), and the final states, each (batch, axis)
    backend  "" for the fastest that runs on the device; "reference" runs plain torch, which has forward mode too
    Raises   UsageError for a backend that is unknown or does not run here
    """
    if backend == "reference":
        with _no_autocast(call):
            result = Interpreter(plan).forward(call)
        return result.outputs, result.finals
    tensors = [*call.sequences, *call.rows, *call.states, *call.restarts, *call.parameters]
    train = _trains(tensors)
    layout = tuple(map(len, (call.sequences, call.rows, call.states, call.restarts, call.parameters)))
    shown = 1 + len(plan.taps)
    engine = _engine(call.states[0].device.type, backend)
    numbers = (tuple(call.scalars), tuple(call.sizes))
    fixed = (plan.key, (*layout, shown), *numbers, call.reverse, call.precision, engine, train)
    run: Any = _EagerScan.apply
    if torch.compiler.is_compiling():
        # Dynamo takes no tensor twice, such as one zero state for h and c.
        tensors = [t.view_as(t) if any(t is u for u in tensors[:i]) else t for i, t in enumerate(tensors)]
        run = _Scan.apply if train else _Scan.forward
    results = run(*fixed, call.lengths, call.resets, call.clock, *tensors)
    return list(results[:shown]), list(results[shown : shown + len(call.states)])


def _trains(tensors: Sequence[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


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
def _kernel(key: str, backend: str) -> Kernel:
    return backends()[backend].compile(plan_of_key(key))


def _no_autocast(call: Call) -> Any:
    device = call.states[0].device.type
    return torch.autocast(device, enabled=False) if device != "meta" else nullcontext()


def _run_scan(plan: str, *arguments: Any) -> list[Tensor]:
    *inputs, backend, train = arguments
    call = Call(*inputs)
    with torch.no_grad(), _no_autocast(call):
        result = _kernel(plan, backend).forward(call, train)
    return [*result.outputs, *result.finals, *result.saved]


def _fake_scan(plan: str, *arguments: Any) -> list[Tensor]:
    *inputs, backend, train = arguments
    call = Call(*inputs)
    made = plan_of_key(plan)
    sizes = dict(zip(made.axes, call.sizes, strict=True))
    like, (time, batch) = call.states[0], call.sequences[0].shape[:2]
    nodes = [made.program.results[0], *(made.program.tap(name) for name in made.taps)]
    outputs = [like.new_empty(time, batch, sizes[node.shape[0]] if node.shape else 1) for node in nodes]
    finals = [torch.empty_like(state, memory_format=torch.contiguous_format) for state in call.states]
    saved = _kernel(plan, backend).saved_like(call) if train else []
    return [*outputs, *finals, *saved]


def _run_scan_backward(plan: str, *arguments: Any) -> list[Tensor]:
    *inputs, backend, outputs, saved, d_outputs, d_finals, wanted = arguments
    call = Call(*inputs)
    with torch.no_grad(), _no_autocast(call):
        kernel = _kernel(plan, backend)
        found = kernel.backward(call, outputs, saved, Cotangents(d_outputs, d_finals), wanted)
    return _apart(found.wanted, [*d_outputs, *d_finals])


def _apart(tensors: list[Tensor], given: Sequence[Tensor | None]) -> list[Tensor]:
    """The tensors, copied where they would share memory with one that was given or with one another."""
    seen = {tensor.untyped_storage().data_ptr() for tensor in given if tensor is not None}
    apart = []
    for tensor in tensors:
        place = tensor.untyped_storage().data_ptr()
        apart.append(tensor.clone() if place in seen else tensor.contiguous())
        seen.add(place)
    return apart


def _fake_scan_backward(plan: str, *arguments: Any) -> list[Tensor]:
    *inputs, _backend, _outputs, _saved, _d_outputs, _d_finals, wanted = arguments
    call = Call(*inputs)
    tensors = (*call.sequences, *call.rows, *call.states, *call.restarts, *call.parameters)
    return [
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        for tensor, want in zip(tensors, wanted, strict=True)
        if want
    ]


_library.impl("scan", _run_scan, "CompositeExplicitAutograd")
_library.impl("scan_backward", _run_scan_backward, "CompositeExplicitAutograd")
torch.library.register_fake("unrolled::scan", _fake_scan, lib=_library)
torch.library.register_fake("unrolled::scan_backward", _fake_scan_backward, lib=_library)

# The leading arguments of both autograd functions: what `fixed` holds in `scan`, then lengths, resets and the clock.
_FIXED = 8
_LEADING = _FIXED + 3


def _split(layout: Sequence[int], tensors: Sequence[Any]) -> tuple[list[Any], ...]:
    """The flat list of tensors as sequences, rows, states, restarts, parameters, and what follows them."""
    lists, start = [], 0
    for count in layout[:5]:
        lists.append(list(tensors[start : start + count]))
        start += count
    return (*lists, list(tensors[start:]))


def _operation_arguments(leading: Sequence[Any], lists: Sequence[list[Tensor]]) -> tuple[Any, ...]:
    plan, _layout, scalars, sizes, reverse, precision, backend, _train, lengths, resets, clock = leading
    return plan, *lists, list(scalars), list(sizes), lengths, resets, clock, reverse, precision, backend


def _call(leading: Sequence[Any], lists: Sequence[list[Tensor]]) -> Call:
    return Call(*_operation_arguments(leading, lists)[1:-1])


class _Scan(torch.autograd.Function):
    """The scan in autograd."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        leading, tensors = arguments[:_LEADING], arguments[_LEADING:]
        *lists, _ = _split(leading[1], tensors)
        return tuple(torch.ops.unrolled.scan(*_operation_arguments(leading, lists), leading[_FIXED - 1]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        leading, tensors = inputs[:_LEADING], inputs[_LEADING:]
        shown, states = leading[1][5], leading[1][2]
        ctx.fixed, ctx.given = leading[:_FIXED], len(tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[shown + states :])
        ctx.save_for_backward(*leading[_FIXED:], *tensors, *output[:shown], *output[shown + states :])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors  # once: each reading unpacks anew, which checkpointing forbids
        leading = (*ctx.fixed, *saved[:3])
        _, _, states, _, _, shown = leading[1]
        tensors, kept = saved[3 : 3 + ctx.given], saved[3 + ctx.given :]
        wanted = tuple(ctx.needs_input_grad[_LEADING:])
        counts = (shown, len(kept) - shown)
        # A compiled backward is not differentiated again, and Dynamo cannot trace one function within another.
        compiling = torch.compiler.is_compiling()
        run: Any = _ScanBackward.forward if compiling else _ScanBackward.apply
        gradients = iter(run(wanted, counts, *leading, *tensors, *kept, *cotangents[: shown + states]))
        return (None,) * _LEADING + tuple(next(gradients) if want else None for want in wanted)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """A batched sequence or state folds into the batch; batched parameters loop."""
        sequences, _, states, _, parameters, shown = arguments[1]
        # A batched tensor does not show whether the one inside it wants a gradient.
        train = arguments[_FIXED - 1] or _trains(arguments[_LEADING:])
        arguments = (*arguments[: _FIXED - 1], train, *arguments[_FIXED:])
        loops = (_LEADING - 1, *range(len(arguments) - parameters, len(arguments)))
        if any(in_dims[index] is not None for index in loops):
            return _looped(_EagerScan, info.batch_size, in_dims, arguments)
        folded = list(arguments)
        batch_axes = {_FIXED: 0, _FIXED + 1: 1}  # lengths, resets
        for index in range(_LEADING, len(arguments) - parameters):
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
        return tuple(
            torch.ops.unrolled.scan_backward(
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
        leading = (*ctx.fixed, *saved[:3])
        *lists, rest = _split(leading[1], saved[3:])
        kept = sum(ctx.counts)
        cotangents = rest[kept:]
        given = [index for index, d in enumerate(cotangents) if d is not None]
        flat = [tensor for tensors in lists for tensor in tensors]
        moving = [index for index, want in enumerate(ctx.wanted) if want]
        plan, call = plan_of_key(leading[0]), _call(leading, lists)

        def run(*moved: Tensor) -> tuple[Tensor, ...]:
            whole = list(flat)
            for index, tensor in zip(moving, moved, strict=True):
                whole[index] = tensor
            *parts, _ = _split(leading[1], whole)
            with _no_autocast(call):
                result = Interpreter(plan).forward(_call(leading, parts))
            both = [*result.outputs, *result.finals]
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
