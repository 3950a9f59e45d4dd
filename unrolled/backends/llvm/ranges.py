"""The terms that units read of a product whose map has a structure, and where those of a group of columns differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unrolled.ir.structure import Structure

# The structures of which each group of columns reads a stretch alone.
RANGED = ("block_diagonal", "block_triangular")
# Of a group of columns: the terms that one of its units reads, from the first to the end; and, counted from the first
# of these, those that all of its units read.
RANGE_WORDS = 4


@dataclass(frozen=True)
class Ranges:
    """Which terms the units of a product read.

    transposed   the product with the transposed map
    units        of the result, and `terms` of the operand
    """

    structure: Structure
    transposed: bool
    units: int
    terms: int

    def of_unit(self, unit: int) -> tuple[int, int]:
        """The terms that a unit reads."""
        if self.structure.name == "block_diagonal":
            heads = self.structure.number()
            head, other = unit // (self.units // heads), self.terms // heads
            return head * other, (head + 1) * other
        width = self.units // len(self.structure.periods())
        module = unit // width
        return (0, (module + 1) * width) if self.transposed else (module * width, self.terms)

    def tables(self, lanes: int, panels: int, item: int) -> tuple[NDArray[np.int64], NDArray[np.signedinteger]]:
        """For groups of at most `panels` vectors: the words of each group, and the borders of each vector.

        The borders of a vector are where the terms of each unit begin, counted as those that all units read, and how
        many they are: two vectors of whole numbers of `item` bytes.
        """
        vectors = -(-self.units // lanes)
        groups = -(-vectors // panels)
        words: list[int] = []
        borders = np.zeros((vectors, 2, lanes), np.int64)
        for group in range(groups):
            start, end = group * vectors // groups, (group + 1) * vectors // groups
            mine = [self.of_unit(unit) for unit in range(start * lanes, min(end * lanes, self.units))]
            low, high = mine[0][0], mine[-1][1]  # neither begin nor end goes back from unit to unit
            words += (low, high, *self._inner(mine, low))
            for number, (begin, stop) in enumerate(mine):
                borders[start + number // lanes, :, number % lanes] = begin - low, stop - begin
        return np.array(words, np.int64), borders.astype(np.int64 if item == 8 else np.int32)

    @staticmethod
    def _inner(mine: Sequence[tuple[int, int]], low: int) -> tuple[int, int]:
        begin, end = mine[-1][0] - low, mine[0][1] - low
        return (begin, end) if begin < end else (0, 0)
