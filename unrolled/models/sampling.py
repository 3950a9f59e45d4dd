"""One symbol out of many: how the next one is drawn from its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.errors import UnrolledError, UsageError
from unrolled.options import check_number


@dataclass(frozen=True)
class Sampler:
    """Draws from the distribution that scores give.

    temperature   below 1 keeps to the likely, above 1 strays; 0 always takes the likeliest
    top_k         draw among the k likeliest only; 0 for all
    top_p         draw among the fewest that hold this share of the probability only; 1 for all

    Raises   UsageError for a number that makes no sense
    Source   top-p: Holtzman, Buys, Du, Forbes & Choi 2020
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, {"from": 0})
        check_whole("top_k", self.top_k, {"from": 0})
        check_number("top_p", self.top_p, {"above": 0})
        if self.top_p > 1:
            raise UsageError(f"top_p is a share of the probability, at most 1, not {self.top_p!r}")

    def __call__(self, scores: Tensor, allowed: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One number a row; those not allowed are never drawn.

        Shapes   scores (batch, vocabulary); allowed likewise, bool, at least one a row; returns (batch,)
        """
        scores = scores.double().masked_fill(~allowed, -torch.inf)
        if not bool(scores.amax(-1).isfinite().all()):
            raise UnrolledError("the model's scores are not finite numbers: nothing can be drawn from them")
        if self.temperature == 0:
            return scores.argmax(-1)
        # The largest becomes 0, so that no temperature, however low, makes an infinity of it.
        scores = (scores - scores.amax(-1, keepdim=True)) / self.temperature
        if 0 < self.top_k < scores.shape[-1]:
            kept = torch.zeros_like(allowed).scatter(-1, scores.topk(self.top_k).indices, True)
            scores = scores.masked_fill(~kept, -torch.inf)
        weights = torch.softmax(scores, -1)
        if self.top_p < 1:
            ordered, order = weights.sort(dim=-1, descending=True, stable=True)
            # What stands before a symbol already holds the share: it is not among the fewest.
            needed = ordered.cumsum(-1) - ordered < self.top_p
            weights = weights * torch.zeros_like(needed).scatter(-1, order, needed)
        return torch.multinomial(weights, 1, generator=generator)[:, 0]


def check_whole(name: str, value: Any, limits: Mapping[str, float]) -> None:
    """Raise UsageError, naming the value, unless it is a whole number within its limits."""
    if not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number, not {value!r}")
    check_number(name, value, limits)
