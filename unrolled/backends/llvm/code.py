"""What all generated functions are written with: types, loops, and the description of a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llvmlite import ir

from unrolled.backends.llvm.machine import Machine

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
POINTER = ir.PointerType()
VOID = ir.VoidType()


def integer(value: int) -> ir.Constant:
    """A 64-bit number."""
    return ir.Constant(I64, value)


@dataclass(frozen=True)
class Numbers:
    """The numbers that a kernel computes with, and their vectors."""

    double: bool
    machine: Machine

    @property
    def scalar(self) -> ir.Type:
        """LLVM's type of one number."""
        return ir.DoubleType() if self.double else ir.FloatType()

    @property
    def bytes(self) -> int:
        """The size of one number."""
        return 8 if self.double else 4

    @property
    def lanes(self) -> int:
        """The numbers of a vector."""
        return self.machine.lanes(self.double)

    @property
    def vector(self) -> ir.VectorType:
        """LLVM's type of a vector."""
        return ir.VectorType(self.scalar, self.lanes)

    @property
    def suffix(self) -> str:
        """How intrinsics name the vector."""
        return f"v{self.lanes}{'f64' if self.double else 'f32'}"


@dataclass
class Description:
    """The words that describe a call, by name: addresses, steps from row to row in bytes, sizes."""

    places: dict[str, int] = field(default_factory=dict)

    def place(self, name: str) -> int:
        """The place of a word, a new one if it has none yet."""
        return self.places.setdefault(name, len(self.places))


def intrinsic(module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
    """The declaration of an intrinsic, once a module."""
    known = module.globals.get(name)
    return known if known is not None else ir.Function(module, ir.FunctionType(result, arguments), name)


@dataclass
class Carry:
    """Values that a loop hands from turn to turn: `now` in the turn, `next` for the next one, `last` after it."""

    now: list[ir.Value]
    next: list[ir.Value]
    last: list[ir.Value]


@contextmanager
def loop(
    build: ir.IRBuilder,
    start: ir.Value,
    end: ir.Value,
    carried: Sequence[ir.Value] = (),
    step: int = 1,
    name: str = "number",
) -> Iterator[tuple[ir.Value, Carry]]:
    """Code for each number from `start` to below `end`; values that are carried start as given."""
    before = build.block
    body, after = (build.function.append_basic_block(f"{word} {name}") for word in ("each", "after"))
    build.cbranch(build.icmp_signed("<", start, end), body, after)
    build.position_at_end(body)
    number = build.phi(I64, name=name)
    number.add_incoming(start, before)
    now = [build.phi(value.type) for value in carried]
    for phi, value in zip(now, carried, strict=True):
        phi.add_incoming(value, before)
    carry = Carry(list(now), list(now), [])
    yield number, carry
    following = build.add(number, integer(step))
    ending = build.block
    build.cbranch(build.icmp_signed("<", following, end), body, after)
    number.add_incoming(following, ending)
    build.position_at_end(after)
    for phi, first, new in zip(now, carried, carry.next, strict=True):
        phi.add_incoming(new, ending)
        last = build.phi(first.type)
        last.add_incoming(first, before)
        last.add_incoming(new, ending)
        carry.last.append(last)


def name_arguments(function: ir.Function, *names: str) -> None:
    """Name the arguments of a function, for the reader of the generated code."""
    for argument, name in zip(function.args, names, strict=True):
        argument.name = name


class Writer:
    """A function that is being written, with the words of the description at hand; `names` are its arguments'."""

    def __init__(self, function: ir.Function, numbers: Numbers, description: Description, names: Sequence[str] = ()):
        if names:
            name_arguments(function, *names)
        self.function = function
        self.numbers = numbers
        self.description = description
        self.module = function.module
        self.build = ir.IRBuilder(function.append_basic_block("entry"))
        self._words: dict[str, ir.Value] = {}

    @property
    def described(self) -> ir.Value:
        """The address of the description."""
        return self.function.args[0]

    def word(self, name: str) -> ir.Value:
        """A word of the description, read once, at the beginning of the function."""
        if name not in self._words:
            entry = self.function.entry_basic_block
            place = integer(self.description.place(name))
            if entry.is_terminated:
                with self.build.goto_block(entry):
                    self._words[name] = self._read_word(place, name)
            else:
                self._words[name] = self._read_word(place, name)
        return self._words[name]

    def _read_word(self, place: ir.Value, name: str) -> ir.Value:
        address = self.build.gep(self.described, [place], source_etype=I64)
        return self.build.load(address, typ=I64, name=name)

    def pointer(self, address: ir.Value) -> ir.Value:
        """An address as a pointer."""
        return self.build.inttoptr(address, POINTER)

    def load_word(self, array: ir.Value, index: ir.Value) -> ir.Value:
        """A word of an array of words at an address."""
        return self.build.load(self.build.gep(self.pointer(array), [index], source_etype=I64), typ=I64)

    def splat(self, value: ir.Value) -> ir.Value:
        """A vector of one number."""
        build, vector = self.build, self.numbers.vector
        single = build.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(I32, 0))
        mask = ir.Constant(ir.VectorType(I32, self.numbers.lanes), None)
        return build.shuffle_vector(single, ir.Constant(vector, ir.Undefined), mask)

    def mask(self, column: ir.Value, width: ir.Value) -> ir.Value:
        """Which units of the vector from `column` on are below `width`."""
        build, lanes = self.build, self.numbers.lanes
        wide = ir.VectorType(I64, lanes)
        left = build.insert_element(ir.Constant(wide, ir.Undefined), build.sub(width, column), ir.Constant(I32, 0))
        zero = ir.Constant(ir.VectorType(I32, lanes), None)
        left = build.shuffle_vector(left, ir.Constant(wide, ir.Undefined), zero)
        return build.icmp_signed("<", ir.Constant(wide, list(range(lanes))), left)

    def load(self, address: ir.Value, mask: ir.Value | None, otherwise: float = 0.0) -> ir.Value:
        """The vector at an address."""
        build, numbers = self.build, self.numbers
        pointer = self.pointer(address)
        if mask is None:
            return build.load(pointer, typ=numbers.vector, align=numbers.bytes)
        found = intrinsic(
            self.module,
            f"llvm.masked.load.{numbers.suffix}.p0",
            numbers.vector,
            [POINTER, I32, mask.type, numbers.vector],
        )
        rest = ir.Constant(numbers.vector, [otherwise] * numbers.lanes)
        return build.call(found, [pointer, ir.Constant(I32, numbers.bytes), mask, rest])

    def store(self, value: ir.Value, address: ir.Value, mask: ir.Value | None) -> None:
        """Write the vector to an address."""
        build, numbers = self.build, self.numbers
        pointer = self.pointer(address)
        if mask is None:
            build.store(value, pointer, align=numbers.bytes)
            return
        found = intrinsic(
            self.module, f"llvm.masked.store.{numbers.suffix}.p0", VOID, [numbers.vector, POINTER, I32, mask.type]
        )
        build.call(found, [value, pointer, ir.Constant(I32, numbers.bytes), mask])

    def load_number(self, address: ir.Value) -> ir.Value:
        """The number at an address."""
        return self.build.load(self.pointer(address), typ=self.numbers.scalar)

    def store_number(self, value: ir.Value, address: ir.Value) -> None:
        """Write a number."""
        self.build.store(value, self.pointer(address), align=self.numbers.bytes)
