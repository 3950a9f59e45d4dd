"""A linear model of what a text as a whole is made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

# Of the squares of the weights, over the number of texts.
DECAY = 0.125
ITERATIONS, KEPT_STEPS = 100, 5


class Bag(nn.Module):
    """Scores of a text from the groups of characters that it has: the rarer a group, the more it counts, and all of
    a text's together are a vector of unit length. What fewer than two texts had in `learn` counts nothing.

    groups   numbers of groups
    scores   of a text

    Source   weights: Spärck Jones 1972, as smoothed by scikit-learn; numbers by a hash: Weinberger et al. 2009,
             arXiv 0902.2206
    """

    rarity: Tensor

    def __init__(self, groups: int, scores: int):
        super().__init__()
        # Learned at once, before the steps of an optimiser.
        self.weight = nn.Parameter(torch.zeros(groups, scores), requires_grad=False)
        self.offset = nn.Parameter(torch.zeros(scores), requires_grad=False)
        self.register_buffer("rarity", torch.zeros(groups))

    def forward(self, groups: Tensor, starts: Tensor) -> Tensor:
        """The scores of texts.

        groups   (groups,) each once a text, one text after the other
        starts   (texts,) where those of each text begin

        Shapes   returns (texts, scores)
        """
        found = embedding_bag(groups, self.weight, starts, mode="sum", per_sample_weights=self._shares(groups, starts))
        return torch.as_tensor(found + self.offset)

    @torch.no_grad()
    def learn(self, groups: Tensor, starts: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
        """Find the weights of the least loss of some texts, with a small part of their squares added to it.

        loss   of the scores of all texts, the mean: convex

        Source   limited-memory BFGS: Liu & Nocedal 1989
        """
        texts = len(starts)
        having = torch.bincount(groups, minlength=len(self.rarity))
        self.rarity = torch.where(having > 1, torch.log((1 + texts) / (1 + having)) + 1, 0.0)
        # Whole numbers of 32 bits: there are many.
        groups, starts = groups.int(), starts.int()
        shares = self._shares(groups, starts)
        # The same numbers by group: one sum a group gives the gradient, much faster than adding where each stands.
        order = groups.argsort(stable=True)
        turned, firsts = shares[order], (having.cumsum(0) - having).int()
        rows = torch.arange(texts, dtype=torch.int32).repeat_interleave(_counts(groups, starts))[order]
        del order
        optimiser = torch.optim.LBFGS(
            [self.weight, self.offset], max_iter=ITERATIONS, history_size=KEPT_STEPS, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            with torch.enable_grad():
                scores = embedding_bag(groups, self.weight, starts, mode="sum", per_sample_weights=shares)
                scores = (scores + self.offset).requires_grad_()
                found = loss(scores)
                (slopes,) = torch.autograd.grad(found, scores)
            decay = DECAY / texts
            self.weight.grad = embedding_bag(rows, slopes, firsts, mode="sum", per_sample_weights=turned)
            self.weight.grad += 2 * decay * self.weight
            self.offset.grad = slopes.sum(0)
            return found.detach() + decay * self.weight.square().sum()

        optimiser.step(closure)
        self.weight.grad = self.offset.grad = None

    def _shares(self, groups: Tensor, starts: Tensor) -> Tensor:
        """What each group counts in its text."""
        found, counts = self.rarity[groups], _counts(groups, starts)
        squares = embedding_bag(groups, self.rarity.square()[:, None], starts, mode="sum")[:, 0]
        return found / squares.clamp(min=1e-12).sqrt().repeat_interleave(counts)


def _counts(groups: Tensor, starts: Tensor) -> Tensor:
    """How many groups each text has."""
    return torch.diff(starts, append=starts.new_tensor([len(groups)]))
