"""The words of a kernel's description, for all calls of one shape: numbers, and distances from the tensors of a call.

A call costs little in Python, then: it names its tensors, and all words are one sum of two arrays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.group import Launch
from unrolled.backends.llvm.packing import PACKED_WORDS, Packer
from unrolled.backends.llvm.ranges import RANGED, Ranges
from unrolled.backends.llvm.rows import Words, places
from unrolled.backends.llvm.scan_code import ScanCode
from unrolled.backends.llvm.schedule import NEAR_BYTES
from unrolled.backends.llvm.variant import borders_word, panels_of, ranges_word, weights_word
from unrolled.backends.llvm.work import Index
from unrolled.ir.graph import Node

if TYPE_CHECKING:
    from torch import Tensor

# Bytes of a cache line, on which each piece of memory begins.
ALIGNMENT = 64
NOWHERE, ARENA, ROWS = "", "the arena", "the rows"


# Of a map: the tensor that it stands in, the bytes before it, and those from unit to unit of its output and its input.
MapPlace = Callable[[Node], tuple[str, int, tuple[int, int]]]


def rows_apart(value: Tensor) -> Tensor:
    """The tensor, copied unless its rows, over time and batch, lie at even steps."""
    even = value.stride(-1) == 1 or value.shape[-1] == 1
    if value.dim() == 3 and value.shape[0] > 1 and value.shape[1] > 1:
        even = even and value.stride(0) == value.shape[1] * value.stride(1)
    return value if even else value.contiguous()


def row_stride(value: Tensor) -> int:
    """Bytes from row to row."""
    if value.dim() == 3 and value.shape[1] == 1:
        return value.stride(0) * value.element_size()
    return value.stride(-2) * value.element_size()


def address_of(words: Words) -> int:
    """The address of an array; numpy's other way to ask for it makes an object of ctypes."""
    address: int = words.__array_interface__["data"][0]
    return address


class Addressed(Protocol):
    """A tensor, or an array that says its address as tensors do."""

    def data_ptr(self) -> int:
        """The address of the first number."""


