"""The optimiser and the course of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from unrolled.options import TrainingOptions

SECOND_BETA = 0.99
# Of what a step's decay leaves of a weight: it has a logarithm.
LEAST = 1e-30


class AdamW(torch.optim.AdamW):
    """AdamW that moves only the rows that a sparse gradient has.

    A row's mean of squares falls for all steps since it was last moved; it moves at once by what its gradient would add
    up to under momentum. So a table of words costs what the words of a batch cost, not what all words do.

    Source   Loshchilov & Hutter 2019; rows without momentum: Kingma & Ba 2015, section 5, with beta_1 = 0
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient; a sparse one is forgotten then."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._move_rows(parameter, group)
                    parameter.grad = None
        super().step()

    def _move_rows(self, parameter: nn.Parameter, group: Mapping[str, Any]) -> None:
        assert parameter.grad is not None
        gradient, state = parameter.grad.coalesce(), self.state[parameter]
        rows, slopes = gradient.indices()[0], gradient.values()
        if "last" not in state:
            # As the optimiser writes and reads them: numbers of the parameter's kind. `decay` adds up the logarithms of
            # what the decay leaves, over all steps; `decayed` is how much of that each row has had.
            state["step"], state["decay"] = torch.zeros(()), torch.zeros(())
            state["last"], state["decayed"] = torch.zeros(len(parameter)), torch.zeros(len(parameter))
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        beta, rate = group["betas"][1], group["lr"]
        state["step"] += 1
        state["decay"] += math.log(max(1 - rate * group["weight_decay"], LEAST))
        step = float(state["step"])
        since = (step - state["last"].index_select(0, rows))[:, None]
        kept = (state["decay"] - state["decayed"].index_select(0, rows)).exp_()[:, None]
        squares = state["exp_avg_sq"].index_select(0, rows)
        squares.mul_(beta**since).addcmul_(slopes, slopes, value=1 - beta)
        state["last"].index_fill_(0, rows, step)
        state["decayed"].index_fill_(0, rows, float(state["decay"]))
        state["exp_avg_sq"].index_copy_(0, rows, squares)
        lengths = squares.div_(1 - beta**step).sqrt_().add_(group["eps"])
        moved = parameter.index_select(0, rows).mul_(kept)
        parameter.index_copy_(0, rows, moved.addcdiv_(slopes, lengths, value=-rate))


def clip(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Bring the gradients, dense and sparse, to at most this norm; returns what it was. A norm of 0 is no limit."""
    found = []
    for parameter in parameters:
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
            found.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    norm = float(nn.utils.get_total_norm(found))
    if most and norm > most:
        torch._foreach_mul_(found, most / (norm + 1e-6))
    return norm


def optimiser_of(parameters: Iterable[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or stochastic gradient descent with momentum, as the options say."""
    if options.optimiser == "sgd":
        return torch.optim.SGD(
            parameters, options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
        )
    # Of a model with many vectors it takes a fourth of the time.
    betas = (options.momentum, SECOND_BETA)
    return AdamW(parameters, options.learning_rate, weight_decay=options.weight_decay, betas=betas, fused=True)


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
