"""Networks that read words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.layers.words import Words, WordVectors

# Of the scores of groups: by how much faster they are learned than the network, and the share left out in training.
SCALE, DROPPED = 5.0, 0.2


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
    learns alone; together they answer with the mean of their scores.

    members   one or more; the first one's vectors are those of the model
    wide      numbers of the groups of a text, each with scores of its own; 0 for no linear model
    trust     (wide,) by how much the scores of each group count: less where few texts have it
    scores    of a text

    Source   linear beside deep: Cheng et al. 2016, arXiv 1606.07792; networks that learn alone and answer together:
             Hansen & Salamon 1990
    """

    trust: Tensor

    def __init__(self, members: Sequence[Member], *, wide: int = 0, scores: int = 0):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.wide = nn.EmbeddingBag(wide, scores, mode="sum") if wide else None
        self.register_buffer("trust", torch.ones(wide))
        if self.wide is not None:
            nn.init.zeros_(self.wide.weight)

    def each(self) -> list[Member]:
        """The members."""
        return cast(list[Member], list(self.members))

    @property
    def vectors(self) -> WordVectors:
        """Those of the first member."""
        return self.each()[0].vectors

    def forward(self, words: Words) -> Tensor:
        """The mean of the members' scores."""
        return self.apart(words).mean(0)

    def apart(self, words: Words) -> Tensor:
        """The scores of each member.

        Shapes   returns (member, batch, score)
        """
        found = [member(words) for member in self.members]
        return torch.stack(found if self.wide is None else [*found, self._bag(self.wide, words)])

    def _bag(self, bag: nn.EmbeddingBag, words: Words) -> Tensor:
        """The scores of the groups, of unit length a text."""
        ends = torch.cat([words.starts[1:], words.starts.new_tensor([len(words.groups)])])
        counts = ends - words.starts
        weights = (SCALE / counts.clamp(min=1).sqrt()).repeat_interleave(counts) * self.trust[words.groups]
        weights = functional.dropout(weights, DROPPED, self.training)
        return torch.as_tensor(bag(words.groups, words.starts, per_sample_weights=weights))
