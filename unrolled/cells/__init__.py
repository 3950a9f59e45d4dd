"""The cells of the literature: one paper, one file. Each file holds equations only and is found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from unrolled.errors import UsageError, did_you_mean
from unrolled.language import Cell


@cache
def all_cells() -> dict[str, Cell]:
    """Every cell of the package by name, in alphabetical order."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for value in vars(loaded).values():
            if isinstance(value, Cell):
                found[value.name] = value
    return dict(sorted(found.items()))


def get(name: str) -> Cell:
    """The cell of this name; hyphens and underscores are the same.

    Raises   UsageError, with the nearest name, when there is none
    """
    cells = all_cells()
    wanted = name.replace("_", "-")
    if wanted not in cells:
        raise UsageError(f"there is no cell {name!r}.{did_you_mean(wanted, cells)} `unrolled cells` lists them all.")
    return cells[wanted]
