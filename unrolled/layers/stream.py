"""Layers made ready to take one step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unrolled.errors import UsageError
from unrolled.ir.plan import Plan

if TYPE_CHECKING:
    from unrolled.backends.llvm.stepping import Frozen

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def frozen(
    plan: Plan,
    sizes: Mapping[str, int],
    scalars: Mapping[str, float],
    parameters: Sequence[Tensor],
    initial: Mapping[str, Tensor],
    precision: str = "",
) -> Frozen:
    """Copies of all that the steps of a plan depend on.

    precision   the type that products of float32 are taken in, "" for their own

    Shapes   initial, each (axis,)
    Raises   UsageError for another type than float32 and float64
    """
    from unrolled.backends.llvm.stepping import Frozen

    for value in (*parameters, *initial.values()):
        if value.dtype not in (torch.float32, torch.float64):
            raise UsageError(f"a stream computes in float32 or float64, not {value.dtype}: layer.float().stream()")
    kept, begin = (
        [value.detach().cpu().contiguous().clone().numpy() for value in each] for each in (parameters, initial.values())
    )
    own = {axis: sizes[axis] for axis in plan.axes}
    return Frozen(plan.key, own, dict(scalars), tuple(kept), dict(zip(initial, begin, strict=True)), precision)


def check_passes(module: nn.Module) -> None:
    """Raise a UsageError unless a module hands on what it is given."""
    if not _drops_only(module):
        raise UsageError(
            f"{type(module).__name__} in a stack is not a layer over sequences, nor a dropout: a stream cannot run it. "
            "Stream the layers below it, and apply it to what they give"
        )
    if module.training and getattr(module, "p", getattr(module, "probability", 0.0)) > 0:
        raise UsageError(f"{type(module).__name__} drops units in training, a stream drops none: call .eval() first")


def _drops_only(module: nn.Module) -> bool:
    from unrolled.layers.compose import VariationalDropout

    return isinstance(module, (*DROPOUTS, VariationalDropout, nn.Identity))
