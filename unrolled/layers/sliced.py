"""Sliced networks: a sequence is read in slices side by side, and what was read of them is a shorter sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled import sequence
from unrolled.errors import ShapeError, UsageError
from unrolled.layers.base import SequenceLayer
from unrolled.layers.compose import check_within, upward
from unrolled.layers.given import check_tensor
from unrolled.layers.pooling import Last


class Sliced(nn.Module):
    """A sequence as one vector, in far fewer steps one after the other: n parts, k times over, take n k + T / n^k of T.

    Each sequence is cut into `parts`, these into as many parts, and so on, once less than there are levels. The lowest
    level reads all slices side by side; each above reads what the one below gave at the end of `parts` neighbours. One
    level is that layer and its last output.

    Slices follow from the length of each row, so that padding changes nothing: lengths differ by one at most, and a row
    of fewer steps than slices has as many slices as steps. The paper pads to a length that can be divided.

    Raises   UsageError or ShapeError when the levels do not fit upon one another
    Source   Yu & Liu 2018, arXiv 1807.02291, where it is SRNN(n, k)
    """

    def __init__(self, *levels: SequenceLayer, parts: int, batch_first: bool = False):
        super().__init__()
        if type(parts) is not int or parts < 1:
            raise UsageError(f"a sequence is cut into 1 part or more, not {parts!r}")
        if not levels:
            raise UsageError("a sliced network needs a level: a layer over sequences")
        check_within(levels)
        for below, above in pairwise(levels):
            if below.output_size != above.input_size:
                raise ShapeError(
                    f"a level gives {below.output_size} values, the one above it has input_size {above.input_size}"
                )
        self.levels = nn.ModuleList(levels)
        self.ends = nn.ModuleList(Last(level.output_size, level.backward_size) for level in levels)
        self.parts = parts
        self.batch_first = batch_first
        self.input_size = levels[0].input_size
        self.output_size = levels[-1].output_size

    def forward(self, x: Tensor | PackedSequence, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Run all levels.

        Shapes   x (time, batch, input), or whole numbers (time, batch), batch first if batch_first, or a
                 PackedSequence; lengths (batch,) valid steps, in any order, 0 allowed
                 returns (batch, output), zeros for a row without steps
        Raises   ShapeError when something does not fit, in words
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ShapeError("a PackedSequence has lengths of its own; leave out lengths")
            x, lengths = sequence.unpack(x)
        else:
            check_tensor("x", x)
            if x.dim() != (3 if x.is_floating_point() else 2):
                raise ShapeError(f"x is {tuple(x.shape)}; expected (time, batch, input), or (time, batch) of numbers")
            x = x.transpose(0, 1) if self.batch_first else x
        x, steps = self._cut(x, lengths)
        vectors = x
        for index, (level, end) in enumerate(zip(self.levels, self.ends, strict=True)):
            vectors = end(level(x, lengths=steps)[0], steps)
            if index < len(self.levels) - 1:
                x = vectors.view(self.parts, -1, vectors.shape[-1])
                steps = None if steps is None else (steps.view(self.parts, -1) > 0).sum(0)
        return vectors

    def _cut(self, x: Tensor, lengths: Tensor | Sequence[int] | None) -> tuple[Tensor, Tensor | None]:
        """All slices side by side, and their lengths, None if all are full.

        Slices stand in the order of their numbers' digits reversed, base `parts`: then those that are neighbours at a
        level are one step of it, and its sequences are a view.

        Shapes   returns (time, slice * batch, …), (slice * batch,)
        """
        time, batch = x.shape[:2]
        times = len(self.levels) - 1
        count = self.parts**times
        full = lengths is None and time > 0 and time % count == 0
        if lengths is None:
            lengths = torch.full((batch,), time, device=x.device)
        lengths = sequence.check_lengths(torch.as_tensor(lengths, device=x.device), time, batch)
        filled = lengths.clamp(max=count)
        bounds = torch.arange(count + 1, device=x.device)[:, None].minimum(filled) * lengths // filled.clamp(min=1)
        order = torch.arange(count, device=x.device).view((self.parts,) * times)
        order = order.permute(tuple(reversed(range(times)))).reshape(-1)
        start, end = bounds[order], bounds[order + 1]
        step = start + torch.arange(-(-time // count), device=x.device)[:, None, None]
        place = torch.where(step < end, step * batch + torch.arange(batch, device=x.device), 0)
        features = x.shape[2:]
        index = place.view(-1, *(1 for _ in features)).expand(-1, *features)
        cut = x.reshape(time * batch, *features).gather(0, index).view(len(place), count * batch, *features)
        return cut, None if full else (end - start).view(-1)

    def extra_repr(self) -> str:
        """The parts of a level."""
        return f"{self.parts} parts"


def sliced(make: Callable[[int, int], SequenceLayer], input_size: int, *, parts: int, times: int) -> Sliced:
    """A network that cuts sequences into `parts`, `times` over: `times` + 1 levels.

    SRNN(8, 2) of GRUs: `sliced(lambda level, size: Recurrent("gru", size, 50), 200, parts=8, times=2)`.

    make     the layer of a level, the lowest 0, and an input size
    Raises   UsageError for times below 0
    """
    if type(times) is not int or times < 0:
        raise UsageError(f"sequences are cut 0 times or more, not {times!r}")
    return Sliced(*upward(make, input_size, times + 1), parts=parts)
