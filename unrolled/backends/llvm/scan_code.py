"""A step's compiled code, the words that it is told of a call, and the tiles and weights that it wants."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.amx import ROWS, MatrixTile
from unrolled.backends.llvm.compiler import compiled
from unrolled.backends.llvm.driver import ScanWriter
from unrolled.backends.llvm.machine import Machine
from unrolled.backends.llvm.phases import Block, Pass, Step
from unrolled.backends.llvm.tiles import FETCHING_ROWS, Tile
from unrolled.backends.llvm.variant import Variant, bordered_of, panels_of, rows_of
from unrolled.backends.llvm.work import Buffer, Index

# Partial sums of each accumulator at a batch of one; half as many at two.
MOST_SPLITS = 4


def splits_of(batch: int) -> int:
    """Partial sums where so few rows leave too few accumulators to keep the processor busy."""
    return max(1, MOST_SPLITS // batch) if batch <= 2 else 1


def ways(count: int, most: int) -> set[int]:
    """The sizes of the parts when so many things are split evenly into as few parts as have at most `most`."""
    parts = -(-count // most)
    return {count // parts, -(-count // parts)}


@dataclass
class PassTiles:
    """The tiles of one pass, found when a call first wants them: their addresses by vectors of units and by rows."""

    each: Pass
    panels: int
    rows: int
    table: array[int]

    def place(self, blocks: int, rows: int) -> int:
        """The place in the table of so many vectors of units and rows."""
        return blocks * (self.rows + 1) + rows


class ScanCode:
    """The code of a step in one variant."""

    def __init__(self, step: Step, variant: Variant, machine: Machine):
        self.step = step
        self.variant = variant
        self.machine = machine
        writer = ScanWriter(step, variant, machine)
        name = "reverse" if variant.reverse else "forward"
        library = compiled(f"{name} kernel", f"{variant} {step.text}", writer.module, machine)
        self.address = library.address("kernel")
        text = ctypes.string_at(library.address("words")).decode()
        self.words: tuple[str, ...] = tuple(text.split("\n")) if text else ()
        self._tiles: dict[tuple[int, bool], list[PassTiles]] = {}

    @property
    def passes(self) -> list[tuple[Block, Pass]]:
        """All passes, with their blocks."""
        return self.step.passes

    @cached_property
    def buffers(self) -> list[Buffer]:
        """All buffers that the step reads or writes."""
        found = dict.fromkeys(self.step.places.values())
        for buffers in self.step.numbers.values():
            found.update(dict.fromkeys(buffers))
        for phase in self.step.phases:
            for block in phase.blocks:
                found.update(dict.fromkeys(buffer for _, buffer in (*block.stores, *block.partials)))
        return list(found)

    def of_index(self, index: Index) -> list[Buffer]:
        """The buffers that are found in one way."""
        return [buffer for buffer in self.buffers if buffer.index is index]

    def weight_bytes(self, sizes: Mapping[str, int]) -> int:
        """The packed weights that a step reads."""
        item = narrow.WEIGHT_BYTES if self.variant.weights else 8 if self.variant.double else 4
        total = 0
        for block, each in self.passes:
            for segment in each.segments:
                length = sum(sizes[axis] for axis in segment.widths)
                total += sizes.get(block.axis, 1) * length * len(segment.slots) * item
        return total

    def tiles(
        self, sizes: Mapping[str, int], counts: Iterable[int], splits: int, fetching: bool = False
    ) -> list[PassTiles]:
        """The tables of tiles, with those in them that a call needs: `counts` are numbers of rows that run together."""
        # Threads that come here at once fill the same tables.
        tables = self._tiles.setdefault((splits, fetching), [self._empty(block, each) for block, each in self.passes])
        lanes = self.machine.lanes(self.variant.double)
        counts = set(counts)
        for (block, each), tiles in zip(self.passes, tables, strict=True):
            vectors = -(-sizes[block.axis] // lanes) if block.axis else 1
            rows = set().union(*(ways(count, tiles.rows) for count in counts if count))
            for blocks in ways(vectors, tiles.panels):
                for count in rows:
                    place = tiles.place(blocks, count)
                    if not tiles.table[place]:
                        tiles.table[place] = self._tile(each, blocks, count, splits, fetching).address(self.machine)
        return tables

    def _empty(self, block: Block, each: Pass) -> PassTiles:
        panels, rows = panels_of(block), rows_of(block, self.machine, self.variant.weights)
        return PassTiles(each, panels, rows, array("q", bytes(8 * (panels + 1) * (rows + 1))))

    def _tile(self, each: Pass, blocks: int, rows: int, splits: int, fetching: bool) -> Tile | MatrixTile:
        slots = tuple(segment.slots for segment in each.segments)
        if self.variant.weights == narrow.MATRIX:
            return MatrixTile(slots, len(each.accumulators), blocks, -(-rows // ROWS) * ROWS)
        double, weights = self.variant.double, self.variant.weights
        fetching = fetching and rows >= FETCHING_ROWS
        tile = Tile(slots, len(each.accumulators), blocks, rows, splits, double, weights, fetching, bordered_of(each))
        room = 24 if self.machine.registers == 32 else 12
        batch = MOST_SPLITS // splits  # not the rows of this tile: the same sums for any share of the batch
        while tile.splits > 1 and tile.splits * batch * blocks * tile.count > room:
            tile = replace(tile, splits=tile.splits // 2)
        return tile
