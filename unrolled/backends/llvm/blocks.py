"""The code of a block: every unit of some rows, from the sums of its products to what is stored."""

from __future__ import annotations

from collections.abc import Mapping

from llvmlite import ir

from unrolled.backends.llvm.code import I64, POINTER, VOID, Description, Numbers, Writer, integer, loop
from unrolled.backends.llvm.mathematics import Mathematics
from unrolled.backends.llvm.operations import OPERATIONS
from unrolled.backends.llvm.phases import Block, Step
from unrolled.backends.llvm.places import Places
from unrolled.backends.llvm.work import Buffer, Index
from unrolled.ir.graph import Node

# description, step, first row, end of rows, first vector of units, end of those, sums, number of the partial sums
SIGNATURE = ir.FunctionType(VOID, (POINTER, I64, I64, I64, I64, I64, POINTER, I64))
ARGUMENTS = ("call", "step", "row", "rows_end", "vector", "vectors_end", "sums", "part")
_SAME_FOR_ROWS = (Index.FIXED, Index.CLOCK)


class BlockWriter:
    """The writing of one block's function.

    whole   whether every axis is a multiple of the vector, so that no unit is masked
    rows    the most rows of a call
    panels  vectors of units of a group of columns
    """

    def __init__(
        self,
        module: ir.Module,
        name: str,
        block: Block,
        step: Step,
        numbers: Numbers,
        description: Description,
        *,
        whole: bool,
        resets: bool,
        reverse: bool,
        rows: int,
        panels: int,
    ):
        self.block = block
        self.step = step
        self.numbers = numbers
        self.whole = whole
        self.resets = resets
        self.reverse = reverse
        function = ir.Function(module, SIGNATURE, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        self.function = function
        self.writer = Writer(function, numbers, description, ARGUMENTS)
        self.places = Places(self.writer, function.args[1], resets, reverse)
        self.mathematics = Mathematics(self.writer.build)
        self.rows, self.panels = rows, panels

    def write(self) -> ir.Function:
        """Emit the whole function."""
        writer, build, block = self.writer, self.writer.build, self.block
        _, _, first_row, end_row, first, end, _, part = self.function.args
        reads = self._reads()
        for buffer in reads:
            self.places.place(buffer)
        for _, buffer in block.stores:
            self.places.place(buffer, write=True)
        fixed_numbers = {
            buffer: writer.splat(writer.load_number(self.places.place(buffer).base))
            for buffer in reads
            if buffer.axis == "" and buffer.index in _SAME_FOR_ROWS
        }
        width = writer.word(f"size {block.axis}") if block.axis else integer(1)
        nothing = ir.Constant(self.numbers.vector, None)
        with loop(build, first, end, name="vector") as (number, _):
            column = build.mul(number, integer(self.numbers.lanes))
            offset = build.mul(column, integer(self.numbers.bytes))
            mask = None if self.whole or not block.axis else writer.mask(column, width)
            known: dict[Buffer, ir.Value] = dict(fixed_numbers)
            for buffer in reads:
                if buffer.index in _SAME_FOR_ROWS and buffer not in known:
                    known[buffer] = writer.load(build.add(self.places.place(buffer).base, offset), mask)
                    self._name(known[buffer], buffer.name)
            zeros = [nothing] * len(block.partials)
            with loop(build, first_row, end_row, zeros, name="row") as (row, carry):
                values = self._row(row, number, offset, mask, known)
                for index, (node, _) in enumerate(block.partials):
                    carry.next[index] = build.fadd(carry.now[index], values[node])
            for (_, buffer), total in zip(block.partials, carry.last, strict=True):
                base = build.add(
                    writer.word(f"{buffer.name}.pointer"), build.mul(part, writer.word(f"{buffer.name}.stride"))
                )
                self._add_to(buffer, base, offset, total, mask)
        build.ret_void()
        return self.function

    def _add_to(self, buffer: Buffer, base: ir.Value, offset: ir.Value, value: ir.Value, mask: ir.Value | None) -> None:
        """Add the vector, or its number, to what stands in memory."""
        writer, build = self.writer, self.writer.build
        if buffer.axis:
            address = build.add(base, offset)
            writer.store(build.fadd(writer.load(address, mask), value), address, mask)
        else:
            one = build.extract_element(value, ir.Constant(ir.IntType(32), 0))
            writer.store_number(build.fadd(writer.load_number(base), one), base)

    def _reads(self) -> list[Buffer]:
        """The buffers that the block reads."""
        inside = set(self.block.nodes)
        found: dict[Buffer, None] = {}
        sums = dict(self.block.sums)

        def note(node: Node) -> None:
            if node in inside or node.op == "constant":
                return
            found[self.step.places[node]] = None

        for node in self.block.nodes:
            if node in self.step.numbers:
                found.update(dict.fromkeys(self.step.numbers[node]))
            for arg in sums.get(node, node.args) if node in sums else node.args:
                note(arg)
        for node, _ in (*self.block.stores, *self.block.partials):
            note(node)
        return list(found)

    def _row(
        self, row: ir.Value, number: ir.Value, offset: ir.Value, mask: ir.Value | None, known: Mapping[Buffer, ir.Value]
    ) -> dict[Node, ir.Value]:
        """Compute and store a vector of units of one row; returns the values."""
        writer, build, block = self.writer, self.writer.build, self.block
        cache: dict[str, ir.Value] = {}
        loaded = dict(known)
        values: dict[Node, ir.Value] = {}
        sums = {node: (index, rest) for index, (node, rest) in enumerate(block.sums)}

        def read(buffer: Buffer) -> ir.Value:
            if buffer not in loaded:
                address = self.places.read(buffer, row, cache)
                if buffer.axis == "":
                    loaded[buffer] = writer.splat(writer.load_number(address))
                else:
                    loaded[buffer] = writer.load(build.add(address, offset), mask)
                self._name(loaded[buffer], buffer.name)
            return loaded[buffer]

        def value(node: Node) -> ir.Value:
            if node in values:
                return values[node]
            if node.op == "constant":
                return ir.Constant(self.numbers.vector, [node["value"]] * self.numbers.lanes)
            return read(self.step.places[node])

        for node in block.nodes:
            if node in sums:
                index, rest = sums[node]
                total = self._sum(index, row, number)
                for term in rest:
                    total = build.fadd(total, value(term))
                values[node] = total
            elif node.op == "layer_norm":
                mean, scale = (read(buffer) for buffer in self.step.numbers[node])
                values[node] = build.fmul(build.fsub(value(node.args[0]), mean), scale)
            elif node.op == "softmax":
                largest, scale = (read(buffer) for buffer in self.step.numbers[node])
                above = build.fsub(value(node.args[0]), largest)
                values[node] = build.fmul(self.mathematics.exp(above), scale)
            else:
                values[node] = OPERATIONS[node.op](self.mathematics, *(value(arg) for arg in node.args))
            self._name(values[node], self.step.work.names.get(node) or ("sum" if node in sums else node.op))
        for node, _ in (*block.stores, *block.partials):
            values.setdefault(node, value(node))
        for node, buffer in block.stores:
            self._store(values[node], buffer, row, offset, mask, cache)
        return values

    @staticmethod
    def _name(value: ir.Value, name: str) -> None:
        """Name a value that has no name yet, for the reader of the generated code."""
        if isinstance(value, ir.Instruction) and value.name.startswith("."):
            value.name = name

    def _sum(self, index: int, row: ir.Value, number: ir.Value) -> ir.Value:
        """The sum that the tile left for this accumulator, row and vector of units."""
        build = self.writer.build
        _, _, first_row, _, first, end, sums, _ = self.function.args
        start = 0
        for each in self.block.passes:
            if index in each.accumulators:
                slot, count = each.accumulators.index(index), len(each.accumulators)
                break
            start += self.rows * len(each.accumulators) * self.panels
        blocks = build.sub(end, first)
        at = build.add(build.mul(build.sub(row, first_row), integer(count)), integer(slot))
        at = build.add(build.add(build.mul(at, blocks), build.sub(number, first)), integer(start))
        vector = self.numbers.vector
        return build.load(
            build.gep(sums, [at], source_etype=vector), typ=vector, align=self.numbers.lanes * self.numbers.bytes
        )

    def _store(
        self,
        value: ir.Value,
        buffer: Buffer,
        row: ir.Value,
        offset: ir.Value,
        mask: ir.Value | None,
        cache: dict[str, ir.Value],
    ) -> None:
        writer, build = self.writer, self.writer.build
        address = self.places.row(self.places.place(buffer, write=True), row, cache)
        if self.reverse and self.resets and buffer.index is Index.CARRIED:
            value = self._cut(value, buffer, row, offset, mask, cache)
        if buffer.axis == "":
            writer.store_number(build.extract_element(value, ir.Constant(ir.IntType(32), 0)), address)
        else:
            writer.store(value, build.add(address, offset), mask)

    def _cut(
        self,
        value: ir.Value,
        buffer: Buffer,
        row: ir.Value,
        offset: ir.Value,
        mask: ir.Value | None,
        cache: dict[str, ir.Value],
    ) -> ir.Value:
        """Where the state began anew, its cotangent goes to the restart and not to the step before."""
        writer, build = self.writer, self.writer.build
        anew = self.places.anew(row, cache)
        nothing = ir.Constant(self.numbers.vector, None)
        number = self.places.number(writer.word("rows"), row, cache)
        base = build.add(
            writer.word(f"{buffer.name}.anew"), build.mul(number, writer.word(f"{buffer.name}.anew stride"))
        )
        self._add_to(buffer, base, offset, build.select(anew, value, nothing), mask)
        return build.select(anew, nothing, value)
