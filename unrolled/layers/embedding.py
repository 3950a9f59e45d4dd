"""Symbols as learned vectors, below any layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unrolled import sequence
from unrolled.errors import ShapeError
from unrolled.layers.base import SequenceLayer, like
from unrolled.layers.compose import check_within
from unrolled.layers.given import check_one_hot


class Embedded(SequenceLayer):
    """A layer that reads symbols, each as a learned vector; its state is the layer's.

    dropout   share of the vectors' entries that is dropped in training

    Raises   UsageError for a layer that is batch-first
    """

    def __init__(self, symbols: int, layer: SequenceLayer, *, dropout: float = 0.0, batch_first: bool = False):
        super().__init__(batch_first)
        check_within([layer])
        self.embedding = nn.Embedding(symbols, layer.input_size, **like(layer))
        self.dropout = nn.Dropout(dropout)
        self.layer = layer
        self.input_size = symbols
        self.output_size = layer.output_size

    def run(self, x: Tensor, state: Any, lengths: Tensor | None, resets: Tensor | None, **more: Any) -> tuple[Any, ...]:
        """Look the symbols up, and run the layer.

        Shapes   x (time, batch), whole numbers
        """
        if x.is_floating_point():
            raise ShapeError(f"x is {x.dtype}; expected whole numbers, those of symbols, of which there are vectors")
        check_one_hot(x, self.input_size, lengths)
        x = x.to(torch.int64)
        x = x if lengths is None else torch.where(sequence.mask(lengths, len(x)), x, 0)
        found: tuple[Any, ...] = self.layer(self.dropout(self.embedding(x)), state, lengths, resets, **more)
        return found

    @property
    def further_inputs(self) -> dict[str, int]:
        """Those of the layer."""
        return self.layer.further_inputs

    @property
    def backward_size(self) -> int:
        """That of the layer."""
        return self.layer.backward_size

    def initial_state(self, batch: int) -> Any:
        """The layer's."""
        return self.layer.initial_state(batch)
