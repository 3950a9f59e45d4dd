"""Sliced networks, Grid LSTMs and Tree-LSTMs: reading, grids and trees; what slicing saves is a part of its own."""

from __future__ import annotations

from collections.abc import Iterator

from shown import grids, reading, trees
from shown.showing import Settings, Shown


def run(settings: Settings) -> Iterator[Shown]:
    """The three kinds in turn."""
    yield from reading.run(settings)
    yield from grids.run(settings)
    yield from trees.run(settings)
