"""Memory that kernels work in, kept from call to call: fresh pages cost as much as the work in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

ALIGNMENT = 64
_SPARE = 4

_lock = threading.Lock()
_free: list[Tensor] = []


def _renew() -> None:
    """In a forked child, where another thread may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Arena:
    """A stretch of memory, addressed by distances from its beginning."""

    def __init__(self, memory: Tensor):
        self.memory = memory
        start = memory.data_ptr()
        self.shift = -start % ALIGNMENT
        self.address = start + self.shift

    def tensor(self, distance: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor at a distance, with whatever stands there."""
        size = dtype.itemsize
        for axis in shape:
            size *= axis
        start = self.shift + distance
        return self.memory[start : start + size].view(dtype).view(shape)


def _take(size: int) -> Tensor:
    with _lock:
        fitting = [place for place, memory in enumerate(_free) if memory.numel() >= size]
        if fitting:
            return _free.pop(min(fitting, key=lambda place: _free[place].numel()))
    return torch.empty(size, dtype=torch.uint8)


@contextmanager
def arena(size: int) -> Iterator[Arena]:
    """Memory for one call."""
    memory = _take(size + ALIGNMENT)
    try:
        yield Arena(memory)
    finally:
        with _lock:
            _free.append(memory)
            if len(_free) > _SPARE:
                _free.sort(key=Tensor.numel)
                del _free[0]
