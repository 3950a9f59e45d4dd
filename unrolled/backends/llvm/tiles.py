"""Tiles: the products of a few rows with a few vectors of units, summed in registers.

A tile knows nothing of cells: rows times panels of accumulators, and for each stretch of the product which of them it
adds to. All cells share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from llvmlite import ir

from unrolled.backends.llvm.code import I32, I64, POINTER, name_arguments
from unrolled.backends.llvm.compiler import compiled, module_for
from unrolled.backends.llvm.machine import Machine

# Of a stretch: the operand, its bytes from row to row, the numbers of the rows, the length, the packed weights, and
# weights that a later tile will read, one vector for each term.
FIELD_NAMES = ("operand", "stride", "rows", "length", "weights", "ahead")
FIELDS = len(FIELD_NAMES)
OPERAND, STRIDE, ROWS, LENGTH, WEIGHTS, AHEAD = range(FIELDS)
UNROLLED = 4
# Fewer rows read weights as fast as memory gives them: nothing is left to fetch ahead with.
FETCHING_ROWS = 3
# What more is told of a stretch whose units read different terms: those that all of them read, from the first to the
# end, and for each vector the first term of each unit and their number.
BORDER_NAMES = ("inner", "inner end", "borders")
INNER, INNER_END, BORDERS = range(FIELDS, FIELDS + len(BORDER_NAMES))
# For reading, to the second level of the cache, data.
FETCH_TO_SECOND_LEVEL = [ir.Constant(I32, number) for number in (0, 2, 1)]


@dataclass(frozen=True)
class Tile:
    """What one tile computes.

    slots      for each stretch the accumulators that it adds to
    count      the number of accumulators
    blocks     vectors of units of each accumulator
    rows       rows of the batch
    splits     partial sums of each accumulator, where there are too few accumulators to keep the processor busy
    double     float64
    weights    the type of the packed weights, "" for that of the values
    fetching   fetch what a later tile will read to the second level of the cache
    bordered   the stretches whose units read different terms
    """

    slots: tuple[tuple[int, ...], ...]
    count: int
    blocks: int
    rows: int
    splits: int = 1
    double: bool = False
    weights: str = ""
    fetching: bool = False
    bordered: tuple[int, ...] = ()

    @cached_property
    def key(self) -> str:
        """What tells it from others."""
        return f"tile {self}"

    def address(self, machine: Machine) -> int:
        """Where its code stands: void (out, stretches, first row)."""
        return compiled(
            f"tile of {self.rows} x {self.count * self.blocks} sums", self.key, lambda: self.module(machine), machine
        ).address("tile")

    def module(self, machine: Machine) -> ir.Module:
        """Its code."""
        module = module_for("tile", machine)
        _Emission(self, module, machine).emit()
        return module


def most_rows(machine: Machine, panels: int) -> int:
    """The rows whose accumulators fit the registers beside a vector of weights for each panel."""
    room = {32: 24, 16: 12}[machine.registers]
    return max(1, min(8, room // panels))


class _Emission:
    """The writing of one tile."""

    def __init__(self, tile: Tile, module: ir.Module, machine: Machine):
        self.tile = tile
        self.scalar = ir.DoubleType() if tile.double else ir.FloatType()
        self.lanes = machine.lanes(tile.double)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.whole_numbers = ir.VectorType(I64 if tile.double else I32, self.lanes)
        self.bytes = 8 if tile.double else 4
        self.machine = machine
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), (POINTER, POINTER, I64)), "tile")
        self.function.args[0].add_attribute("noalias")
        name_arguments(self.function, "out", "stretches", "row")
        name = f"llvm.fma.v{self.lanes}{'f64' if tile.double else 'f32'}"
        self.fma = ir.Function(module, ir.FunctionType(self.vector, [self.vector] * 3), name)
        if tile.fetching:
            self.fetch = ir.Function(
                module, ir.FunctionType(ir.VoidType(), [POINTER, I32, I32, I32]), "llvm.prefetch.p0"
            )
        self.build = ir.IRBuilder(self.function.append_basic_block("entry"))

    def emit(self) -> None:
        tile, build = self.tile, self.build
        out, stretches, first = self.function.args
        sums: list[ir.Value] = [ir.Constant(self.vector, None)] * (tile.rows * tile.count * tile.blocks * tile.splits)
        told = 0
        for number, slots in enumerate(tile.slots):
            names = (*FIELD_NAMES, *BORDER_NAMES) if number in tile.bordered else FIELD_NAMES
            fields = [self.field(stretches, told + index, name) for index, name in enumerate(names)]
            sums = self.stretch(slots, fields, first, sums)
            told += len(names)
        each = tile.rows * tile.count * tile.blocks
        for index in range(each):
            total = sums[index]
            for split in range(1, tile.splits):
                total = build.fadd(total, sums[split * each + index])
            place = build.gep(out, [ir.Constant(I64, index)], source_etype=self.vector)
            build.store(total, place, align=self.lanes * self.bytes)
        build.ret_void()

    def field(self, stretches: ir.Value, index: int, name: str) -> ir.Value:
        place = self.build.gep(stretches, [ir.Constant(I64, index)], source_etype=I64)
        return self.build.load(place, typ=I64, name=name)

    def stretch(
        self, slots: Sequence[int], fields: Sequence[ir.Value], first: ir.Value, sums: list[ir.Value]
    ) -> list[ir.Value]:
        """Add one operand's products to the sums."""
        tile, build = self.tile, self.build
        rows = []
        numbers = build.inttoptr(fields[ROWS], POINTER)
        for row in range(tile.rows):
            place = build.gep(numbers, [build.add(first, ir.Constant(I64, row))], source_etype=I64)
            offset = build.mul(build.load(place, typ=I64), fields[STRIDE])
            rows.append(build.inttoptr(build.add(fields[OPERAND], offset), POINTER))
        weights, length = build.inttoptr(fields[WEIGHTS], POINTER), fields[LENGTH]
        self.ahead = build.inttoptr(fields[AHEAD], POINTER)
        nothing = ir.Constant(I64, 0)
        if len(fields) == FIELDS:
            return self.terms(nothing, length, slots, rows, weights, sums)
        borders, inner, inner_end = self.borders(fields[BORDERS]), fields[INNER], fields[INNER_END]
        sums = self.terms(nothing, inner, slots, rows, weights, sums, borders)
        sums = self.terms(inner, inner_end, slots, rows, weights, sums)
        return self.terms(inner_end, length, slots, rows, weights, sums, borders)

    def borders(self, address: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
        """For each vector of units the first term that each of them reads, and their number."""
        build, kind = self.build, self.whole_numbers
        pointer = build.inttoptr(address, POINTER)
        places = [build.gep(pointer, [ir.Constant(I64, n)], source_etype=kind) for n in range(2 * self.tile.blocks)]
        loaded = [build.load(place, typ=kind, align=self.bytes) for place in places]
        return list(zip(loaded[::2], loaded[1::2], strict=True))

    def reading(self, step: ir.Value, borders: Sequence[tuple[ir.Value, ir.Value]]) -> list[ir.Value]:
        """For each vector which of its units read a term."""
        build, kind = self.build, self.whole_numbers
        number = step if self.tile.double else build.trunc(step, I32)
        term = self.splat(number, kind)
        return [build.icmp_unsigned("<", build.sub(term, first), count) for first, count in borders]

    def splat(self, value: ir.Value, kind: ir.VectorType) -> ir.Value:
        """A vector of one number."""
        single = self.build.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), None)
        return self.build.shuffle_vector(single, ir.Constant(kind, ir.Undefined), mask)

    def terms(
        self,
        start: ir.Value,
        end: ir.Value,
        slots: Sequence[int],
        rows: Sequence[ir.Value],
        weights: ir.Value,
        sums: list[ir.Value],
        borders: Sequence[tuple[ir.Value, ir.Value]] = (),
    ) -> list[ir.Value]:
        """Add some terms to the sums; with borders, each to those of the units that read it."""
        build, unroll = self.build, UNROLLED
        whole = build.add(start, build.and_(build.sub(end, start), ir.Constant(I64, -unroll)))
        sums = self.loop(start, whole, unroll, slots, rows, weights, sums, borders)
        return self.loop(whole, end, 1, slots, rows, weights, sums, borders)

    def loop(
        self,
        start: ir.Value,
        end: ir.Value,
        unroll: int,
        slots: Sequence[int],
        rows: Sequence[ir.Value],
        weights: ir.Value,
        sums: list[ir.Value],
        borders: Sequence[tuple[ir.Value, ir.Value]],
    ) -> list[ir.Value]:
        build, before = self.build, self.build.block
        body, after = self.function.append_basic_block("body"), self.function.append_basic_block("after")
        build.cbranch(build.icmp_signed("<", start, end), body, after)
        build.position_at_end(body)
        step = build.phi(I64, name="term")
        step.add_incoming(start, before)
        inside = []
        for value in sums:
            phi = build.phi(self.vector, name="sum")
            phi.add_incoming(value, before)
            inside.append(phi)
        current = list(inside)
        for number in range(unroll):
            self.one(build.add(step, ir.Constant(I64, number)), number, slots, rows, weights, current, borders)
        following = build.add(step, ir.Constant(I64, unroll))
        body_end = build.block
        build.cbranch(build.icmp_signed("<", following, end), body, after)
        step.add_incoming(following, body_end)
        build.position_at_end(after)
        found = []
        for value, phi, new in zip(sums, inside, current, strict=True):
            phi.add_incoming(new, body_end)
            result = build.phi(self.vector)
            result.add_incoming(value, before)
            result.add_incoming(new, body_end)
            found.append(result)
        return found

    def one(
        self,
        step: ir.Value,
        number: int,
        slots: Sequence[int],
        rows: Sequence[ir.Value],
        weights: ir.Value,
        sums: list[ir.Value],
        borders: Sequence[tuple[ir.Value, ir.Value]],
    ) -> None:
        """One term of every sum."""
        tile, build = self.tile, self.build
        panels = len(slots) * tile.blocks
        at = build.mul(step, ir.Constant(I64, panels))
        loaded = [self.weight(weights, build.add(at, ir.Constant(I64, panel))) for panel in range(panels)]
        if tile.fetching:
            build.call(self.fetch, [build.gep(self.ahead, [step], source_etype=self.vector), *FETCH_TO_SECOND_LEVEL])
        # Zero times what is not finite is no zero: a unit adds nothing of what it does not read.
        reading = self.reading(step, borders) if borders else []
        split = number % tile.splits
        each = tile.rows * tile.count * tile.blocks
        for row, pointer in enumerate(rows):
            value = build.load(build.gep(pointer, [step], source_etype=self.scalar), typ=self.scalar)
            splat = self.splat(value, self.vector)
            for position, slot in enumerate(slots):
                for block in range(tile.blocks):
                    place = split * each + (row * tile.count + slot) * tile.blocks + block
                    weight = loaded[position * tile.blocks + block]
                    total = build.call(self.fma, [splat, weight, sums[place]])
                    sums[place] = build.select(reading[block], total, sums[place]) if reading else total

    def weight(self, weights: ir.Value, index: ir.Value) -> ir.Value:
        """A vector of packed weights."""
        build = self.build
        if self.tile.weights != "bfloat16":
            place = build.gep(weights, [index], source_etype=self.vector)
            return build.load(place, typ=self.vector, align=self.lanes * self.bytes)
        narrow = ir.VectorType(ir.IntType(16), self.lanes)
        wide = ir.VectorType(I32, self.lanes)
        place = build.gep(weights, [index], source_etype=narrow)
        loaded = build.zext(build.load(place, typ=narrow, align=self.lanes * 2), wide)
        shifted = build.shl(loaded, ir.Constant(wide, [16] * self.lanes))
        return build.bitcast(shifted, self.vector)
