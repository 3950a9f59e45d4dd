"""Backpropagation through time, taken apart by the distance that a gradient travels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call

from unrolled.errors import UsageError, did_you_mean
from unrolled.layers.base import SequenceLayer


def gradient_by_step(
    layer: SequenceLayer, x: Tensor, loss: Callable[[Tensor], Tensor], parameter: str, state: object = None
) -> Tensor:
    """What each time distance contributes to the gradient of a parameter; the sum over distances is `.grad`.

    Each step is run with a copy of the parameters of its own, so that the gradient of what the loss reads at step t
    falls apart into the uses at steps t, t - 1, t - 2, …: the sum over k in the notes' chain rule of BPTT.

    Shapes   x (time, batch, input); loss maps y (time, batch, output) to a number; parameter a name of
             `layer.named_parameters()`, such as "U.h"
             returns (time, *shape of the parameter), entry d from the uses d steps before
    Raises   UsageError for a parameter that the layer does not have, or a layer that does not read forward, time-major
    """
    parameters = dict(layer.named_parameters())
    if parameter not in parameters:
        raise UsageError(f"the layer has no parameter {parameter!r}.{did_you_mean(parameter, parameters)}")
    for module in layer.modules():
        if getattr(module, "reverse", False):
            raise UsageError("a layer that reads backwards, or in both directions, cannot be taken apart step by step")
    if layer.batch_first:
        raise UsageError("gradient_by_step reads time-major batches; the layer has batch_first=True")
    if not len(x):
        return torch.zeros(0, *parameters[parameter].shape, dtype=parameters[parameter].dtype)
    copies, outputs = [], []
    for step in range(len(x)):
        copy = parameters[parameter].detach().clone().requires_grad_()
        y, state = functional_call(layer, {**parameters, parameter: copy}, (x[step : step + 1], state))
        copies.append(copy)
        outputs.append(y)
    y = torch.cat(outputs)
    (d_y,) = torch.autograd.grad(loss(y), y, retain_graph=True)
    by_distance = torch.zeros(len(x), *parameters[parameter].shape, dtype=y.dtype, device=y.device)
    for step, output in enumerate(outputs):
        used = copies[: step + 1]
        found = torch.autograd.grad(output, used, d_y[step : step + 1], retain_graph=True, allow_unused=True)
        for use, gradient in enumerate(found):
            if gradient is not None:
                by_distance[step - use] += gradient
    return by_distance
