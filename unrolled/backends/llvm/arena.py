"""Memory that kernels work in, kept from call to call: fresh pages cost as much as the work in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

ALIGNMENT = 64
_SPARE = 4

_lock = threading.Lock()
_free: list[Tensor] = []


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


class Arena:
    """A stretch of memory that is handed out piece by piece."""

    def __init__(self, size: int):
        self.memory = _take(size + ALIGNMENT)
        start = self.memory.data_ptr()
        self.offset = -start % ALIGNMENT

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor, with whatever stood there before."""
        size = dtype.itemsize
        for axis in shape:
            size *= axis
        piece = self.memory[self.offset : self.offset + size]
        self.offset += -(-size // ALIGNMENT) * ALIGNMENT
        return piece.view(dtype).view(shape)


def _take(size: int) -> Tensor:
    with _lock:
        fitting = [memory for memory in _free if memory.numel() >= size]
        if fitting:
            smallest = min(fitting, key=Tensor.numel)
            _free[:] = [memory for memory in _free if memory is not smallest]
            return smallest
    return torch.empty(size, dtype=torch.uint8)


@contextmanager
def arena(size: int) -> Iterator[Arena]:
    """Memory for one call."""
    given = Arena(size)
    try:
        yield given
    finally:
        with _lock:
            _free.append(given.memory)
            if len(_free) > _SPARE:
                _free.sort(key=Tensor.numel, reverse=True)
                del _free[_SPARE:]
