"""The scan: plans run over time, as two functional torch operations and their place in autograd.

`unrolled::scan` and `unrolled::scan_backward` are opaque to torch.compile, which knows them by their fake
implementations. Two autograd functions wrap them: the backward of the first is the second, whose own backward is the
reference differentiated twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unrolled.backends import Call, choose
from unrolled.backends.reference import Interpreter
from unrolled.ir.plan import Plan
from unrolled.scan.autograd import EagerScan, QuickScan, Scan, observed, trains, transformed
from unrolled.scan.operations import backend_of, dealt, joined, no_autocast

__all__ = ["Scanned", "multiplies_in", "scan", "scans"]

Scanned = tuple[list[Tensor], list[Tensor]]


def scan(plan: Plan, call: Call, backend: str = "") -> Scanned:
    """Run a plan over time.

    Shapes   returns y and the taps, each (time, batch, axis), and the final states, each (batch, axis)
    backend  "" for the fastest that runs on the device; "reference" runs plain torch, which has forward mode too
    Raises   UsageError for a backend that is unknown or does not run here
    """
    return scans([(plan, call)], backend)[0]


def scans(group: Sequence[tuple[Plan, Call]], backend: str = "") -> list[Scanned]:
    """Run plans that do not wait for one another, with the same lengths and resets: see `scan`."""
    plans, calls = zip(*group, strict=True)
    first = calls[0]
    if backend == "reference":
        with no_autocast(first):
            results = [Interpreter(plan).forward(call) for plan, call in group]
        return [(result.outputs, result.finals) for result in results]
    lists = [joined(column) for column in zip(*(call.lists for call in calls), strict=True)]
    clocks = [call.clock for call in calls]
    tensors: list[Tensor | None] = [*joined(lists), *clocks]
    train = trains(tensors)
    engine = _engine(first.states[0].device.type, backend, all(bool(plan.linear) for plan in plans))
    compiling = torch.compiler.is_compiling()
    if not (compiling or train or transformed() or observed(tensors)):
        with torch.no_grad(), no_autocast(first):
            results = backend_of(engine).forward(group, False)
        return [(result.outputs, result.finals) for result in results]
    shown = [1 + len(plan.taps) for plan in plans]
    layout = (*map(len, lists), len(clocks), sum(shown))
    numbers = (tuple(joined(call.scalars for call in calls)), tuple(joined(call.sizes for call in calls)))
    ways = (tuple(call.reverse for call in calls), tuple(call.precision for call in calls))
    fixed = (tuple(plan.key for plan in plans), layout, *numbers, *ways, engine, train)
    run: Any = EagerScan.apply if transformed() else QuickScan.apply
    if compiling:
        # Dynamo takes no tensor twice, such as one zero state for h and c.
        tensors = [
            tensor
            if tensor is None or all(tensor is not other for other in tensors[:index])
            else tensor.view_as(tensor)
            for index, tensor in enumerate(tensors)
        ]
        run = Scan.apply if train else Scan.forward
    values = run(*fixed, first.lengths, first.resets, *tensors)
    outputs = dealt(values, shown)
    finals = dealt(values[sum(shown) :], [len(call.states) for call in calls])
    return list(zip(outputs, finals, strict=True))


def multiplies_in(own: torch.dtype, device: torch.device) -> str:
    """The type that autocast asks the products to be computed in, or "" without autocast, which leaves float64 be."""
    if own == torch.float64 or device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return ""
    return str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")


def _choose_engine(device: str, backend: str, linear: bool) -> str:
    """The backend of this call, named once, so that its forward and backward are the same one's."""
    return choose(torch.device(device), backend, linear).name


_engine: Any = torch.compiler.assume_constant_result(_choose_engine)
