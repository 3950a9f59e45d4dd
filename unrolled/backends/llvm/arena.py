"""Memory that kernels work in, kept from call to call: fresh pages cost as much as the work in them."""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from unrolled.backends.llvm.layout import ALIGNMENT

_SPARE = 4
# Of the memory that is kept for later calls, and again of that which was given and may be recycled.
_MOST_BYTES = 2**30

# A collection of garbage, or a signal, may run a layer while this thread holds it.
_lock = threading.RLock()
_free: list[Tensor] = []


def _renew() -> None:
    """In a forked child, where another thread may have held the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Arena:
    """A stretch of memory for one call, addressed by distances from its beginning; as a context it is given back."""

    def __init__(self, size: int):
        self._memory = _take(size + ALIGNMENT)
        self._storage = self._memory.untyped_storage()
        start = self._memory.data_ptr()
        self._shift = -start % ALIGNMENT
        self.address = start + self._shift

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _free.append(self._memory)
            _free.sort(key=Tensor.numel)
            del _free[:-_SPARE]
            while sum(map(Tensor.numel, _free)) > _MOST_BYTES:
                del _free[-1]

    def tensor(self, distance: int, rows: int, units: int, width: int, dtype: torch.dtype) -> Tensor:
        """The units of each row at a distance, with whatever stands there; `width` numbers from row to row."""
        start = (self._shift + distance) // dtype.itemsize
        return torch.empty(0, dtype=dtype, device="cpu").set_(self._storage, start, (rows, units), (width, 1))


def _take(size: int) -> Tensor:
    with _lock:
        for place, memory in enumerate(_free):  # the smallest first
            if memory.numel() >= size:
                return _free.pop(place)
    return torch.empty(size, dtype=torch.uint8, device="cpu")


# Below this size the allocator keeps pages by itself.
_LARGE = 2**20
_PATIENCE = 64

# When it was last given, the memory, and how many hold it while nobody else does.
_given: list[tuple[int, Tensor, tuple[int, int]]] = []
_requests = 0


def _holders(memory: Tensor, count_of: Callable[[int], int]) -> tuple[int, int]:
    """How many hold the memory: tensors, and those who have asked for its storage."""
    storage = memory.untyped_storage()
    return count_of(storage._cdata), sys.getrefcount(storage)


def _is_own(memory: Tensor) -> bool:
    """Whether the memory is still what was made here: a worker process moves what it hands on to shared memory."""
    storage = memory.untyped_storage()
    return not storage.is_shared() and storage.nbytes() == memory.numel()


def recycled(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty tensor, if it is large in the memory of one that was given before and that nobody holds any more."""
    global _requests
    size = dtype.itemsize * math.prod(shape)
    count_of = getattr(torch._C, "_storage_Use_Count", None)
    if size < _LARGE or count_of is None:
        return torch.empty(shape, dtype=dtype, device="cpu")
    with _lock:
        _requests += 1
        for place, (_, memory, alone) in enumerate(_given):
            if memory.numel() == size and _holders(memory, count_of) == alone and _is_own(memory):
                del _given[place]
                break
        else:
            memory = torch.empty(size, dtype=torch.uint8, device="cpu")
            alone = _holders(memory, count_of)
        _given.append((_requests, memory, alone))
        while _given and (_given[0][0] < _requests - _PATIENCE or sum(m.numel() for _, m, _ in _given) > _MOST_BYTES):
            del _given[0]
        # No view: an operation in place on what a scan gives is to be allowed.
        return torch.empty(0, dtype=dtype, device="cpu").set_(memory.untyped_storage(), 0, shape)  # type: ignore[call-overload, no-any-return]