class Layout:
    """Where each word of a kernel's description comes from.

    sources   the names of a call's tensors, in the order in which it gives their addresses
    size      bytes of the memory that a call works in
    dtype     of the numbers, torch's or numpy's
    """

    def __init__(self, code: ScanCode, sizes: Mapping[str, int], dtype: Any, batch: int, shares: int):
        self.code = code
        self.sizes = sizes
        self.dtype = dtype
        self.item = dtype.itemsize
        self.batch = batch
        self.shares = shares
        self.size = 0
        self.sources: dict[str, int] = {NOWHERE: 0, ARENA: 1, ROWS: 2}
        self._words: dict[str, tuple[int, int]] = {}
        self._maps: list[tuple[int, int]] = []
        self.carried: dict[str, tuple[int, int]] = {}
        self._kept: list[object] = []
        self._threads = 1
        self._set_rows()
        self._set_scratch()

    # What is told of a call

    def number(self, name: str, value: int) -> None:
        """A word that is a number."""
        self._set(name, (value, 0))

    def address(self, name: str, source: str, distance: int = 0) -> None:
        """A word that is an address: so many bytes from where a tensor of the call begins."""
        self._set(name, (distance, self.source(source)))

    def _set(self, name: str, word: tuple[int, int]) -> None:
        known = self._words.get(name, word)
        # What the layout has put in its own memory may be laid elsewhere.
        if known != word and known[1] != self.sources[ARENA]:
            raise AssertionError(f"two meanings of the word {name!r}")
        self._words[name] = word

    def source(self, name: str) -> int:
        """The place of a tensor's address among those that a call gives."""
        return self.sources.setdefault(name, len(self.sources))

    def rows_of(self, name: str, source: str, stride: int, distance: int = 0) -> None:
        """A buffer whose rows stand in a tensor, so many bytes apart."""
        self.address(f"{name}.pointer", source, distance)
        self.number(f"{name}.stride", stride)

    def reserve(self, size: int) -> int:
        """Room in the memory of a call; returns where it begins."""
        start = self.size
        self.size += -(-size // ALIGNMENT) * ALIGNMENT
        return start

    def _set_rows(self) -> None:
        for name, place in places(self.batch).items():
            self.address(name, ROWS, 8 * place)
        self.number("shares", self.shares)
        self.number("batch", self.batch)
        for axis, size in self.sizes.items():
            self.number(f"size {axis}", size)

    def width(self, axis: str) -> int:
        """The units of an axis, filled up to whole vectors."""
        if not axis:
            return 1
        lanes = self.code.machine.lanes(self.code.variant.double)
        return -(-self.sizes[axis] // lanes) * lanes

    def _set_scratch(self) -> None:
        for buffer in self.code.of_index(Index.SCRATCH):
            stride = self.width(buffer.axis) * self.item
            self.rows_of(buffer.name, ARENA, stride, self.reserve(self.batch * stride))
        for buffer in self.code.of_index(Index.CARRIED):
            stride = self.width(buffer.axis) * self.item
            halves = self.reserve(self.batch * stride), self.reserve(self.batch * stride)
            self.carried[buffer.name] = halves
            self.address(f"{buffer.name}.even", ARENA, halves[0])
            self.address(f"{buffer.name}.odd", ARENA, halves[1])
            self.number(f"{buffer.name}.stride", stride)
        if self.matrix:
            for (_, widths), number in narrow.operands_of(self.code.step).items():
                stride = narrow.row_bytes(narrow.filled(self.sizes, widths))
                # A tile of the last rows reads past them.
                place = self.reserve((self.batch + narrow.MOST_ROWS) * stride)
                self.rows_of(narrow.ready_word(number), ARENA, stride, place)
        self.barriers = self.reserve(ALIGNMENT * self.shares)
        self.address("barriers", ARENA, self.barriers)

    @property
    def matrix(self) -> bool:
        """Whether products are taken in matrix registers."""
        return self.code.variant.weights == narrow.MATRIX

    def set_tiles(self, counts: Iterable[int], splits: int, members: int) -> None:
        """Find the tiles for these numbers of rows; `members` threads have their share of the weights each.

        Weights that stay in the second level of the cache are not fetched ahead: that would hold up what is read.
        """
        fetching = self.code.weight_bytes(self.sizes) // members > NEAR_BYTES
        for number, tiles in enumerate(self.code.tiles(self.sizes, counts, splits, fetching)):
            self.number(f"tiles {number}", tiles.table.buffer_info()[0])

    def set_weights(self, place: MapPlace, threads: int) -> None:
        """Make room for the packed weights, and say where the maps stand that are packed."""
        self._threads = threads
        for number, (block, each) in enumerate(self.code.passes):
            for index, segment in enumerate(each.segments):
                lengths = [
                    narrow.filled(self.sizes, [axis]) if self.matrix else self.sizes[axis] for axis in segment.widths
                ]
                length = sum(lengths)
                item = narrow.WEIGHT_BYTES if self.code.variant.weights else self.item
                packed = self.reserve(self.width(block.axis) * length * len(segment.slots) * item)
                self.address(weights_word(number, index), ARENA, packed)
                for slot, products in enumerate(segment.maps):
                    begin = 0
                    for product, width in zip(products, lengths, strict=True):
                        source, distance, (unit, term) = place(product.args[0])
                        units, terms = (self.sizes[each] for each in product.args[0].shape)
                        if product.op == "transposed_product":
                            unit, term, units, terms = term, unit, terms, units
                        self._maps += [(distance, self.source(source)), (unit, 0), (term, 0), (units, 0), (terms, 0)]
                        self._maps += [(packed, self.source(ARENA)), (len(segment.slots), 0), (slot, 0), (length, 0)]
                        self._maps += [(begin, 0), (panels_of(block), 0)]
                        begin += width
                self._set_ranges(number, index)

    def _set_ranges(self, number: int, index: int) -> None:
        """Which terms of a product with a structure each group of columns reads."""
        block, each = self.code.passes[number]
        segment = each.segments[index]
        structure, product = segment.structure, segment.maps[0][0]
        if structure.name not in RANGED:
            return
        lanes = self.code.machine.lanes(self.code.variant.double)
        units, terms = self.sizes[block.axis], self.sizes[segment.widths[0]]
        ranges = Ranges(structure, product.op == "transposed_product", units, terms)
        words, borders = ranges.tables(lanes, panels_of(block), self.item)
        self._kept += [words, borders]
        self.number(ranges_word(number, index), int(words.ctypes.data))
        self.number(borders_word(number, index), int(borders.ctypes.data))

    # A call

    def finish(self) -> None:
        """Nothing more is added."""
        variant, machine = self.code.variant, self.code.machine
        rounded = bool(variant.weights)
        packer = narrow.MatrixPacker(machine) if self.matrix else Packer(variant.double, machine, rounded)
        self._packer = packer.address()
        words = [self._words[name] for name in self.code.words]
        # What the kernel is told, then what the packer is: of each map, how many there are, and where that stands.
        told = [*words, *self._maps, (len(self._maps) // PACKED_WORDS, 0), (8 * len(words), 0)]
        self._distances = np.array([distance for distance, _ in told], dtype=np.int64)
        self._origins = np.array([origin for _, origin in told], dtype=np.intp)
        self._named = list(self.sources)[3:]
        places = {name: index for index, name in enumerate(self.code.words)}
        self._start, self._stop = places["start"], places["stop"]
        self._lowest = places.get("kept lowest", -1)

    def launches(self, tensors: Mapping[str, Addressed], arena: int, rows: int) -> Launches:
        """The kernel for one call."""
        bases = [0, arena, rows, *(tensors[name].data_ptr() for name in self._named)]
        words = self._distances + np.array(bases, dtype=np.int64)[self._origins]
        return Launches(self, words, arena)


class Launches:
    """A kernel with the words of one call."""

    def __init__(self, layout: Layout, words: Words, arena: int):
        self.layout = layout
        self.arena = arena
        self.words = words
        self.place = address_of(words)
        words[-1] += self.place

    def pack(self) -> Launch:
        """The packing of the weights, which comes first."""
        return Launch(self.layout._packer, self.place + 8 * (len(self.words) - 2), self.layout._threads)

    def steps(self, start: int, stop: int, threads: int, lowest: int = 0) -> Launch:
        """The steps from `start` to below `stop`; what is kept of them begins at the place `lowest`."""
        layout, words = self.layout, self.words
        words[layout._start], words[layout._stop] = start, stop
        if layout._lowest >= 0:
            words[layout._lowest] = lowest
        if threads > layout.shares:  # members wait for one another, and count from zero
            ctypes.memset(self.arena + layout.barriers, 0, ALIGNMENT * layout.shares)
        return Launch(layout.code.address, self.place, threads)
