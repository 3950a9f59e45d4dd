"""Padded batches with lengths, time-major: masks, reversal within each sequence, packed sequences."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from unrolled.errors import ShapeError


def mask(lengths: Tensor, time: int) -> Tensor:
    """True at the valid steps.

    Shapes   lengths (batch,); returns (time, batch)
    """
    return torch.arange(time, device=lengths.device)[:, None] < lengths[None, :]


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence backwards within its own length; padding stays where it is.

    Shapes   x (time, batch, …); lengths (batch,) or None for all of full length
    """
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)
    index = index.reshape(index.shape + (1,) * (x.dim() - 2)).expand(x.shape)
    return x.gather(0, index)


def reverse_resets(resets: Tensor, lengths: Tensor | None) -> Tensor:
    """The resets of the reversed sequence: a segment that begins at a step ends there when it is read backwards, so the
    state restarts one step later in reading order.

    Shapes   resets (time, batch), bool
    """
    flipped = reverse(resets, lengths)
    return torch.cat([torch.zeros_like(flipped[:1]), flipped[:-1]])


def readable(tensor: Tensor) -> bool:
    """Whether its values can be looked at: not while torch compiles, on meta, nor where vmap stands for many."""
    if torch.compiler.is_compiling() or tensor.is_meta:
        return False
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return False
        tensor = functorch.get_unwrapped(tensor)
    return True


def check_lengths(lengths: Tensor, time: int, batch: int) -> Tensor:
    """The lengths as int64.

    Raises   ShapeError unless there is one whole number from 0 to time for each row
    """
    if lengths.shape != (batch,):
        raise ShapeError(f"lengths is {tuple(lengths.shape)}; expected (batch,), here ({batch},)")
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ShapeError(f"lengths counts steps and is of whole numbers, not {lengths.dtype}")
    if readable(lengths) and batch:
        shortest, longest = (int(end) for end in lengths.aminmax())
        if shortest < 0 or longest > time:
            raise ShapeError(f"lengths run from {shortest} to {longest}; the sequences have {time} steps")
    return lengths.to(torch.int64)


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """The padded batch of a packed one, rows in the caller's order.

    Shapes   returns x (time, batch, feature), lengths (batch,)
    """
    return pad_packed_sequence(packed)


def pack_like(x: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    """`x` packed in the order of `like`."""
    order = like.sorted_indices
    if order is None:
        return pack_padded_sequence(x, lengths.cpu())
    packed = pack_padded_sequence(x[:, order], lengths.cpu()[order.cpu()])
    return PackedSequence(packed.data, packed.batch_sizes, order, like.unsorted_indices)
