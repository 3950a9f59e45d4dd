"""A layer with a way round it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled import sequence
from unrolled.layers.base import SequenceLayer, like
from unrolled.layers.compose import check_within


class Residual(SequenceLayer):
    """A layer over sequences whose output is added to its input; `x + layer(x)`.

    Where the sizes differ, a map of x without bias is added, `shortcut`, as `raw(x)` of a cell is. State, taps and
    further inputs are those of the layer within. A deep stack of them:
    `deep(lambda index, size: Residual(Recurrent("lstm", size, 64)), 32, layers=8)`.

    Source   He, Zhang, Ren & Sun 2016; between recurrent layers: Wu et al. 2016, arXiv 1609.08144
    """

    def __init__(self, layer: SequenceLayer, *, batch_first: bool = False):
        super().__init__(batch_first)
        check_within([layer])
        self.layer = layer
        self.input_size = layer.input_size
        self.output_size = layer.output_size
        self.shortcut: nn.Linear | None = None
        if self.input_size != self.output_size:
            self.shortcut = nn.Linear(self.input_size, self.output_size, bias=False, **like(layer))

    @property
    def further_inputs(self) -> dict[str, int]:
        """The inputs of the layer within."""
        return self.layer.further_inputs

    def run(self, x: Tensor, state: Any, lengths: Tensor | None, resets: Tensor | None, **more: Any) -> tuple[Any, ...]:
        """Run the layer and add what it read."""
        y, *rest = self.layer(x, state, lengths, resets, **more)
        if not x.is_floating_point():
            # The layer has checked the valid numbers; the padding may hold any.
            x = functional.one_hot(x.to(torch.int64).clamp(0, self.input_size - 1), self.input_size)
        x = x.to(y.dtype)
        if lengths is not None:
            x = torch.where(sequence.mask(lengths, len(x))[..., None], x, 0)
        return (y + (x if self.shortcut is None else self.shortcut(x)), *rest)

    @property
    def backward_size(self) -> int:
        """That of the layer within."""
        return self.layer.backward_size

    def initial_state(self, batch: int) -> Any:
        """The initial state of the layer within."""
        return self.layer.initial_state(batch)
