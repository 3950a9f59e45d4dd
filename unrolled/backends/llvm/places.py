"""Where the value of a row stands at a step: the address of each kind of buffer."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from unrolled.backends.llvm.code import I1, I8, Writer, integer
from unrolled.backends.llvm.work import Buffer, Index


@dataclass(frozen=True)
class Place:
    """A buffer at one step: its address, bytes from row to row, and the array of the rows' numbers, if they have any.

    numbers   None: one value for all rows; "row": the row's own number
    """

    base: ir.Value
    stride: ir.Value | None
    numbers: ir.Value | str | None


class Places:
    """The addresses of buffers in a function that is being written.

    step     the step, counted as it is read
    resets   whether states may begin anew within a sequence
    """

    def __init__(self, writer: Writer, step: ir.Value, resets: bool, reverse: bool):
        self.writer = writer
        self.step = step
        self.resets = resets
        self.reverse = reverse
        self._places: dict[tuple[Buffer, bool], Place] = {}

    def place(self, buffer: Buffer, write: bool = False) -> Place:
        """The buffer at this step; found before any loop."""
        key = (buffer, write)
        if key not in self._places:
            self._places[key] = self._find(buffer, write)
        return self._places[key]

    def _find(self, buffer: Buffer, write: bool) -> Place:
        writer, build, name = self.writer, self.writer.build, buffer.name
        word, step = writer.word, self.step
        index = buffer.index
        if index is Index.FIXED:
            return Place(word(f"{name}.pointer"), None, None)
        if index is Index.CARRIED:
            odd = build.trunc(step, I1)
            even_place, odd_place = word(f"{name}.even"), word(f"{name}.odd")
            if write:
                even_place, odd_place = odd_place, even_place
            return Place(build.select(odd, odd_place, even_place), word(f"{name}.stride"), "row")
        base, stride = word(f"{name}.pointer"), word(f"{name}.stride")
        if index is Index.CLOCK:
            return Place(build.add(base, build.mul(step, stride)), None, None)
        if index is Index.SCRATCH:
            return Place(base, stride, "row")
        if index is Index.ROW:
            return Place(base, stride, word("rows"))
        if index is Index.LOOKUP:
            return Place(base, stride, "lookup")
        if index is Index.KEPT:
            at = build.sub(build.mul(step, word("kept delta")), word("kept lowest"))
            base = build.add(base, build.mul(at, stride))
            return Place(base, stride, word("kept first"))
        if index is Index.STEP:
            base = build.add(base, build.mul(build.mul(step, word("delta")), stride))
            return Place(base, stride, word("first"))
        begins = build.icmp_signed("==", step, integer(0))
        before = build.mul(build.sub(step, integer(1)), word("delta"))
        base = build.add(base, build.mul(before, stride))
        return Place(
            build.select(begins, word(f"{name}.initial"), base),
            build.select(begins, word(f"{name}.initial stride"), stride),
            build.select(begins, word("rows"), word("first")),
        )

    def row(self, place: Place, row: ir.Value, cache: dict[str, ir.Value]) -> ir.Value:
        """The address of a row's value; `cache` keeps what buffers share, as long as the row is the same."""
        build = self.writer.build
        if place.numbers is None:
            return place.base
        assert place.stride is not None
        number = self.number(place.numbers, row, cache)
        return build.add(place.base, build.mul(number, place.stride))

    def number(self, numbers: ir.Value | str, row: ir.Value, cache: dict[str, ir.Value]) -> ir.Value:
        """The row's number in an array of such."""
        if numbers == "row":
            return row
        if numbers == "lookup":
            key = "lookup"
            if key not in cache:
                build = self.writer.build
                at = build.add(
                    self.number(self.writer.word("first"), row, cache),
                    build.mul(self.step, self.writer.word("delta")),
                )
                cache[key] = self.writer.load_word(self.writer.word("symbols"), at)
            return cache[key]
        assert isinstance(numbers, ir.Value)
        key = numbers.name
        if key not in cache:
            cache[key] = self.writer.load_word(numbers, row)
        return cache[key]

    def anew(self, row: ir.Value, cache: dict[str, ir.Value]) -> ir.Value:
        """Whether the row's state begins anew at this step."""
        if "anew" not in cache:
            writer, build = self.writer, self.writer.build
            number = self.number(writer.word("rows"), row, cache)
            at = build.add(build.mul(self.step, writer.word("batch")), number)
            flags = writer.pointer(writer.word("resets"))
            flag = build.load(build.gep(flags, [at], source_etype=I8), typ=I8)
            cache["anew"] = build.icmp_unsigned("!=", flag, ir.Constant(I8, 0))
        return cache["anew"]

    def read(self, buffer: Buffer, row: ir.Value, cache: dict[str, ir.Value]) -> ir.Value:
        """The address that a row's value is read from: where a state begins anew, that of its restart."""
        address = self.row(self.place(buffer), row, cache)
        if not self.resets or not self.restarts(buffer):
            return address
        writer, build = self.writer, self.writer.build
        number = self.number(writer.word("rows"), row, cache)
        restart = build.add(
            writer.word(f"{buffer.name}.restart"), build.mul(number, writer.word(f"{buffer.name}.restart stride"))
        )
        return build.select(self.anew(row, cache), restart, address)

    def restarts(self, buffer: Buffer) -> bool:
        """Whether the buffer holds old values of a state."""
        return buffer.index is Index.BEFORE or (buffer.index is Index.CARRIED and not self.reverse)
