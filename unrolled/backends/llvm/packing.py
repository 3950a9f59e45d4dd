"""Weights as tiles read them: for each group of columns, and each term of the product, the vectors of all panels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from unrolled.backends.llvm.code import (
    I32,
    I64,
    POINTER,
    VOID,
    Description,
    Numbers,
    Writer,
    integer,
    intrinsic,
    loop,
)
from unrolled.backends.llvm.compiler import compiled, module_for
from unrolled.backends.llvm.machine import Machine
from unrolled.backends.llvm.rounding import rounded

# Of a map: address, bytes from unit to unit of its output and of its input, their numbers, where the packed weights
# begin, how many maps stand side by side, which of them this is, the length of the whole product and where this begins.
PACKED_WORDS = 11
(SOURCE, UNIT_STRIDE, TERM_STRIDE, UNITS, TERMS, TARGET, SLOTS, SLOT, LENGTH, BEGIN, PANELS) = range(PACKED_WORDS)


def packing_module(
    numbers: Numbers, write_map: Callable[[Writer, list[ir.Value], ir.Value, ir.Value], None]
) -> ir.Module:
    """The code that does with each map what `write_map(writer, fields, thread, threads)` writes."""
    module = module_for("pack", numbers.machine)
    function = ir.Function(module, ir.FunctionType(VOID, (POINTER, I64, I64)), "kernel")
    writer = Writer(function, numbers, Description())
    build = writer.build
    count, maps = writer.word("count"), writer.word("maps")
    _, thread, threads = function.args
    with loop(build, integer(0), count) as (number, _):
        at = build.mul(number, integer(PACKED_WORDS))
        fields = [writer.load_word(maps, build.add(at, integer(index))) for index in range(PACKED_WORDS)]
        write_map(writer, fields, thread, threads)
    build.ret_void()
    return module


@dataclass(frozen=True)
class Packer:
    """The code that packs maps of one type: `kernel(description, thread, threads)`.

    rounded   the packed weights are bfloat16
    """

    double: bool
    machine: Machine
    rounded: bool = False

    def address(self) -> int:
        """Where the code stands; it takes the address of a count and that of as many descriptions of maps."""
        return compiled("pack", f"pack {self.double} {self.rounded}", self.module, self.machine).address("kernel")

    def module(self) -> ir.Module:
        """The code."""
        return packing_module(Numbers(self.double, self.machine), self._map)

    def _map(self, writer: Writer, fields: list[ir.Value], thread: ir.Value, threads: ir.Value) -> None:
        build, numbers = writer.build, writer.numbers
        lanes = integer(numbers.lanes)
        vectors = build.sdiv(build.add(fields[UNITS], integer(numbers.lanes - 1)), lanes)
        panels = fields[PANELS]
        groups = build.sdiv(build.add(vectors, build.sub(panels, integer(1))), panels)
        near = build.icmp_signed("==", fields[UNIT_STRIDE], integer(numbers.bytes))
        low = build.sdiv(build.mul(groups, thread), threads)
        high = build.sdiv(build.mul(groups, build.add(thread, integer(1))), threads)
        with loop(build, low, high) as (group, _):
            start = build.sdiv(build.mul(group, vectors), groups)
            end = build.sdiv(build.mul(build.add(group, integer(1)), vectors), groups)
            width = build.sub(end, start)
            with loop(build, start, end) as (vector, _):
                unit = build.mul(vector, lanes)
                mask = writer.mask(unit, fields[UNITS])
                at = build.mul(build.mul(start, fields[SLOTS]), fields[LENGTH])
                inside = build.add(build.mul(fields[SLOT], width), build.sub(vector, start))
                each = build.mul(fields[SLOTS], width)
                at = build.add(at, build.add(inside, build.mul(fields[BEGIN], each)))
                source = build.add(fields[SOURCE], build.mul(unit, fields[UNIT_STRIDE]))
                with build.if_else(near) as (then, otherwise):
                    with then, loop(build, integer(0), fields[TERMS]) as (term, _):
                        value = writer.load(build.add(source, build.mul(term, fields[TERM_STRIDE])), mask)
                        self._write(writer, value, fields[TARGET], build.add(at, build.mul(term, each)))
                    with otherwise:
                        offsets = self._offsets(writer, fields[UNIT_STRIDE])
                        with loop(build, integer(0), fields[TERMS]) as (term, _):
                            address = build.add(source, build.mul(term, fields[TERM_STRIDE]))
                            value = self._gather(writer, address, offsets, mask)
                            self._write(writer, value, fields[TARGET], build.add(at, build.mul(term, each)))

    def _write(self, writer: Writer, value: ir.Value, target: ir.Value, at: ir.Value) -> None:
        if self.rounded:
            value = rounded(writer.build, value, self.machine)
            place = writer.build.add(target, writer.build.mul(at, integer(2 * writer.numbers.lanes)))
            writer.build.store(value, writer.pointer(place), align=2 * writer.numbers.lanes)
            return
        place = writer.build.mul(at, integer(writer.numbers.lanes * writer.numbers.bytes))
        writer.store(value, writer.build.add(target, place), None)

    @staticmethod
    def _offsets(writer: Writer, stride: ir.Value) -> ir.Value:
        build, lanes = writer.build, writer.numbers.lanes
        wide = ir.VectorType(I64, lanes)
        single = build.insert_element(ir.Constant(wide, ir.Undefined), stride, ir.Constant(I32, 0))
        zero = ir.Constant(ir.VectorType(I32, lanes), None)
        spread = build.shuffle_vector(single, ir.Constant(wide, ir.Undefined), zero)
        return build.mul(spread, ir.Constant(wide, list(range(lanes))))

    @staticmethod
    def _gather(writer: Writer, address: ir.Value, offsets: ir.Value, mask: ir.Value) -> ir.Value:
        build, numbers = writer.build, writer.numbers
        pointers = build.gep(writer.pointer(address), [offsets], source_etype=ir.IntType(8))
        kind = ir.VectorType(POINTER, numbers.lanes)
        pointers.type = kind
        gather = intrinsic(
            writer.module,
            f"llvm.masked.gather.{numbers.suffix}.v{numbers.lanes}p0",
            numbers.vector,
            [kind, I32, mask.type, numbers.vector],
        )
        rest = ir.Constant(numbers.vector, None)
        return build.call(gather, [pointers, ir.Constant(I32, numbers.bytes), mask, rest])
