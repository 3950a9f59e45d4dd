"""Networks that read words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    learns alone; together they answer with the mean of the networks' scores and those of the linear model, each times a
    weight.

    members   one or more; the first one's vectors are those of the model
    bag       the linear model
    weights   (2,) of the networks and of the linear model, a half each until `weigh` finds better ones

    Source   linear beside deep: Cheng et al. 2016, arXiv 1606.07792; networks that learn alone and answer together:
             Hansen & Salamon 1990
    """

    weights: Tensor

    def __init__(self, members: Sequence[Member], bag: Bag | None = None):
        super().__init__()
        self.members, self.bag = nn.ModuleList(members), bag
        self.register_buffer("weights", torch.full((2,), 0.5))

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
        return self.together(self.parts(words))

    def parts(self, words: Words) -> Tensor:
        """The scores of the networks, and those of the linear model, if there is one.

        Shapes   returns (batch, 1 or 2, score)
        """
        found = self.apart(words).mean(0)
        return torch.stack([found] if self.bag is None else [found, self.bag(words.groups, words.starts)], 1)

    def together(self, parts: Tensor) -> Tensor:
        """The scores that they come to.

        Shapes   parts as `parts` gives them; returns (batch, score)
        """
        return parts[:, 0] if self.bag is None else (parts * self.weights[:, None]).sum(1)

    def weigh(self, parts: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
        """Find the weights of the least loss of some texts that were not learned from: two, whatever the labels.

        loss   of the scores of all texts, the mean

        Source   stacking: Wolpert 1992; the scale of scores: Guo et al. 2017, arXiv 1706.04599
        """
        if self.bag is None or not len(parts):
            return
        weights = torch.full((2,), 0.5, requires_grad=True)
        optimiser = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            # Where all of a few texts are right no weight is too large: what draws to a half counts as one text.
            found = loss((parts * weights[:, None]).sum(1)) + (weights - 0.5).square().sum() / len(parts)
            found.backward()
            return found.detach()

        with torch.enable_grad():
            optimiser.step(closure)
        if bool(weights.isfinite().all()):
            self.weights.copy_(weights.detach().clamp(min=0))

    def apart(self, words: Words) -> Tensor:
        """The scores of each member.

        Shapes   returns (member, batch, score)
        """
        return torch.stack([member(words) for member in self.members])
