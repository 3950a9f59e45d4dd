"""Networks that read words."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.layers.words import Words, WordVectors


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
    """A network above word vectors.

    head   takes vectors (time, batch, size) and lengths, as `ManyToOne` does
    """

    def __init__(self, vectors: WordVectors, head: nn.Module):
        super().__init__(vectors)
        self.head = head

    def forward(self, words: Words) -> Tensor:
        """What the head gives of a batch."""
        found: Tensor = self.head(self.vectors(words), lengths=words.lengths)
        return found
