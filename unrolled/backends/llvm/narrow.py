"""Operands laid ready for matrix registers, as bfloat16, and weights packed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llvmlite import ir

from unrolled.backends.llvm import amx, packing
from unrolled.backends.llvm.amx import BYTES, ROWS, TERMS
from unrolled.backends.llvm.code import I32, I64, POINTER, VOID, Description, Numbers, Writer, integer, loop
from unrolled.backends.llvm.compiler import compiled
from unrolled.backends.llvm.machine import Machine
from unrolled.backends.llvm.phases import Phase, Segment, Step
from unrolled.backends.llvm.places import Places
from unrolled.backends.llvm.rounding import rounded
from unrolled.backends.llvm.work import Buffer

# The code of weights that are kept in bfloat16, and how they are multiplied.
WIDENED, MATRIX = "bfloat16", "amx"
WEIGHT_BYTES = 2
# The most rows of a tile of matrix registers.
MOST_ROWS = 2 * ROWS
# One row alone is as fast with vectors, and faster where the weights are near.
MATRIX_BATCH = 2
# An input of more units is multiplied with its maps before the loop. In it, the maps come from the memory at each step,
# which is worth it for many rows: before the loop, products are rounded, written and read. Small maps stay near.
FUSED_INPUTS, FUSED_ROWS, NEAR_INPUTS = 1024, 24, 256

_LINE = 64

# What a product reads: where it stands, and the axes that lie side by side there.
Operand = tuple[Buffer, tuple[str, ...]]


def way(machine: Machine, batch: int) -> str:
    """How products with bfloat16 weights are taken on a machine, for so many rows."""
    return MATRIX if batch >= MATRIX_BATCH and amx.usable(machine) else WIDENED


def filled(sizes: Mapping[str, int], widths: Sequence[str]) -> int:
    """The length of a product over axes side by side, each filled up to whole rows of matrix registers."""
    return sum(-(-sizes[axis] // TERMS) * TERMS for axis in widths)


def row_bytes(length: int) -> int:
    """From row to row of an operand that is laid ready: an odd number of cache lines, so that rows share no set."""
    return (length * WEIGHT_BYTES // _LINE | 1) * _LINE


def operands_of(step: Step) -> dict[Operand, int]:
    """The operands of all products of a step, numbered."""
    found: dict[Operand, int] = {}
    for phase in step.phases:
        for operand in phase_operands(phase):
            found.setdefault(operand, len(found))
    return found


def phase_operands(phase: Phase) -> list[Operand]:
    """The operands of the products of a phase."""
    segments = [segment for block in phase.blocks for each in block.passes for segment in each.segments]
    return list(dict.fromkeys(operand_of(segment) for segment in segments))


def operand_of(segment: Segment) -> Operand:
    """What a stretch of a product reads."""
    return segment.operand, segment.widths


def ready_word(number: int) -> str:
    """The name of the buffer that holds the operand of this number, rounded."""
    return f"ready {number}"


def filled_word(build: ir.IRBuilder, length: ir.Value) -> ir.Value:
    """A length in whole rows of matrix registers."""
    return build.and_(build.add(length, integer(TERMS - 1)), integer(-TERMS))


def write_ready(
    module: ir.Module,
    name: str,
    operands: Sequence[tuple[int, Operand]],
    numbers: Numbers,
    description: Description,
    reverse: bool,
    before: ir.Function | None,
) -> ir.Function:
    """A function that rounds the operands of some rows, after it has called `before` for them."""
    function = ir.Function(module, ir.FunctionType(VOID, (POINTER, I64, I64, I64)), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    writer = Writer(function, numbers, description)
    build, (_, step, low, high) = writer.build, function.args
    places = Places(writer, step, resets=False, reverse=reverse)
    if before is not None:
        build.call(before, function.args)
    for _, (buffer, widths) in operands:
        places.place(buffer)
        for axis in widths:
            writer.word(f"size {axis}")
    with loop(build, low, high) as (row, _):
        cache: dict[str, ir.Value] = {}
        for number, (buffer, widths) in operands:
            source = places.row(places.place(buffer), row, cache)
            word = ready_word(number)
            target = build.add(writer.word(f"{word}.pointer"), build.mul(row, writer.word(f"{word}.stride")))
            for axis in widths:
                length = writer.word(f"size {axis}")
                whole = build.and_(length, integer(-TERMS))
                with loop(build, integer(0), whole, step=TERMS) as (term, _):
                    _write_terms(writer, source, target, term, None)
                with build.if_then(build.icmp_signed("<", whole, length)):
                    _write_terms(writer, source, target, whole, length)
                source = build.add(source, build.mul(length, integer(numbers.bytes)))
                target = build.add(target, build.mul(filled_word(build, length), integer(WEIGHT_BYTES)))
    build.ret_void()
    return function


def _write_terms(writer: Writer, source: ir.Value, target: ir.Value, term: ir.Value, length: ir.Value | None) -> None:
    """Round as many numbers as a row of a matrix register holds, with zeros from `length` on."""
    build, numbers = writer.build, writer.numbers
    for begin in range(0, TERMS, numbers.lanes):
        at = build.add(term, integer(begin))
        mask = None if length is None else writer.mask(at, length)
        value = writer.load(build.add(source, build.mul(at, integer(numbers.bytes))), mask)
        place = writer.pointer(build.add(target, build.mul(at, integer(2))))
        build.store(rounded(build, value, numbers.machine), place, align=2 * numbers.lanes)


@dataclass(frozen=True)
class MatrixPacker:
    """The code that packs maps for matrix registers, described as for those of vectors.

    For each group of columns, for 32 terms of the product, for each panel: for each two terms, those of 16 units.
    """

    machine: Machine

    def address(self) -> int:
        """Where the code stands; it takes the address of a count and that of as many descriptions of maps."""
        return compiled("pack", "pack for matrix registers", self.module, self.machine).address("kernel")

    def module(self) -> ir.Module:
        """The code."""
        return packing.packing_module(Numbers(False, self.machine), self._map)

    def _map(self, writer: Writer, fields: list[ir.Value], thread: ir.Value, threads: ir.Value) -> None:
        build = writer.build
        units, terms, length = fields[packing.UNITS], fields[packing.TERMS], fields[packing.LENGTH]
        vectors = build.sdiv(build.add(units, integer(ROWS - 1)), integer(ROWS))
        panels = fields[packing.PANELS]
        groups = build.sdiv(build.add(vectors, build.sub(panels, integer(1))), panels)
        near = build.icmp_signed("==", fields[packing.UNIT_STRIDE], integer(4))
        low = build.sdiv(build.mul(groups, thread), threads)
        high = build.sdiv(build.mul(groups, build.add(thread, integer(1))), threads)
        first = build.sdiv(fields[packing.BEGIN], integer(TERMS))
        steps = build.sdiv(length, integer(TERMS))
        last = build.sdiv(build.add(terms, integer(TERMS - 1)), integer(TERMS))
        with loop(build, low, high) as (group, _):
            start = build.sdiv(build.mul(group, vectors), groups)
            end = build.sdiv(build.mul(build.add(group, integer(1)), vectors), groups)
            width = build.sub(end, start)
            panels_here = build.mul(fields[packing.SLOTS], width)
            group_at = build.mul(build.mul(start, fields[packing.SLOTS]), steps)
            with loop(build, start, end) as (vector, _):
                inside = build.add(build.mul(fields[packing.SLOT], width), build.sub(vector, start))
                unit = build.mul(vector, integer(ROWS))
                source = build.add(fields[packing.SOURCE], build.mul(unit, fields[packing.UNIT_STRIDE]))
                left = build.sub(units, unit)
                with loop(build, integer(0), last) as (number, _):
                    at = build.add(group_at, build.mul(build.add(first, number), panels_here))
                    at = build.mul(build.add(at, inside), integer(BYTES))
                    target = build.add(fields[packing.TARGET], at)
                    term = build.mul(number, integer(TERMS))
                    with build.if_else(near) as (then, otherwise):
                        with then:
                            self._pairs(writer, fields, source, target, (left, term))
                        with otherwise:
                            self._turned(writer, fields, source, target, (left, term))

    def _pairs(
        self,
        writer: Writer,
        fields: list[ir.Value],
        source: ir.Value,
        target: ir.Value,
        place: tuple[ir.Value, ir.Value],
    ) -> None:
        """Where units are neighbours: two terms of 16 units at a time."""
        build, (left, term) = writer.build, place
        with loop(build, integer(0), integer(TERMS // 2)) as (pair, _):
            halves = []
            for index in range(2):
                number = build.add(term, build.add(build.mul(pair, integer(2)), integer(index)))
                inside = build.icmp_signed("<", number, fields[packing.TERMS])
                mask = writer.mask(integer(0), build.select(inside, left, integer(0)))
                address = build.add(source, build.mul(number, fields[packing.TERM_STRIDE]))
                halves.append(self._wide(build, writer.load(address, mask)))
            both = build.or_(halves[0], build.shl(halves[1], ir.Constant(halves[1].type, [16] * ROWS)))
            place_of = writer.pointer(build.add(target, build.mul(pair, integer(4 * ROWS))))
            build.store(both, place_of, align=64)

    def _turned(
        self,
        writer: Writer,
        fields: list[ir.Value],
        source: ir.Value,
        target: ir.Value,
        place: tuple[ir.Value, ir.Value],
    ) -> None:
        """Where terms are neighbours: 32 terms of 16 units at a time, turned as a square of 16 by 16 pairs."""
        build, (left, term) = writer.build, place
        pairs = ir.VectorType(I32, ROWS)
        rows = []
        masks = [writer.mask(build.add(term, integer(begin)), fields[packing.TERMS]) for begin in range(0, TERMS, ROWS)]
        nothing = ir.Constant(masks[0].type, None)
        at = build.add(source, build.mul(term, integer(4)))
        for unit in range(ROWS):
            inside = build.icmp_signed("<", integer(unit), left)
            address = build.add(at, build.mul(integer(unit), fields[packing.UNIT_STRIDE]))
            parts = []
            for part, mask in enumerate(masks):
                mine = build.select(inside, mask, nothing)
                value = writer.load(build.add(address, integer(part * ROWS * 4)), mine)
                parts.append(rounded(build, value, self.machine))
            whole = build.shuffle_vector(*parts, ir.Constant(ir.VectorType(I32, TERMS), list(range(TERMS))))
            rows.append(build.bitcast(whole, pairs))
        for number, row in enumerate(transposed(build, rows)):
            build.store(row, writer.pointer(build.add(target, integer(number * 64))), align=64)

    def _wide(self, build: ir.IRBuilder, value: ir.Value) -> ir.Value:
        return build.zext(rounded(build, value, self.machine), ir.VectorType(I32, ROWS))


def transposed(build: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """The columns of a square of as many vectors as each has numbers."""
    count = len(rows)
    now = list(rows)
    half = count // 2
    while half:
        # Of two rows `half` apart the one gets the first halves of both blocks of 2 `half`, the other the last.
        found = list(now)
        for index in range(count):
            if index & half:
                continue
            one, other = now[index], now[index + half]
            low = [lane if not lane & half else count + (lane ^ half) for lane in range(count)]
            high = [lane ^ half if not lane & half else count + lane for lane in range(count)]
            kind = ir.VectorType(I32, count)
            found[index] = build.shuffle_vector(one, other, ir.Constant(kind, low))
            found[index + half] = build.shuffle_vector(one, other, ir.Constant(kind, high))
        now = found
        half //= 2
    return now
