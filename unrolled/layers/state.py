"""States as named tuples, one field a state of the cell, so that `state.c` is the memory wherever it comes from."""

from __future__ import annotations

from collections import namedtuple
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


def _restored(fields: tuple[str, ...], values: tuple[Tensor, ...]) -> Any:
    define_state(fields)
    return make_state(fields, values)


# A state that was saved opens under torch.load's `weights_only`: it is rebuilt from names and tensors alone.
torch.serialization.add_safe_globals([_restored])
