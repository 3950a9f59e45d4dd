"""The operations in autograd: two functions, of which the backward of the first is the second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.backends.reference import Interpreter
from unrolled.errors import UsageError
from unrolled.scan.operations import dealt, group_of, joined, no_autocast, run_scan, run_scan_backward

# The leading arguments of both autograd functions: what `fixed` holds in `scans`, then lengths and resets.
_FIXED = 8
_LEADING = _FIXED + 2


def _split(layout: Sequence[int], tensors: Sequence[Any]) -> tuple[list[Any], ...]:
    """The flat list of tensors as sequences, rows, states, restarts, parameters, clocks, and what follows them."""
    return (*dealt(tensors, layout[:6]), list(tensors[sum(layout[:6]) :]))


def _operation_arguments(leading: Sequence[Any], lists: Sequence[list[Tensor]]) -> tuple[Any, ...]:
    plans, _layout, scalars, sizes, reverse, precision, backend, _train, lengths, resets = leading
    *given, clocks = lists
    numbers = (list(scalars), list(sizes), clocks, list(reverse), list(precision))
    return list(plans), *given, *numbers, lengths, resets, backend


def observed(tensors: Sequence[Any]) -> bool:
    """Whether the scan must be an operation that torch sees: a call through its dispatcher costs more in Python."""
    modes: Any = torch._C
    if torch.compiler.is_compiling() or modes._len_torch_dispatch_stack() > 0 or torch._C._get_tracing_state():
        return True
    plain = (Tensor, torch.nn.Parameter)
    return any(tensor is not None and (type(tensor) not in plain or tensor.is_meta) for tensor in tensors)


def transformed() -> bool:
    """Whether a transform of torch.func or forward mode looks at what is called, beside autograd."""
    functions: Any = torch._C
    return functions._are_functorch_transforms_active() or forward_ad._current_level >= 0


def trains(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a gradient may be asked for."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


class Scan(torch.autograd.Function):
    """The scan in autograd."""

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        """Outputs, final states, and what backward wants to have kept."""
        leading, tensors = arguments[:_LEADING], arguments[_LEADING:]
        *lists, _ = _split(leading[1], tensors)
        run = torch.ops.unrolled.scan if observed(tensors) else run_scan
        return tuple(run(*_operation_arguments(leading, lists), leading[_FIXED - 1]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what backward is given."""
        leading, tensors = inputs[:_LEADING], inputs[_LEADING:]
        shown, states = leading[1][6], leading[1][2]
        ctx.fixed, ctx.given = leading[:_FIXED], len(tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[shown + states :])
        ctx.save_for_backward(*leading[_FIXED:], *tensors, *output[:shown], *output[shown + states :])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        """The second function."""
        saved = ctx.saved_tensors  # once: each reading unpacks anew, which checkpointing forbids
        leading = (*ctx.fixed, *saved[:2])
        _, _, states, _, _, _, shown = leading[1]
        tensors, kept = saved[2 : 2 + ctx.given], saved[2 + ctx.given :]
        wanted = tuple(ctx.needs_input_grad[_LEADING:])
        counts = (shown, len(kept) - shown)
        # A compiled backward is not differentiated again, and Dynamo cannot trace one function within another.
        plain = torch.compiler.is_compiling() or not (torch.is_grad_enabled() or transformed())
        run: Any = _ScanBackward.forward if plain else _ScanBackward.apply
        gradients = iter(run(wanted, counts, *leading, *tensors, *kept, *cotangents[: shown + states]))
        return (None,) * _LEADING + tuple(next(gradients) if want else None for want in wanted)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """A batched sequence or state folds into the batch; batched parameters and clocks loop."""
        sequences, _, states, _, parameters, clocks, shown = arguments[1]
        # A batched tensor does not show whether the one inside it wants a gradient.
        train = arguments[_FIXED - 1] or trains(arguments[_LEADING:])
        arguments = (*arguments[: _FIXED - 1], train, *arguments[_FIXED:])
        folding = len(arguments) - parameters - clocks
        if any(dim is not None for dim in in_dims[folding:]):
            return _looped(EagerScan, info.batch_size, in_dims, arguments)
        folded = list(arguments)
        batch_axes = {_FIXED: 0, _FIXED + 1: 1}  # lengths, resets
        for index in range(_LEADING, folding):
            batch_axes[index] = 1 if index < _LEADING + sequences else 0
        for index, axis in batch_axes.items():
            if arguments[index] is not None:
                folded[index] = _folded(arguments[index], in_dims[index], axis, info.batch_size)
        run: Any = EagerScan.apply
        results = run(*folded)
        dims = tuple(0 if shown <= index < shown + states else 1 for index in range(len(results)))
        apart = [result.unflatten(axis, (info.batch_size, -1)) for result, axis in zip(results, dims, strict=True)]
        return tuple(apart), dims


class EagerScan(Scan):
    """The scan where forward mode is asked for by a call, not by a compiler, which wants no `jvp` at all."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Not here."""
        raise UsageError('the scan has no forward-mode derivative; the layer takes backend="reference", which has')


class QuickScan(torch.autograd.Function):
    """The scan where no transform looks on: a function without `setup_context` costs less in Python."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        """As the scan's, and keep what backward is given."""
        output = Scan.forward(*arguments)
        Scan.setup_context(ctx, arguments, output)
        return output

    backward = Scan.backward


class _ScanBackward(torch.autograd.Function):
    """The backward scan in autograd. `wanted`, and `counts` of outputs and saved tensors, stand before the rest."""

    @staticmethod
    def forward(wanted: tuple[bool, ...], counts: tuple[int, int], *arguments: Any) -> tuple[Tensor, ...]:
        leading, tensors = arguments[:_LEADING], arguments[_LEADING:]
        *lists, rest = _split(leading[1], tensors)
        shown, saved = counts
        d = rest[shown + saved :]
        run = torch.ops.unrolled.scan_backward if observed(tensors) else run_scan_backward
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
        flat = joined(lists)
        moving = [index for index, want in enumerate(ctx.wanted) if want]

        def run(*moved: Tensor) -> tuple[Tensor, ...]:
            whole = list(flat)
            for index, tensor in zip(moving, moved, strict=True):
                whole[index] = tensor
            *parts, _ = _split(leading[1], whole)
            group, _ = group_of(*_operation_arguments(leading, parts)[:-1])
            with no_autocast(group[0][1]):
                results = [Interpreter(plan).forward(call) for plan, call in group]
            both = joined([*(each.outputs for each in results), *(each.finals for each in results)])
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
