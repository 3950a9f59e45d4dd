"""Networks that read words."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.layers.words import Words, WordVectors

# Of the scores of groups: by how much faster they are learned than the network, and the share left out in training.
SCALE, DROPPED = 5.0, 0.3


class WordModel(nn.Module):
    """What begins with word vectors.

    seen   numbers of the texts that it was trained on, by which they are known again
    """

    seen: Tensor

    def __init__(self, vectors: WordVectors):
        super().__init__()
        self.vectors = vectors
        self.register_buffer("seen", torch.zeros(0, dtype=torch.int64))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # As many texts as the weights come with.
        if f"{prefix}seen" in state_dict:
            self.seen = torch.zeros_like(state_dict[f"{prefix}seen"])
        super()._load_from_state_dict(state_dict, prefix, *rest)


class TextModel(WordModel):
    """A network above word vectors, and beside it, if wanted, a linear model of what its texts are made of.

    head   takes vectors (time, batch, size) and lengths, as `ManyToOne` does
    wide   numbers of the groups of a text, each with a score of its own beside those of the network; 0 for none

    Source   "wide and deep": Cheng et al. 2016, arXiv 1606.07792
    """

    def __init__(self, vectors: WordVectors, head: nn.Module, *, wide: int = 0, scores: int = 0):
        super().__init__(vectors)
        self.head = head
        self.wide = nn.EmbeddingBag(wide, scores, mode="sum") if wide else None
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)

    def forward(self, words: Words) -> Tensor:
        """What the head gives of a batch."""
        found: Tensor = self.head(self.vectors(words), lengths=words.lengths)
        return found if self.wide is None else found + self._bag(self.wide, words)

    def _bag(self, bag: nn.EmbeddingBag, words: Words) -> Tensor:
        """The scores of the groups, of unit length a text."""
        ends = torch.cat([words.starts[1:], words.starts.new_tensor([len(words.groups)])])
        counts = ends - words.starts
        weights = (SCALE / counts.clamp(min=1).sqrt()).repeat_interleave(counts)
        weights = functional.dropout(weights, DROPPED, self.training)
        return torch.as_tensor(bag(words.groups, words.starts, per_sample_weights=weights))
