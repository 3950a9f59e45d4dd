"""What a kernel tells its tiles of the stretches of a product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from llvmlite import ir

from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.amx import TERMS
from unrolled.backends.llvm.code import I64, Numbers, Writer, integer, loop
from unrolled.backends.llvm.phases import Pass, Segment, Step
from unrolled.backends.llvm.places import Places
from unrolled.backends.llvm.ranges import RANGE_WORDS, RANGED
from unrolled.backends.llvm.tiles import (
    BORDER_NAMES,
    BORDERS,
    FIELDS,
    INNER,
    INNER_END,
    LENGTH,
    OPERAND,
    ROWS,
    STRIDE,
    WEIGHTS,
)
from unrolled.backends.llvm.variant import Variant, bordered_of, borders_word, ranges_word, weights_word
from unrolled.backends.llvm.work import Buffer


@dataclass(frozen=True)
class Columns:
    """A group of columns: its number, None if there is but one, and its vectors from the first to the end."""

    group: ir.Value | None
    start: ir.Value
    end: ir.Value


@dataclass(frozen=True)
class Fetched:
    """Weights that are fetched ahead.

    position    of the stretch that says so
    following   where the weights of the next group begin
    line        the bytes that a tile fetches of them
    parts       in how many parts of this size they stand
    """

    position: int
    following: ir.Value
    line: ir.Value
    parts: ir.Value


class Stretches:
    """The writing of their descriptions into `room`."""

    def __init__(self, writer: Writer, numbers: Numbers, step: Step, variant: Variant, room: ir.Value):
        self.writer = writer
        self.build = writer.build
        self.numbers = numbers
        self.step = step
        self.variant = variant
        self.matrix = variant.weights == narrow.MATRIX
        self.room = room

    def describe(self, places: Places, each: Pass, number: int, position: int, columns: Columns) -> list[Fetched]:
        """Describe all stretches of the pass of this number to its tile, from the word at `position` on."""
        due = None
        if each.due is not None:
            last = self.last_due(places, each.due, columns.start, columns.end)
            due = self.build.icmp_signed(">", last, columns.start)
        found = []
        for index, (segment, told) in enumerate(zip(each.segments, told_of(each, self.variant), strict=True)):
            found.append(self.stretch(places, segment, position, (number, index), columns, due))
            position += told
        return found

    def stretch(
        self,
        places: Places,
        segment: Segment,
        position: int,
        number: tuple[int, int],
        columns: Columns,
        due: ir.Value | None,
    ) -> Fetched:
        """Describe one stretch; where no unit is `due` it has no terms."""
        build, writer = self.build, self.writer
        size, lanes = self.numbers.bytes, self.numbers.lanes
        start, end = columns.start, columns.end
        length = self.length(segment)
        weight_bytes = narrow.WEIGHT_BYTES if self.variant.weights else size
        panel = len(segment.slots) * lanes * weight_bytes
        weights = build.add(
            writer.word(weights_word(*number)),
            build.mul(build.mul(start, length), integer(panel)),
        )
        if self.matrix:
            word = narrow.ready_word(narrow.operands_of(self.step)[narrow.operand_of(segment)])
            size = narrow.WEIGHT_BYTES
            base, stride = writer.word(f"{word}.pointer"), writer.word(f"{word}.stride")
            numbers: ir.Value = integer(0)  # the rows stand one after the other
        else:
            place = places.place(segment.operand)
            assert place.stride is not None
            base, stride = place.base, place.stride
            numbers = writer.word("identity") if place.numbers == "row" else place.numbers
        low: ir.Value = integer(0)
        borders: dict[int, ir.Value] = {}
        if segment.structure.name in RANGED:
            assert columns.group is not None
            low, high, inner, inner_end = self.range(number, columns.group)
            if self.matrix:
                low, high = build.and_(low, integer(-TERMS)), narrow.filled_word(build, high)
            else:
                line = build.mul(start, integer(2 * lanes * size))
                borders = {INNER: inner, INNER_END: inner_end}
                self.tell(position, {BORDERS: build.add(writer.word(borders_word(*number)), line)})
            base = build.add(base, build.mul(low, integer(size)))
            weights = build.add(weights, build.mul(build.mul(low, integer(panel)), build.sub(end, start)))
            length = build.sub(high, low)
        terms = self.terms(places, segment, low, length, due)
        if terms is not length:
            borders = {field: self.least(value, terms) for field, value in borders.items()}
        self.tell(position, {OPERAND: base, STRIDE: stride, ROWS: numbers, LENGTH: terms, WEIGHTS: weights, **borders})
        parts = build.mul(build.sub(end, start), integer(len(segment.slots)))
        line = build.mul(length, integer(lanes * weight_bytes))
        return Fetched(position, build.add(weights, build.mul(line, parts)), line, parts)

    def terms(
        self, places: Places, segment: Segment, low: ir.Value, length: ir.Value, due: ir.Value | None
    ) -> ir.Value:
        """How many of the terms from `low` on are taken: after the last unit that is due an operand may be zero."""
        build = self.build
        terms = length
        if segment.due is not None:
            size = self.writer.word(f"size {segment.due.axis}")
            vectors = build.sdiv(build.add(size, integer(self.numbers.lanes - 1)), integer(self.numbers.lanes))
            last = self.last_due(places, segment.due, integer(0), vectors)
            stop = self.least(build.mul(last, integer(self.numbers.lanes)), size)
            if self.matrix:
                stop = narrow.filled_word(build, stop)
            taken = self.least(build.sub(stop, low), length)
            terms = build.select(build.icmp_signed(">", taken, integer(0)), taken, integer(0))
        return terms if due is None else build.select(due, terms, integer(0))

    def last_due(self, places: Places, tick: Buffer, start: ir.Value, end: ir.Value) -> ir.Value:
        """The end of the last vector that has a unit that is due; `start` if there is none."""
        build, numbers = self.build, self.numbers
        base, size = places.place(tick).base, self.writer.word(f"size {tick.axis}")
        flags = ir.IntType(numbers.lanes)
        with loop(build, start, end, [start], name="vector") as (number, carry):
            unit = build.mul(number, integer(numbers.lanes))
            mask = None if self.variant.whole else self.writer.mask(unit, size)
            beats = self.writer.load(build.add(base, build.mul(unit, integer(numbers.bytes))), mask)
            some = build.bitcast(build.fcmp_unordered("!=", beats, ir.Constant(numbers.vector, None)), flags)
            following = build.add(number, integer(1))
            carry.next[0] = build.select(build.icmp_unsigned("!=", some, flags(0)), following, carry.now[0])
        return carry.last[0]

    def least(self, one: ir.Value, other: ir.Value) -> ir.Value:
        """The lesser of two numbers."""
        return self.build.select(self.build.icmp_signed("<", one, other), one, other)

    def tell(self, position: int, fields: Mapping[int, ir.Value]) -> None:
        """Set fields of the stretch that is told of from the word at `position` on."""
        for field, value in fields.items():
            target = self.build.gep(self.room, [integer(position + field)], source_etype=I64)
            self.build.store(value, target)

    def range(self, number: tuple[int, int], group: ir.Value) -> list[ir.Value]:
        """The terms that a group of columns reads, and those among them that all of its units read."""
        ranges, first = self.writer.word(ranges_word(*number)), self.build.mul(group, integer(RANGE_WORDS))
        return [self.writer.load_word(ranges, self.build.add(first, integer(word))) for word in range(RANGE_WORDS)]

    def length(self, segment: Segment) -> ir.Value:
        """The length of the product; in matrix registers that in whole rows."""
        build = self.build
        sizes = [self.writer.word(f"size {axis}") for axis in segment.widths]
        if self.matrix:
            sizes = [narrow.filled_word(build, size) for size in sizes]
        return reduce(build.add, sizes, integer(0))


def told_of(each: Pass, variant: Variant) -> list[int]:
    """How many words are told of each stretch of a pass."""
    bordered = bordered_of(each, variant.weights)
    return [FIELDS + len(BORDER_NAMES) * (index in bordered) for index in range(len(each.segments))]
