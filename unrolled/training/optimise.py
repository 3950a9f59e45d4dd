"""The optimiser and the course of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from unrolled.options import TrainingOptions

SECOND_BETA = 0.99


def optimiser_of(parameters: Iterable[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or stochastic gradient descent with momentum, as the options say."""
    if options.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
        )
    # Of a model with many vectors it takes a fourth of the time.
    betas = (options.momentum, SECOND_BETA)
    return torch.optim.AdamW(
        parameters, options.learning_rate, weight_decay=options.weight_decay, betas=betas, fused=True
    )


def rate_at(number: int, steps: int, options: TrainingOptions) -> float:
    """The learning rate of step `number`, from 1: it rises over the first steps and falls after them, so that it would
    be zero after the last.
    """
    warm = max(1, int(options.warm_up * steps)) if options.warm_up else 0
    if number <= warm:
        return options.learning_rate * number / warm
    left = 1 - (number - warm - 1) / max(1, steps - warm)
    falling = {"none": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}
    return options.learning_rate * falling[options.decay]
