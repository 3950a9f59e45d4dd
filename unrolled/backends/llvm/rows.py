"""Which rows of the batch a kernel runs together, in which order, and where their steps stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a call as a kernel has them: share by share, in each the longest first.

    time, batch   of the caller's sequences
    reverse       whether each row is read from its last step to its first
    order         the caller's number of each row
    lengths       the steps of each row
    bounds        where the shares begin, and the end
    ragged        whether the rows differ in length, or are shorter than the time
    """

    time: int
    batch: int
    reverse: bool
    order: Words
    lengths: Words
    bounds: Words
    ragged: bool

    @property
    def shares(self) -> int:
        """The number of shares."""
        return len(self.bounds) - 1

    @cached_property
    def first(self) -> Words:
        """Where each row's first step that is read stands in (time, batch)."""
        return self.order + (self.lengths - 1) * self.batch if self.reverse else self.order

    @property
    def delta(self) -> int:
        """From a row's step to its next that is read."""
        return -self.batch if self.reverse else self.batch

    @cached_property
    def block(self) -> Words:
        """What kernels read of the rows, one array after the other: see `places`."""
        parts = {
            "first": self.first,
            "rows": self.order,
            "lengths": self.lengths,
            "identity": np.arange(self.batch, dtype=np.int64),
            "kept first": self.starts[:-1] if self.ragged else self.first,
            "bounds": self.bounds,
        }
        block = np.zeros(len(parts) * (self.batch + 1), dtype=np.int64)
        for name, start in places(self.batch).items():
            block[start : start + len(parts[name])] = parts[name]
        return block

    @cached_property
    def address(self) -> int:
        """Where the block stands."""
        return int(self.block.ctypes.data)

    @property
    def kept_delta(self) -> int:
        """From a row's step to its next, among those that are kept for the products after the loop."""
        return 1 if self.ragged else self.delta

    @cached_property
    def positions(self) -> Words:
        """Of each row of the caller its number here."""
        found = np.empty_like(self.order)
        found[self.order] = np.arange(self.batch, dtype=np.int64)
        return found

    @cached_property
    def last(self) -> Words:
        """Where the last step that is read of each of the caller's rows stands in (time, batch); 0 if it has none."""
        places = self.first + (self.lengths - 1) * self.delta
        return np.where(self.lengths > 0, places, 0)[self.positions]

    @cached_property
    def empty(self) -> Words:
        """The caller's rows that have no step."""
        return np.sort(self.order[self.lengths == 0])

    @cached_property
    def starts(self) -> Words:
        """Where the rows begin if their valid steps stand one after the other, and the end."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    @cached_property
    def steps(self) -> Words:
        """For each valid step, row after row, its place in (time, batch)."""
        counts = self.lengths
        within = np.arange(int(self.starts[-1])) - np.repeat(self.starts[:-1], counts)
        return np.repeat(self.first, counts) + within * self.delta

    @property
    def longest(self) -> int:
        """The steps of the longest row."""
        return int(self.lengths.max(initial=0))


def places(batch: int) -> dict[str, int]:
    """Where in the block of so many rows each array begins, by the names of the words that point there."""
    names = ("first", "rows", "lengths", "identity", "kept first", "bounds")
    return {name: number * (batch + 1) for number, name in enumerate(names)}


@lru_cache(maxsize=64)
def dense_rows(time: int, batch: int, reverse: bool, shares: int) -> Rows:
    """Rows that all have every step."""
    bounds = np.array([batch * share // shares for share in range(shares + 1)], dtype=np.int64)
    lengths = np.full(batch, time, dtype=np.int64)
    return Rows(time, batch, reverse, np.arange(batch, dtype=np.int64), lengths, bounds, ragged=False)


def ragged_rows(time: int, lengths: Sequence[int] | Words, reverse: bool, shares: int) -> Rows:
    """Rows of these lengths, dealt to the shares in turn, so that each has long and short ones."""
    given = np.asarray(lengths, dtype=np.int64)
    longest_first = np.argsort(-given, kind="stable")
    order = np.concatenate([longest_first[share::shares] for share in range(shares)])
    counts = [len(longest_first[share::shares]) for share in range(shares)]
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, dtype=np.int64))])
    return Rows(time, len(given), reverse, order, given[order], bounds, ragged=True)
