"""What runs a plan: one protocol, and the choice of a backend."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from unrolled.errors import BackendWarning, UsageError, did_you_mean
from unrolled.ir.plan import Plan

# A stream runs in a process without torch.
if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Call:
    """What one scan is given. Lists follow the plan's program: its inputs, rows, states and groups.

    Shapes   sequences, each (time, batch, axis), (time, batch, 1) for a number, or (time, batch) of whole numbers
             that stand for one-hot vectors; rows, states and restarts, each (batch, axis); lengths (batch,);
             resets (time, batch); clock () steps done before
    sizes      the sizes of the plan's axes, in their order
    restarts   what the states begin from again at a reset; empty without resets
    reverse    run from each sequence's last step to its first
    precision  "" to multiply in the type of the tensors, or the name of a narrower type for the products
    """

    sequences: Sequence[Tensor]
    rows: Sequence[Tensor]
    states: Sequence[Tensor]
    restarts: Sequence[Tensor]
    parameters: Sequence[Tensor]
    scalars: Sequence[float]
    sizes: Sequence[int]
    lengths: Tensor | None = None
    resets: Tensor | None = None
    clock: Tensor | None = None
    reverse: bool = False
    precision: str = ""

    @property
    def lists(self) -> tuple[Sequence[Tensor], ...]:
        """The tensors that may want gradients."""
        return (self.sequences, self.rows, self.states, self.restarts, self.parameters)


@dataclass(frozen=True)
class Result:
    """What a scan gives.

    Shapes   outputs: y and the taps, each (time, batch, axis), zero in the padding; finals (batch, axis);
             saved: what the backward scan wants, each (time, batch, …), in reading order
    """

    outputs: list[Tensor]
    finals: list[Tensor]
    saved: list[Tensor]


@dataclass(frozen=True)
class Cotangents:
    """Gradients that come into the backward scan; None where nothing depends on the value."""

    outputs: Sequence[Tensor | None]
    finals: Sequence[Tensor | None]


@dataclass(frozen=True)
class Gradients:
    """Gradients that leave it, in the order of the call's lists; None for what is not wanted."""

    sequences: list[Tensor | None]
    rows: list[Tensor | None]
    states: list[Tensor | None]
    restarts: list[Tensor | None]
    parameters: list[Tensor | None]

    @property
    def lists(self) -> tuple[list[Tensor | None], ...]:
        """All of them."""
        return (self.sequences, self.rows, self.states, self.restarts, self.parameters)


class Ran(NamedTuple):
    """A scan that ran, and the cotangents that arrive for it: what its backward scan is given.

    wanted   whether the gradient is, for each of the call's tensors in the order of its lists
    """

    call: Call
    outputs: Sequence[Tensor]
    saved: Sequence[Tensor]
    d: Cotangents
    wanted: Sequence[bool]


class Kernel(Protocol):
    """A compiled plan."""

    def forward(self, call: Call, train: bool) -> Result:
        """Run over all time; keep what backward wants if `train`."""

    def saved_like(self, call: Call) -> list[Tensor]:
        """Empty tensors of the shapes that `forward` saves for this call."""

    def backward(
        self, call: Call, outputs: Sequence[Tensor], saved: Sequence[Tensor], d: Cotangents, wanted: Sequence[bool]
    ) -> Gradients:
        """The gradients of the call's tensors, in the order of its lists those that are wanted."""


class Backend(Protocol):
    """An engine.

    linear   whether it runs recurrences alone that are linear and element-wise in their states, as `Plan.linear` says
    """

    name: str
    linear: bool

    def available(self, device: torch.device) -> str:
        """'' if it runs on the device, else the reason why not."""

    def compile(self, plan: Plan) -> Kernel:
        """The kernel of a plan, from the process-wide cache."""

    def forward(self, group: Sequence[tuple[Plan, Call]], train: bool) -> list[Result]:
        """Run scans that do not wait for one another, side by side where that is faster."""

    def backward(self, group: Sequence[tuple[Plan, Ran]]) -> list[Gradients]:
        """Their backward scans, likewise."""


@cache
def backends() -> dict[str, Backend]:
    """The engines by name, the fastest first."""
    from unrolled.backends.associative import AssociativeBackend
    from unrolled.backends.llvm import LlvmBackend
    from unrolled.backends.reference import ReferenceBackend

    return {engine.name: engine for engine in (LlvmBackend(), AssociativeBackend(), ReferenceBackend())}


def choose(device: torch.device, name: str = "", linear: bool = False) -> Backend:
    """The backend called `name`, or by UNROLLED_BACKEND, or the fastest that runs on the device.

    linear   whether the recurrences are linear: some backends run no others
    Warns    BackendWarning, once for each reason, where a faster one that is meant for the device does not run
    Raises   UsageError for an unknown name, or for one that does not run there, with the reason
    """
    known = backends()
    name = name or os.environ.get("UNROLLED_BACKEND", "")
    if name:
        if name not in known:
            raise UsageError(f"there is no backend {name!r}.{did_you_mean(name, known)}")
        reason = known[name].available(device)
        if reason:
            raise UsageError(f"backend {name} does not run on {device}: {reason}")
        if known[name].linear and not linear:
            raise UsageError(
                f"backend {name} runs recurrences that are linear and element-wise in their states, which this is not; "
                "`unrolled show CELL --plan` says so. Leave the backend out"
            )
        return known[name]
    reasons: dict[str, str] = {}
    for chosen, backend in known.items():
        if backend.linear and not linear:
            continue
        reason = backend.available(device)
        if not reason:
            break
        reasons[chosen] = reason
    for other, reason in reasons.items():
        # On other devices an engine for the CPU is not missed.
        if device.type == "cpu":
            _say_once(f"backend {other} does not run here, so {chosen}, which is slower, takes its place: {reason}")
    return backend


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        warnings.warn(text, BackendWarning, stacklevel=3)
