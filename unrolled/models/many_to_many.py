"""Many to many, aligned: a network that says something of every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from unrolled.layers import Embedded, SequenceLayer
from unrolled.layers.base import like
from unrolled.layers.compose import check_within
from unrolled.layers.given import check_tensor


class ManyToMany(nn.Module):
    """A score for each class at every step, by a linear map of a layer's output.

    symbols   as many learned vectors below the layer, for whole numbers; 0 to give the layer its input as it is
    dropout   share of these vectors and of the output that is dropped in training

    Raises   UsageError for a layer that is batch-first
    """

    def __init__(self, layer: SequenceLayer, classes: int, *, symbols: int = 0, dropout: float = 0.0):
        super().__init__()
        check_within([layer])
        self.layer = Embedded(symbols, layer, dropout=dropout) if symbols else layer
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(layer.output_size, classes, **like(layer))

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Scores at every step; what they are in the padding means nothing.

        Shapes   x, state, lengths and resets as the layer takes them; returns (time, batch, classes), state
        """
        check_tensor("x", x)
        y, state = self.layer(x, state, lengths, resets)
        return self.head(self.dropout(y)), state
