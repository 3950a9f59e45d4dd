"""States as named tuples, one field a state of the cell, so that `state.c` is the memory wherever it comes from."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CLOCK = "clock"
_TYPES: dict[tuple[str, ...], Any] = {}


def define_state(fields: tuple[str, ...]) -> None:
    """Make the named tuple of these fields, once a process; its values pickle by the fields."""
    if fields not in _TYPES:
        factory: Any = namedtuple
        made = factory("State", fields)
        made.__reduce__ = lambda self: (_restored, (fields, tuple(self)))
        _TYPES[fields] = made


def make_state(fields: tuple[str, ...], values: tuple[Tensor, ...]) -> Any:
    """The state with these fields, which `define_state` has made."""
    return _TYPES[fields](*values)


def detached(state: Any) -> Any:
    """The same state without its history, whatever tuples it is made of; None stays None."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.detach()
    parts = [detached(part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def tensors_of(state: Any) -> list[Tensor]:
    """The tensors of a state in order, whatever tuples it is made of."""
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in tensors_of(part)]


def rebuilt(like: Any, tensors: Iterator[Tensor]) -> Any:
    """The state that is made like another one of these tensors."""
    if isinstance(like, Tensor):
        return next(tensors)
    parts = [rebuilt(part, tensors) for part in like]
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def _restored(fields: tuple[str, ...], values: tuple[Tensor, ...]) -> Any:
    define_state(fields)
    return make_state(fields, values)


# A state that was saved opens under torch.load's `weights_only`: it is rebuilt from names and tensors alone.
torch.serialization.add_safe_globals([_restored])
