"""Many to one: a network that reads a sequence and says something of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.layers import Embedded, SequenceLayer, Sliced, make_pooling
from unrolled.layers.base import like
from unrolled.layers.compose import check_within
from unrolled.layers.given import check_tensor


class ManyToOne(nn.Module):
    """A score for each class of a sequence, by a linear map of a layer's output pooled over time.

    pooling   'last', 'mean', 'max' or 'attention'
    symbols   as many learned vectors below the layer, for whole numbers; 0 to give the layer its input as it is
    dropout   share of these vectors and of what was pooled that is dropped in training

    Raises   UsageError for a pooling that there is not, or a layer that is batch-first
    """

    def __init__(
        self, layer: SequenceLayer, classes: int, *, pooling: str = "last", symbols: int = 0, dropout: float = 0.0
    ):
        super().__init__()
        check_within([layer])
        self.layer = Embedded(symbols, layer, dropout=dropout) if symbols else layer
        self.pooling = make_pooling(pooling, layer.output_size, layer.backward_size).to(**like(layer))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(layer.output_size, classes, **like(layer))

    def forward(self, x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Scores of each sequence.

        Shapes   x (time, batch, input), or whole numbers (time, batch); lengths (batch,) valid steps, in any order,
                 0 allowed; returns (batch, classes)
        """
        check_tensor("x", x)
        y, _ = self.layer(x, lengths=lengths)
        return torch.as_tensor(self.head(self.dropout(self.pooling(y, lengths))))


class SlicedToOne(nn.Module):
    """A score for each class of a sequence, by a linear map of what a sliced network makes of it.

    dropout   share of what it makes that is dropped in training
    """

    def __init__(self, layer: Sliced, classes: int, *, dropout: float = 0.0):
        super().__init__()
        self.layer = layer
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(layer.output_size, classes)

    def forward(self, x: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Scores of each sequence.

        Shapes   as `ManyToOne`
        """
        return torch.as_tensor(self.head(self.dropout(self.layer(x, lengths))))
