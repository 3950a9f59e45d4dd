"""What every layer over sequences has in common: the edges, where batches are packed, ragged or batch-first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled import sequence
from unrolled.errors import ShapeError, UsageError
from unrolled.layers.given import check_no_lengths, check_tensor

if TYPE_CHECKING:
    from unrolled.backends.llvm.stepping import Frozen
    from unrolled.backends.llvm.stream import Stream


def like(layer: nn.Module) -> dict[str, Any]:
    """Device and type of a layer's values, as torch's constructors take them: what is built around it has the same."""
    first = next(chain(layer.parameters(), layer.buffers()), torch.empty(0))
    return {"device": first.device, "dtype": first.dtype}


class SequenceLayer(nn.Module):
    """A module that maps a batch of sequences to another and carries a state.

    `forward` brings the batch into the inner form, time-major with lengths, and back; `run` does the work.
    """

    input_size: int
    output_size: int

    def __init__(self, batch_first: bool = False):
        super().__init__()
        self.batch_first = batch_first

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: Any = None,
        lengths: Tensor | Sequence[int] | None = None,
        resets: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """Run over a batch of sequences.

        Shapes   x (time, batch, input), or (batch, time, input) if batch_first, or a PackedSequence; state as this
                 layer returns it, its initial state if None; lengths (batch,) valid steps, in any order, 0 allowed;
                 resets (time, batch), or (batch, time) if batch_first, true where a step begins anew
                 returns y like x with the layer's output axis, zero in the padding, and the state after each row's
                 last valid step
        Raises   ShapeError when something does not fit, in words
        """
        check_no_lengths(state)
        if resets is not None:
            check_tensor("resets", resets)
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ShapeError("a PackedSequence has lengths of its own; leave out lengths")
            padded, lengths = sequence.unpack(x)
            lengths = lengths.to(padded.device)
            self._check_resets(resets, *padded.shape[:2])
            y, *rest = self.run(padded, state, lengths, resets, **more)
            return (sequence.pack_like(y, lengths, x), *rest)
        if isinstance(x, tuple):
            raise ShapeError("x is a tuple; a layer returns y and its state: give y alone, or join layers by Stacked")
        check_tensor("x", x)
        if x.is_floating_point() and x.dim() != 3:
            raise ShapeError(f"x has {x.dim()} axes; expected 3, {self._order()} and input")
        if not x.is_floating_point() and x.dim() != 2:
            raise ShapeError(f"x of whole numbers stands for one-hot vectors: expected 2 axes, {self._order()}")
        if self.batch_first:
            x = x.transpose(0, 1)
            resets = None if resets is None else resets.transpose(0, 1)
            more = {name: self._turn(value) for name, value in more.items()}
        time, batch = x.shape[:2]
        if lengths is not None:
            lengths = sequence.check_lengths(torch.as_tensor(lengths, device=x.device), time, batch)
        self._check_resets(resets, time, batch)
        resets = None if resets is None else resets.to(x.device)
        y, *rest = self.run(x, state, lengths, resets, **more)
        rest = [self._turn(value) if index > 0 else value for index, value in enumerate(rest)]
        return (y.transpose(0, 1) if self.batch_first else y, *rest)

    def run(self, x: Tensor, state: Any, lengths: Tensor | None, resets: Tensor | None, **more: Any) -> tuple[Any, ...]:
        """The layer's work on a time-major batch; returns y, the state, and what was asked for besides."""
        raise NotImplementedError

    @property
    def further_inputs(self) -> dict[str, int]:
        """What the layer reads besides x: the name of each input, and its size a step."""
        return {}

    @property
    def backward_size(self) -> int:
        """How many of the outputs, the last ones, come of reading backwards: all was read at their first step."""
        return self.output_size if getattr(self, "reverse", False) else 0

    def initial_state(self, batch: int) -> Any:
        """The state that sequences begin from."""
        raise NotImplementedError

    def stream(self, batch: int = 1, threads: int | None = None) -> Stream:
        """A frozen copy of this layer that takes one step at a time: y = stream.step(x).

        It begins at the initial state, computes on the CPU, and does not see later changes of the weights.

        threads   that share a step; None chooses by the size of the weights, of which each thread keeps a part near
        Raises   UsageError for a layer that reads backwards or drops units, or where no kernels can be compiled
        """
        from unrolled.backends.llvm.stream import Stream

        return Stream(self._frozen(), batch, threads=threads)

    def _frozen(self, taps: tuple[str, ...] = ()) -> list[Frozen]:
        """The layer's weights, one entry for each cell on the way from x to y; the last hands out `taps`."""
        raise UsageError(f"{type(self).__name__} cannot be streamed: Recurrent can, and Stacked of such")

    @staticmethod
    def _check_resets(resets: Tensor | None, time: int, batch: int) -> None:
        if resets is not None and resets.shape != (time, batch):
            raise ShapeError(f"resets is {tuple(resets.shape)}; expected (time, batch), here ({time}, {batch})")

    def _order(self) -> str:
        return "batch, time" if self.batch_first else "time, batch"

    def _turn(self, value: Any) -> Any:
        if not self.batch_first:
            return value
        if isinstance(value, dict):
            return {name: self._turn(inner) for name, inner in value.items()}
        return value.transpose(0, 1) if isinstance(value, Tensor) else value
