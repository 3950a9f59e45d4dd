"""Networks that read words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from unrolled.layers.words import Words, WordVectors
from unrolled.models.bag import Bag


class WordModel(nn.Module):
    """What begins with word vectors.

    seen   numbers of the texts that it was trained on, by which they are known again
    """

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0, dtype=torch.int64))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        # As many texts as the weights come with.
        if f"{prefix}seen" in state_dict:
            self.seen = torch.zeros_like(state_dict[f"{prefix}seen"])
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Member(nn.Module):
    """A network above word vectors of its own.

    head   takes vectors (time, batch, size) and lengths, as `ManyToOne` does
    """

    def __init__(self, vectors: WordVectors, head: nn.Module):
        super().__init__()
        self.vectors, self.head = vectors, head

    def forward(self, words: Words) -> Tensor:
        """The scores of a batch."""
        return torch.as_tensor(self.head(self.vectors(words), lengths=words.lengths))


class TextModel(WordModel):
    """Networks that read the same texts, and beside them, if wanted, a linear model of what the texts are made of. Each
    learns alone; the networks answer with the mean of their scores, and the linear model counts as much as they all.

    members   one or more; the first one's vectors are those of the model
    bag       the linear model

    Source   linear beside deep: Cheng et al. 2016, arXiv 1606.07792; networks that learn alone and answer together:
             Hansen & Salamon 1990
    """

    def __init__(self, members: Sequence[Member], bag: Bag | None = None):
        super().__init__()
        self.members, self.bag = nn.ModuleList(members), bag

    def each(self) -> list[Member]:
        """The members."""
        return cast(list[Member], list(self.members))

    @property
    def vectors(self) -> WordVectors:
        """Those of the first member."""
        return self.each()[0].vectors

    def forward(self, words: Words) -> Tensor:
        """The scores of all together.

        Shapes   returns (batch, score)
        """
        found = self.apart(words).mean(0)
        return found if self.bag is None else (found + self.bag(words.groups, words.starts)) / 2

    def apart(self, words: Words) -> Tensor:
        """The scores of each member.

        Shapes   returns (member, batch, score)
        """
        return torch.stack([member(words) for member in self.members])
