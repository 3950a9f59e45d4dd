"""A conditional random field over the labels of a sequence: each is scored with the one before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled import sequence
from unrolled.errors import ShapeError
from unrolled.layers.attention import masked
from unrolled.layers.given import check_sizes, check_tensor

NONE = -1
# The score of a pair that is not allowed: nothing makes up for it, and its gradient stays finite.
_FORBIDDEN = -1e4


class CRF(nn.Module):
    """A chain over labels: a sequence's score is the sum of its steps', its pairs' of neighbours, its ends'.

    labels      how many there are
    allowed     (labels, labels), true where the second may follow the first; None for all
    may_begin   (labels,), true for those that a sequence may begin with; None for all
    may_end     (labels,), true for those that it may end with; None for all

    Its probabilities are over whole sequences of labels, so that what decides is how the labels fit together: an entity
    that goes on must have begun. Scores of the steps come from any layer, such as `ManyToMany` without a softmax.

    Raises   UsageError for no labels; ShapeError where what is allowed is of another shape
    Source   Lafferty, McCallum & Pereira 2001; on recurrent networks: Huang, Xu & Yu 2015, arXiv 1508.01991
    """

    def __init__(
        self,
        labels: int,
        allowed: Tensor | None = None,
        *,
        may_begin: Tensor | None = None,
        may_end: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        check_sizes(labels=labels)
        self.labels = labels
        for name, shape, open_ in (
            ("pairs", (labels, labels), allowed), ("begin", (labels,), may_begin), ("end", (labels,), may_end)
        ):  # fmt: skip
            if open_ is not None and open_.shape != shape:
                raise ShapeError(f"what is allowed of {name} is {tuple(open_.shape)}; expected {shape}")
            closed = torch.zeros(shape, dtype=torch.bool) if open_ is None else ~open_.to(torch.bool)
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, device=device, dtype=dtype)))
            self.register_buffer(f"no_{name}", closed.to(device or closed.device), persistent=False)

    def forward(self, scores: Tensor, wanted: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """The log-probability of each sequence of labels, in nats; its negative is the loss.

        Shapes   scores (time, batch, label); wanted (time, batch), whole numbers, anything in the padding; lengths
                 (batch,) valid steps, 0 allowed; returns (batch,)
        Raises   ShapeError when something does not fit, or wanted labels are none or not allowed, in words
        """
        scores, valid = self._checked(scores, lengths)
        check_tensor("wanted", wanted)
        if wanted.shape != valid.shape or wanted.is_floating_point():
            raise ShapeError(f"wanted is {wanted.dtype} {tuple(wanted.shape)}; expected whole numbers (time, batch)")
        wanted = torch.where(valid, wanted, 0).to(torch.int64)
        if sequence.readable(wanted) and wanted.numel():
            self._check_wanted(wanted, valid)
        return self._score(scores, wanted, valid) - self._partition(scores, valid)

    def marginals(self, scores: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """The probability of each label at each step, over all sequences of labels; 0 in the padding.

        The gradient of the logarithm of the partition function with respect to the scores: what the forward-backward
        algorithm computes.

        Shapes   scores (time, batch, label); returns the same
        """
        scores, valid = self._checked(scores, lengths)
        if not len(scores):
            return scores
        with torch.inference_mode(False), torch.enable_grad():
            # Copies: what inference mode has made cannot be kept for a gradient.
            given = scores.detach().clone().requires_grad_()
            (found,) = torch.autograd.grad(self._partition(given, valid.clone()).sum(), given)
        return found

    def decode(self, scores: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """The likeliest labels of each sequence, by Viterbi's algorithm.

        Shapes   scores (time, batch, label); returns (time, batch), -1 in the padding
        """
        return self.best(scores, lengths)[0][0]

    @torch.no_grad()
    def best(
        self, scores: Tensor, lengths: Tensor | Sequence[int] | None = None, count: int = 1
    ) -> tuple[Tensor, Tensor]:
        """The `count` likeliest sequences of labels, and their log-probabilities in nats.

        Shapes   scores (time, batch, label); returns (count, time, batch), -1 in the padding, and (count, batch); where
                 a row has no so many sequences that are allowed, -1 and -inf
        """
        check_sizes(count=count)
        scores, valid = self._checked(scores, lengths)
        time, batch = valid.shape
        # Without a step there is one sequence of labels, the empty one.
        alone = scores.new_full((count, 1), -torch.inf)
        alone[0] = 0
        if not time:
            return valid.new_full((count, 0, batch), NONE, dtype=torch.int64), alone.expand(count, batch)
        begin, pairs, end = (self._allowed(name, -torch.inf) for name in ("begin", "pairs", "end"))
        # Of each label at a step, the `count` best ways to it.
        ways = scores.new_full((batch, self.labels, count), -torch.inf)
        ways[..., 0] = begin + scores[0]
        places = torch.arange(self.labels * count, device=scores.device).view(self.labels, count)
        pointers = []
        for step in range(1, time):
            longer = ways[..., None] + pairs[:, None]
            kept, before = longer.flatten(1, 2).topk(count, 1)
            kept = kept.transpose(1, 2) + scores[step][..., None]
            going = valid[step][:, None, None]
            ways = torch.where(going, kept, ways)
            pointers.append(torch.where(going, before.transpose(1, 2), places))
        found, place = (ways + end[:, None]).flatten(1).topk(count, 1)
        labels = []
        for step in reversed(range(time)):
            labels.append(place // count)
            if step:
                place = pointers[step - 1].flatten(1).gather(1, place)
        best = torch.stack(labels[::-1]).permute(2, 0, 1)
        total = torch.where(valid[0], found.T - self._partition(scores, valid), alone)
        return torch.where(valid & total[:, None].isfinite(), best, NONE), total

    def _checked(self, scores: Tensor, lengths: Tensor | Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """The scores, zero in the padding, and where they are valid."""
        check_tensor("scores", scores)
        if scores.dim() != 3 or scores.shape[-1] != self.labels:
            raise ShapeError(f"scores is {tuple(scores.shape)}; expected (time, batch, {self.labels})")
        return masked(scores, lengths)

    def _check_wanted(self, wanted: Tensor, valid: Tensor) -> None:
        low, high = int(wanted.min()), int(wanted.max())
        if not 0 <= low <= high < self.labels:
            raise ShapeError(f"wanted holds {low} to {high}; there are {self.labels} labels")
        last = wanted.gather(0, (valid.sum(0) - 1).clamp(min=0)[None])[0]
        closed = {
            "follow one another": self.get_buffer("no_pairs")[wanted[:-1], wanted[1:]] & valid[1:],
            "begin": self.get_buffer("no_begin")[wanted[0]] & valid[0],
            "end": self.get_buffer("no_end")[last] & valid[0],
        }
        for what, found in closed.items():
            if found.any():
                row = int(found.nonzero()[0, -1])
                raise ShapeError(f"wanted has labels in row {row} that may not {what}: convert them, or allow it")

    def _allowed(self, name: str, never: float = _FORBIDDEN) -> Tensor:
        """A parameter, with what is not allowed as good as never."""
        return self.get_parameter(name).masked_fill(self.get_buffer(f"no_{name}"), never)

    def _score(self, scores: Tensor, wanted: Tensor, valid: Tensor) -> Tensor:
        """The score of the wanted labels."""
        if not len(scores):
            return scores.new_zeros(scores.shape[1])
        own = scores.gather(2, wanted[..., None])[..., 0]
        pairs = self._allowed("pairs")[wanted[:-1], wanted[1:]]
        last = wanted.gather(0, (valid.sum(0) - 1).clamp(min=0)[None])[0]
        total = torch.where(valid, own, 0).sum(0) + torch.where(valid[1:], pairs, 0).sum(0)
        return total + torch.where(valid[0], self._allowed("begin")[wanted[0]] + self._allowed("end")[last], 0)

    def _partition(self, scores: Tensor, valid: Tensor) -> Tensor:
        """The logarithm of the sum over all sequences of labels, of the exponentials of their scores."""
        if not len(scores):
            return scores.new_zeros(scores.shape[1])
        pairs = self._allowed("pairs")
        forward = self._allowed("begin") + scores[0]
        for step in range(1, len(scores)):
            longer = torch.logsumexp(forward[..., None] + pairs, 1) + scores[step]
            forward = torch.where(valid[step][:, None], longer, forward)
        return torch.where(valid[0], torch.logsumexp(forward + self._allowed("end"), 1), 0)

    def extra_repr(self) -> str:
        """The labels."""
        return str(self.labels)
