"""The words of a call: where its tensors stand, laid out as a kernel reads them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from unrolled.backends.llvm.arena import Arena
from unrolled.backends.llvm.driver import panels_of
from unrolled.backends.llvm.packing import WORDS, Packer
from unrolled.backends.llvm.rows import Rows, Words
from unrolled.backends.llvm.scan_code import ScanCode
from unrolled.backends.llvm.team import run
from unrolled.backends.llvm.work import Buffer, Index
from unrolled.backends.maps import dense_matrix
from unrolled.ir.graph import Node
from unrolled.ir.structure import DENSE, Structure


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


class Maps:
    """The maps of a call, by their symbols, as they are multiplied."""

    def __init__(self, symbols: Mapping[str, Tensor], sizes: Mapping[str, int]):
        self.symbols = symbols
        self.sizes = sizes
        self._whole: dict[str, Tensor] = {}

    def matrix(self, node: Node) -> Tensor:
        """A map (out, in): the zeros of a structure written out, the factors of one of low rank apart."""
        if node.symbol not in self._whole:
            self._whole[node.symbol] = self._find(node)
        return self._whole[node.symbol]

    def _find(self, node: Node) -> Tensor:
        name, _, factor = node["name"].partition("/")
        entries, structure = self.symbols[f"{node['family']}.{name}"], node["structure"]
        out, into = (self.sizes[axis] for axis in node.shape)
        if factor:
            return entries[:out] if factor == "left" else entries[-into:].mT
        return entries if structure == DENSE else dense_matrix(structure, entries, out, into)


class KernelCall:
    """One call of a kernel: its words, as they are set, and the memory that it works in."""

    def __init__(self, code: ScanCode, rows: Rows, sizes: Mapping[str, int], dtype: torch.dtype):
        self.code = code
        self.rows = rows
        self.sizes = sizes
        self.dtype = dtype
        self.item = dtype.itemsize
        self.words: dict[str, int] = {}
        self.kept: list[object] = []  # what must live until the kernel has run
        self._set_rows()

    def _set_rows(self) -> None:
        rows, words = self.rows, self.words
        words |= {
            "shares": rows.shares,
            "bounds": self.address(rows.bounds),
            "first": self.address(rows.first),
            "rows": self.address(rows.order),
            "lengths": self.address(rows.lengths),
            "identity": self.address(rows.identity),
            "delta": rows.delta,
            "batch": rows.batch,
        }
        words |= {f"size {axis}": size for axis, size in self.sizes.items()}

    def address(self, values: Words) -> int:
        """The address of an array, which lives as long as the call."""
        self.kept.append(values)
        return int(values.ctypes.data)

    def set_tensor(self, name: str, value: Tensor, stride: int | None = None, column: int = 0) -> None:
        """Where a buffer's rows stand."""
        self.kept.append(value)
        self.words[f"{name}.pointer"] = value.data_ptr() + column * self.item
        self.words[f"{name}.stride"] = row_stride(value) if stride is None else stride

    def set_rows_of(self, name: str, what: str, value: Tensor) -> None:
        """Another place of a buffer, (batch, axis): its initial values, or its restarts."""
        value = rows_apart(value)
        self.kept.append(value)
        self.words[f"{name}.{what}"] = value.data_ptr()
        self.words[f"{name}.{what} stride"] = row_stride(value)

    def set_fixed(self, name: str, value: Tensor) -> None:
        """Where a vector or a number stands that is the same for all rows."""
        value = value.contiguous()
        self.kept.append(value)
        self.words[f"{name}.pointer"] = value.data_ptr()

    def width(self, buffer: Buffer) -> int:
        """The units of a buffer, filled up to whole vectors."""
        if not buffer.axis:
            return 1
        lanes = self.code.machine.lanes(self.code.variant.double)
        return -(-self.sizes[buffer.axis] // lanes) * lanes

    def scratch_bytes(self) -> int:
        """The memory that the steps work in."""
        buffers = self.code.of_index(Index.SCRATCH) + 2 * self.code.of_index(Index.CARRIED)
        pieces = [self.rows.batch * self.width(buffer) * self.item for buffer in buffers]
        return sum(-(-piece // 64) * 64 for piece in pieces) + 64 * (self.rows.shares + 1)

    def set_scratch(self, memory: Arena) -> dict[str, tuple[Tensor, Tensor]]:
        """Lay out the memory of the steps; returns both halves of what is carried, by the buffer's name."""
        batch, carried = self.rows.batch, {}
        for buffer in self.code.of_index(Index.SCRATCH):
            self.set_tensor(buffer.name, memory.tensor((batch, self.width(buffer)), self.dtype))
        for buffer in self.code.of_index(Index.CARRIED):
            shape = (batch, self.width(buffer))
            halves = memory.tensor(shape, self.dtype), memory.tensor(shape, self.dtype)
            units = self.sizes[buffer.axis] if buffer.axis else 1
            carried[buffer.name] = (halves[0][:, :units], halves[1][:, :units])
            self.words[f"{buffer.name}.even"], self.words[f"{buffer.name}.odd"] = (half.data_ptr() for half in halves)
            self.words[f"{buffer.name}.stride"] = shape[1] * self.item
        barriers = memory.tensor((8 * self.rows.shares,), torch.int64)
        self.barriers = barriers
        self.words["barriers"] = barriers.data_ptr()
        return carried

    def set_tiles(self, counts: set[int], splits: int) -> None:
        """Find the tiles that the call needs."""
        for number, tiles in enumerate(self.code.tiles(self.sizes, counts, splits)):
            self.words[f"tiles {number}"] = tiles.table.buffer_info()[0]

    def packed_bytes(self) -> int:
        """The memory of the packed weights."""
        return sum(self._packed_size(number, segment) + 64 for number, segment in self._segments())

    def _segments(self) -> list[tuple[int, int]]:
        return [(n, i) for n, (_, each) in enumerate(self.code.passes) for i in range(len(each.segments))]

    def _packed_size(self, number: int, index: int) -> int:
        block, each = self.code.passes[number]
        segment = each.segments[index]
        length = sum(self.sizes[axis] for axis in segment.widths)
        return self.width(Buffer("", block.axis, Index.FIXED)) * length * len(segment.slots) * self.item

    def pack(self, maps: Maps, memory: Arena, threads: int) -> None:
        """Pack all weights."""
        fields: list[int] = []
        for number, index in self._segments():
            block, each = self.code.passes[number]
            segment = each.segments[index]
            panels = panels_of(block)
            packed = memory.tensor((self._packed_size(number, index),), torch.uint8)
            self.words[f"weights {number} {index}"] = packed.data_ptr()
            length = sum(self.sizes[axis] for axis in segment.widths)
            for slot, products in enumerate(segment.maps):
                begin = 0
                for product, axis in zip(products, segment.widths, strict=True):
                    matrix = maps.matrix(product.args[0])
                    if product.op == "transposed_product":
                        matrix = matrix.mT
                    self.kept.append(matrix)
                    strides = [stride * self.item for stride in matrix.stride()]
                    fields += [matrix.data_ptr(), *strides, *matrix.shape, packed.data_ptr()]
                    fields += [len(segment.slots), slot, length, begin, panels]
                    begin += self.sizes[axis]
            self._set_ranges(number, index)
        if not fields:
            return
        jobs = array("q", fields)
        words = array("q", [len(fields) // WORDS, jobs.buffer_info()[0]])
        packer = Packer(self.code.variant.double, self.code.machine)
        run(packer.address(), words.buffer_info()[0], threads if len(fields) > WORDS else 1)

    def _set_ranges(self, number: int, index: int) -> None:
        """Which terms of a product with a structure each group of columns reads."""
        block, each = self.code.passes[number]
        segment = each.segments[index]
        structure, product = segment.structure, segment.maps[0][0]
        if structure.name not in ("block_diagonal", "block_triangular"):
            return
        panels = panels_of(block)
        lanes = self.code.machine.lanes(self.code.variant.double)
        units, terms = self.sizes[block.axis], self.sizes[segment.widths[0]]
        vectors = -(-units // lanes)
        groups = -(-vectors // panels)
        ranges = []
        for group in range(groups):
            first = group * vectors // groups * lanes
            last = min((group + 1) * vectors // groups * lanes, units) - 1
            ranges += _terms(structure, product.op == "transposed_product", first, last, units, terms)
        self.words[f"ranges {number} {index}"] = self.address(np.array(ranges, dtype=np.int64))

    def launch(self, start: int, stop: int, members: int) -> None:
        """Run the steps from `start` to below `stop`."""
        self.barriers.zero_()
        self.words |= {"start": start, "stop": stop, "members": members}
        words = array("q", [self.words[name] for name in self.code.words])
        run(self.code.address, words.buffer_info()[0], self.rows.shares * members)


def _terms(structure: Structure, transposed: bool, first: int, last: int, units: int, terms: int) -> Sequence[int]:
    """The terms that the units from `first` to `last` read."""
    if structure.name == "block_diagonal":
        heads = structure.number()
        own, other = units // heads, terms // heads
        return first // own * other, (last // own + 1) * other
    width = units // len(structure.periods())
    return (0, (last // width + 1) * width) if transposed else (first // width * width, terms)
