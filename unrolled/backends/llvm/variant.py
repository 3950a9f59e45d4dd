"""The shape of the code of a scan: its variants, the size of its tiles, the names of the words for its products."""

from __future__ import annotations

from dataclasses import dataclass

from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.machine import Machine
from unrolled.backends.llvm.phases import Block, Pass
from unrolled.backends.llvm.ranges import RANGED
from unrolled.backends.llvm.tiles import most_rows

# Vectors of sums that stay in the first-level cache beside what tiles read.
SUMS_AT_ONCE = 192


@dataclass(frozen=True)
class Variant:
    """What a kernel's code depends on besides its step.

    reverse  a reverse loop
    double   float64
    whole    every axis is a multiple of the vector
    resets   states may begin anew within a sequence
    weights  how products are taken that are not in the type of the values: `narrow.WIDENED` or `narrow.MATRIX`
    """

    reverse: bool = False
    double: bool = False
    whole: bool = False
    resets: bool = False
    weights: str = ""


def panels_of(block: Block) -> int:
    """Vectors of units that the accumulators of a group of columns have each."""
    most = max((len(each.accumulators) for each in block.passes), default=4)
    return max(1, 4 // most)


def rows_of(block: Block, machine: Machine, weights: str = "") -> int:
    """The most rows of a tile."""
    if weights == narrow.MATRIX:
        return narrow.MOST_ROWS
    most = max((len(each.accumulators) for each in block.passes), default=1)
    return most_rows(machine, most * panels_of(block))


def rows_at_once(block: Block, machine: Machine, weights: str = "") -> int:
    """The most rows whose sums tiles leave before the block's code goes on with them: each call of that costs time."""
    rows, sums = rows_of(block, machine, weights), sum(len(each.accumulators) for each in block.passes)
    if weights == narrow.MATRIX or not sums:
        return rows
    return rows * max(1, SUMS_AT_ONCE // (rows * sums * panels_of(block)))


def bordered_of(each: Pass, weights: str = "") -> tuple[int, ...]:
    """The segments in which a tile heeds the terms that each unit reads; matrix registers cannot."""
    if weights == narrow.MATRIX:
        return ()
    return tuple(index for index, segment in enumerate(each.segments) if segment.structure.name in RANGED)


def weights_word(number: int, segment: int) -> str:
    """The name of the word that holds the packed weights of a segment of the pass of this number."""
    return f"weights {number} {segment}"


def ranges_word(number: int, segment: int) -> str:
    """The name of the word for the terms of the product that each group of columns reads."""
    return f"ranges {number} {segment}"


def borders_word(number: int, segment: int) -> str:
    """The name of the word for the terms that each unit of a vector reads."""
    return f"borders {number} {segment}"
