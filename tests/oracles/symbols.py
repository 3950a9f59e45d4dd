"""Layers with random weights, and their symbols, of which the weights of other libraries are put together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unrolled.backends.maps import dense_matrix
from unrolled.ir.structure import DENSE
from unrolled.layers import Recurrent


def layer_of(cell: str, input_size: int, hidden_size: int, **options: Any) -> Recurrent:
    """A layer whose weights, biases too, are random."""
    layer = Recurrent(cell, input_size, hidden_size, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.5)
    return layer


def symbols(layer: Recurrent, *, gradients: bool = False) -> dict[str, Tensor]:
    """Symbol -> its value or its gradient, such as W.i -> (hidden, input); a structured map is written out in full."""
    found: dict[str, Tensor] = {}
    for group in layer.groups:
        stored = layer._family(group.family).stored(group)
        parts = (stored.grad if gradients else stored).chunk(len(group.names))
        if group.structure != DENSE:
            parts = [
                dense_matrix(group.structure, part, *(layer.sizes[axis] for axis in group.shape)) for part in parts
            ]
        found |= zip([f"{group.family}.{name}" for name in group.names], parts, strict=True)
    return found
