"""The code of a whole scan: shares of rows, all steps, all phases, in one function."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from llvmlite import ir

from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.amx import Registers
from unrolled.backends.llvm.blocks import BlockWriter
from unrolled.backends.llvm.code import I8, I64, POINTER, VOID, Description, Numbers, Writer, integer, loop
from unrolled.backends.llvm.compiler import module_for
from unrolled.backends.llvm.machine import Machine
from unrolled.backends.llvm.phases import Block, Phase, Step
from unrolled.backends.llvm.places import Places
from unrolled.backends.llvm.reductions import write_reductions
from unrolled.backends.llvm.stretches import Columns, Fetched, Stretches, told_of
from unrolled.backends.llvm.team import declare_barrier
from unrolled.backends.llvm.tiles import AHEAD, FIELDS
from unrolled.backends.llvm.variant import Variant, panels_of, rows_at_once, rows_of

TILE = ir.FunctionType(VOID, (POINTER, POINTER, I64))


class ScanWriter:
    """The writing of one kernel: `kernel(description, thread, threads)`."""

    def __init__(self, step: Step, variant: Variant, machine: Machine):
        self.step = step
        self.variant = variant
        self.machine = machine
        self.numbers = Numbers(variant.double, machine)

    def module(self) -> ir.Module:
        """The code, and as the text `words` the names of the words that it reads, in their order."""
        description = Description()
        module = module_for("scan", self.machine)
        numbers, variant = self.numbers, self.variant
        pass_number = 0
        phases = []
        ready = narrow.operands_of(self.step) if variant.weights == narrow.MATRIX else {}
        waiting = dict(ready)
        for index, phase in enumerate(self.step.phases):
            reductions = None
            if phase.reductions:
                name = f"reductions_{index}"
                reductions = write_reductions(
                    module, name, phase.reductions, numbers, description, reverse=variant.reverse
                )
            fresh = [(waiting.pop(key), key) for key in narrow.phase_operands(phase) if key in waiting]
            if fresh:
                name = f"ready_{index}"
                reductions = narrow.write_ready(
                    module, name, fresh, numbers, description, reverse=variant.reverse, before=reductions
                )
            blocks = []
            for block in phase.blocks:
                writer = BlockWriter(
                    module,
                    f"block_{index}_{block.axis or 'number'}".replace(" ", "_"),
                    block,
                    self.step,
                    numbers,
                    description,
                    whole=variant.whole,
                    resets=variant.resets,
                    reverse=variant.reverse,
                    rows=rows_at_once(block, self.machine, variant.weights),
                    panels=panels_of(block),
                )
                blocks.append((block, writer.write(), pass_number))
                pass_number += len(block.passes)
            phases.append((phase, reductions, blocks))
        _Driver(module, self, description, phases).write()
        text = bytearray("\n".join(description.places).encode() + b"\0")
        words = ir.GlobalVariable(module, ir.ArrayType(I8, len(text)), "words")
        words.global_constant = True
        words.initializer = ir.Constant(words.value_type, text)
        return module


class _Driver:
    """The writing of the function that holds the loops."""

    def __init__(
        self,
        module: ir.Module,
        scan: ScanWriter,
        description: Description,
        phases: list[tuple[Phase, ir.Function | None, list[tuple[Block, ir.Function, int]]]],
    ):
        self.scan = scan
        self.machine = scan.machine
        self.variant = scan.variant
        self.phases = phases
        self.barrier = declare_barrier(module, scan.machine)
        self.function = ir.Function(module, ir.FunctionType(VOID, (POINTER, I64, I64)), "kernel")
        self.writer = Writer(self.function, scan.numbers, description, ("call", "thread", "threads"))
        build = self.build = self.writer.build
        vector = scan.numbers.vector
        most = [
            sum(len(each.accumulators) for each in block.passes) * self._rows_at_once(block) * panels_of(block)
            for _, _, blocks in phases
            for block, _, _ in blocks
        ]
        sums = build.alloca(ir.ArrayType(vector, max([1, *most])), name="sums")
        sums.align = 64
        self.sums = self._opaque(sums)
        told = [
            sum(sum(told_of(each, self.variant)) for each in block.passes)
            for _, _, blocks in phases
            for block, _, _ in blocks
        ]
        room = self._opaque(build.alloca(ir.ArrayType(I64, max([FIELDS, *told])), name="stretches"))
        self.stretches = Stretches(self.writer, scan.numbers, scan.step, scan.variant, room)
        self.arrived = build.alloca(I64, name="arrived")

    def _rows_of(self, block: Block) -> int:
        return rows_of(block, self.machine, self.variant.weights)

    def _rows_at_once(self, block: Block) -> int:
        return rows_at_once(block, self.machine, self.variant.weights)

    def _opaque(self, reserved: ir.Value) -> ir.Value:
        """A pointer that does not know what it points to, as all others here."""
        return self.build.inttoptr(self.build.ptrtoint(reserved, I64), POINTER)

    def write(self) -> None:
        """Emit it."""
        build, word = self.build, self.writer.word
        _, thread, threads = self.function.args
        shares, asked = word("shares"), word("members")
        whole = build.icmp_signed("==", threads, build.mul(shares, asked))
        members = build.select(whole, asked, integer(1))
        member = build.select(whole, build.srem(thread, asked), integer(0))
        first = build.select(whole, build.sdiv(thread, asked), thread)
        turns = build.select(whole, shares, threads)
        self.members, self.member = members, member
        matrix = self.variant.weights == narrow.MATRIX
        if matrix:
            Registers(build).configure()
        # Each share is the business of its own members alone.
        body, after = self.function.append_basic_block("shares"), self.function.append_basic_block("done")
        before = build.block
        build.cbranch(build.icmp_signed("<", first, shares), body, after)
        build.position_at_end(body)
        share = build.phi(I64, name="share")
        share.add_incoming(first, before)
        self.share(share)
        following = build.add(share, turns)
        share.add_incoming(following, build.block)
        build.cbranch(build.icmp_signed("<", following, shares), body, after)
        build.position_at_end(after)
        if matrix:
            Registers(build).release()
        build.ret_void()

    def share(self, share: ir.Value) -> None:
        """All steps of a share of the rows."""
        build, writer = self.build, self.writer
        bounds = writer.word("bounds")
        first = writer.load_word(bounds, share)
        end = writer.load_word(bounds, build.add(share, integer(1)))
        count = build.sub(end, first)
        build.store(integer(0), self.arrived)
        self.counter = build.add(writer.word("barriers"), build.mul(share, integer(64)))
        self.current_share = share
        start, stop = writer.word("start"), writer.word("stop")
        lengths = writer.word("lengths")
        active_place = self._active
        with loop(build, integer(0), build.sub(stop, start), name="turn") as (turn, _):
            if self.variant.reverse:
                step = build.sub(build.sub(stop, integer(1)), turn, name="step")
            else:
                step = build.add(start, turn, name="step")
            active = self._count_active(lengths, first, count, step, active_place)
            for phase, reductions, blocks in self.phases:
                self.phase(phase, reductions, blocks, step, first, active)

    @cached_property
    def _active(self) -> ir.Value:
        with self.build.goto_entry_block():
            return self.build.alloca(I64, name="active")

    def _count_active(
        self, lengths: ir.Value, first: ir.Value, count: ir.Value, step: ir.Value, place: ir.Value
    ) -> ir.Value:
        """The rows that have this step: they stand first, because rows are sorted by length."""
        build = self.build
        build.store(count, place)
        test = self.function.append_basic_block("test")
        fewer = self.function.append_basic_block("fewer")
        check = self.function.append_basic_block("check")
        found = self.function.append_basic_block("found")
        build.branch(test)
        build.position_at_end(test)
        active = build.load(place, typ=I64)
        build.cbranch(build.icmp_signed(">", active, integer(0)), check, found)
        build.position_at_end(check)
        last = self.writer.load_word(lengths, build.sub(build.add(first, active), integer(1)))
        build.cbranch(build.icmp_signed("<=", last, step), fewer, found)
        build.position_at_end(fewer)
        build.store(build.sub(active, integer(1)), place)
        build.branch(test)
        build.position_at_end(found)
        return build.load(place, typ=I64)

    def phase(
        self,
        phase: Phase,
        reductions: ir.Function | None,
        blocks: list[tuple[Block, ir.Function, int]],
        step: ir.Value,
        first: ir.Value,
        active: ir.Value,
    ) -> None:
        """Reductions of rows, then the blocks; all members wait for one another after each."""
        build = self.build
        if reductions is not None:
            low = build.add(first, self.part(active, self.member))
            high = build.add(first, self.part(active, build.add(self.member, integer(1))))
            build.call(reductions, [self.writer.described, step, low, high])
            self.wait()
        for block, function, number in blocks:
            if block.axis == "":
                with build.if_then(build.icmp_signed("==", self.member, integer(0))):
                    self.columns(block, function, number, step, first, active, integer(0), integer(1))
            else:
                lanes = self.scan.numbers.lanes
                width = self.writer.word(f"size {block.axis}")
                vectors = build.sdiv(build.add(width, integer(lanes - 1)), integer(lanes))
                panels = panels_of(block)
                groups = build.sdiv(build.add(vectors, integer(panels - 1)), integer(panels))
                low = self.part(groups, self.member)
                high = self.part(groups, build.add(self.member, integer(1)))
                self.groups(block, function, number, step, first, active, (low, high, groups, vectors))
        self.wait()

    def part(self, count: ir.Value, member: ir.Value) -> ir.Value:
        """Where a member's part of so many things begins."""
        build = self.build
        return build.sdiv(build.mul(count, member), self.members)

    def wait(self) -> None:
        """Wait for the other members."""
        build = self.build
        with build.if_then(build.icmp_signed(">", self.members, integer(1))):
            target = build.add(build.load(self.arrived, typ=I64), self.members)
            build.store(target, self.arrived)
            build.call(self.barrier, [self.writer.pointer(self.counter), target])

    def groups(
        self,
        block: Block,
        function: ir.Function,
        number: int,
        step: ir.Value,
        first: ir.Value,
        active: ir.Value,
        bounds: tuple[ir.Value, ir.Value, ir.Value, ir.Value],
    ) -> None:
        """The member's columns: group by group, where there are products, so that their weights stay near."""
        build = self.build
        low, high, groups, vectors = bounds
        if not block.passes:
            start, end = (build.sdiv(build.mul(vectors, bound), groups) for bound in (low, high))
            self.columns(block, function, number, step, first, active, start, end)
            return
        with loop(build, low, high, name="group") as (group, _):
            start = build.sdiv(build.mul(group, vectors), groups)
            end = build.sdiv(build.mul(build.add(group, integer(1)), vectors), groups)
            self.columns(block, function, number, step, first, active, start, end, group)

    def columns(
        self,
        block: Block,
        function: ir.Function,
        number: int,
        step: ir.Value,
        first: ir.Value,
        active: ir.Value,
        start: ir.Value,
        end: ir.Value,
        group: ir.Value | None = None,
    ) -> None:
        """All active rows of some vectors of units, tile by tile."""
        build, writer = self.build, self.writer
        described, share = writer.described, self.current_share
        if not block.passes:
            stop = build.add(first, active)
            build.call(function, [described, step, first, stop, start, end, self.sums, share])
            return
        places = Places(writer, step, self.variant.resets, self.variant.reverse)
        position = 0
        ahead = []
        for offset, each in enumerate(block.passes):
            ahead += self.stretches.describe(places, each, number + offset, position, Columns(group, start, end))
            position += sum(told_of(each, self.variant))
        rows = self._rows_of(block)
        at_once = self._rows_at_once(block) // rows
        tiles = build.sdiv(build.add(active, integer(rows - 1)), integer(rows))
        turns = build.sdiv(build.add(tiles, integer(at_once - 1)), integer(at_once))
        with loop(build, integer(0), turns, name="turn") as (turn, _):
            first_tile, last_tile = self._part(tiles, turn, turns)
            begin = build.add(first, build.sdiv(build.mul(active, first_tile), tiles))
            with loop(build, first_tile, last_tile, [begin], name="tile") as (tile, carry):
                low = carry.now[0]
                high = build.add(first, build.sdiv(build.mul(active, build.add(tile, integer(1))), tiles))
                self._tile(block, number, ahead, (tile, low, high, begin), (start, end))
                carry.next[0] = high
            build.call(function, [described, step, begin, carry.last[0], start, end, self.sums, share])

    def _part(self, count: ir.Value, number: ir.Value, parts: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where one of so many equal parts of a count begins and ends."""
        build = self.build
        following = build.add(number, integer(1))
        return build.sdiv(build.mul(count, number), parts), build.sdiv(build.mul(count, following), parts)

    def _tile(
        self,
        block: Block,
        number: int,
        ahead: Sequence[Fetched],
        place: tuple[ir.Value, ir.Value, ir.Value, ir.Value],
        vectors: tuple[ir.Value, ir.Value],
    ) -> None:
        """The sums of a tile of rows, for all passes."""
        build, writer = self.build, self.writer
        tile, low, high, begin = place
        rows = self._rows_of(block)
        blocks = build.sub(vectors[1], vectors[0])
        variant = build.add(build.mul(blocks, integer(rows + 1)), build.sub(high, low))
        for one in ahead:
            # Each tile fetches its part of the next group's weights.
            part = build.select(build.icmp_signed("<", tile, one.parts), tile, integer(0))
            self.stretches.tell(one.position, {AHEAD: build.add(one.following, build.mul(part, one.line))})
        filled, described_so_far = 0, 0
        for offset, each in enumerate(block.passes):
            code = writer.load_word(writer.word(f"tiles {number + offset}"), variant)
            own = build.mul(build.mul(build.sub(low, begin), integer(len(each.accumulators))), blocks)
            place_of_sums = build.add(own, integer(filled))
            sums = build.gep(self.sums, [place_of_sums], source_etype=self.scan.numbers.vector)
            stretches = build.gep(self.stretches.room, [integer(described_so_far)], source_etype=I64)
            build.call(build.inttoptr(code, TILE.as_pointer()), [sums, stretches, low])
            filled += self._rows_at_once(block) * len(each.accumulators) * panels_of(block)
            described_so_far += sum(told_of(each, self.variant))
