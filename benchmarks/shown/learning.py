"""How the demonstrations train: one loop for all, so that what differs is the network alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn


def seed_all(seed: int) -> None:
    """Begin everything that is drawn anew."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def parameters_of(*modules: nn.Module) -> int:
    """The number of trained values."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def learn(
    parameters: Iterable[Tensor],
    loss: Callable[[], Tensor],
    steps: int,
    *,
    about: str,
    rate: float = 0.003,
    clip: float = 1.0,
    warm_up: float = 0.05,
    floor: float = 0.05,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.99),
    every: int = 0,
    measure: Callable[[], float] | None = None,
    enough: Callable[[float], bool] | None = None,
) -> list[tuple[int, float]]:
    """Train by AdamW, the rate rising, then falling as a cosine; returns (step, measurement) at the end and between.

    loss     the loss of a batch that it draws
    floor    the share of the rate that is left at the end
    every    steps between two measurements; 0 for one at the end
    enough   ends the training early where a measurement satisfies it

    A step whose gradient is not finite is left out.
    """
    trained = list(parameters)
    optimiser = torch.optim.AdamW(trained, lr=rate, betas=betas, weight_decay=weight_decay)
    warm = max(1, round(warm_up * steps))
    found: list[tuple[int, float]] = []
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(about, total=steps)
        for step in range(steps):
            fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / warm) * fall
            optimiser.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            if math.isfinite(float(nn.utils.clip_grad_norm_(trained, clip))):
                optimiser.step()
            progress.update(task, advance=1, description=f"{about}: {value.item():.4f}")
            if measure is not None and ((every and (step + 1) % every == 0) or step + 1 == steps):
                found.append((step + 1, measure()))
                if enough is not None and enough(found[-1][1]):
                    break
    return found
