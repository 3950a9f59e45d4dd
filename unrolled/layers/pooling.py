"""Pooling: a sequence of outputs as one vector, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.errors import ShapeError, UsageError, did_you_mean
from unrolled.layers.attention import masked, masked_softmax
from unrolled.layers.given import check_tensor


class Pooling(nn.Module):
    """One vector a row, of its valid steps alone, whatever the padding holds; a row without steps gives zeros.

    size            features of a step
    backward_size   how many of them, the last ones, come from a layer that reads backwards: `layer.backward_size`
    """

    # What stands in the padding before the steps are pooled.
    padding = 0.0

    def __init__(self, size: int, backward_size: int = 0):
        super().__init__()
        if not 0 <= backward_size <= size:
            raise UsageError(
                f"of {size} features, 0 to {size} come from a layer that reads backwards, not {backward_size}"
            )
        self.size = size
        self.backward_size = backward_size

    def forward(self, y: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Pool over time.

        Shapes   y (time, batch, size); lengths (batch,) valid steps, in any order, 0 allowed; returns (batch, size)
        Raises   ShapeError when something does not fit, in words
        """
        check_tensor("y", y)
        if y.dim() != 3 or y.shape[-1] != self.size:
            raise ShapeError(f"y is {tuple(y.shape)}; expected (time, batch, {self.size})")
        y, valid = masked(y, lengths, self.padding)
        return self.pool(y, valid) if len(y) else y.new_zeros(y.shape[1:])

    def pool(self, y: Tensor, valid: Tensor) -> Tensor:
        """What becomes of the steps, of which there is one or more.

        Shapes   y (time, batch, size), `padding` in the padding; valid (time, batch); returns (batch, size)
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The features of a step."""
        return str(self.size)


class Last(Pooling):
    """The output after all of a sequence was read.

    That is the last valid step of what reads forward, and the first one of what reads backwards. Outputs are taken, and
    no states, so that it holds for every layer, whatever its state is.
    """

    def pool(self, y: Tensor, valid: Tensor) -> Tensor:
        """Take a step of each row."""
        last = (valid.sum(0) - 1).clamp(min=0)
        ahead, behind = y.split([self.size - self.backward_size, self.backward_size], -1)
        return torch.cat([ahead[last, torch.arange(y.shape[1], device=y.device)], behind[0]], -1)


class Mean(Pooling):
    """The mean of the steps."""

    def pool(self, y: Tensor, valid: Tensor) -> Tensor:
        """Divide the sum by the length."""
        return _total(y) / valid.sum(0).clamp(min=1)[:, None]


class Max(Pooling):
    """The largest value of each feature; at a tie, each of the steps has its part of the gradient.

    Source   over time: Collobert et al. 2011
    """

    # No padding is the largest.
    padding = -torch.inf

    def pool(self, y: Tensor, valid: Tensor) -> Tensor:
        """Take the largest; a row without steps has none."""
        return torch.where(valid[0][:, None], y.amax(0), 0)


class AttentionPooling(Pooling):
    """The mean of the steps, weighted by how well tanh(W y + b) of each fits a learned query.

    Source   Yang et al. 2016, "Hierarchical attention networks for document classification"
    """

    def __init__(self, size: int, backward_size: int = 0):
        super().__init__(size, backward_size)
        self.of_step = nn.Linear(size, size)
        self.query = nn.Linear(size, 1, bias=False)

    def pool(self, y: Tensor, valid: Tensor) -> Tensor:
        """Weigh the steps."""
        return _total(self.weights(y, valid)[..., None] * y)

    def weights(self, y: Tensor, valid: Tensor) -> Tensor:
        """The weight of each step; those of a row sum to 1.

        Shapes   as `pool`; returns (time, batch)
        """
        return masked_softmax(self.query(torch.tanh(self.of_step(y)))[..., 0], valid, 0)


POOLINGS: dict[str, type[Pooling]] = {"attention": AttentionPooling, "last": Last, "max": Max, "mean": Mean}


def make_pooling(kind: str, size: int, backward_size: int = 0) -> Pooling:
    """The pooling of this name: attention, last, max or mean.

    Raises   UsageError for a name that there is not, or more features that read backwards than there are
    """
    if kind not in POOLINGS:
        raise UsageError(f"there is no pooling {kind!r}.{did_you_mean(kind, POOLINGS)}")
    return POOLINGS[kind](size, backward_size)


def _total(y: Tensor) -> Tensor:
    """The sum over time, in pairs of neighbours: the same bits however many zeros follow, as torch's sum is not.

    Shapes   (time, batch, feature), one step or more, to (batch, feature)
    """
    while len(y) > 1:
        pairs = y[: len(y) // 2 * 2]
        y = torch.cat([pairs[0::2] + pairs[1::2], y[len(pairs) :]])
    return y[0]
