"""The code of reductions: values over all units of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from unrolled.backends.llvm.code import I64, POINTER, VOID, Description, Numbers, Writer, integer, intrinsic, loop
from unrolled.backends.llvm.mathematics import Mathematics
from unrolled.backends.llvm.phases import Reduction
from unrolled.backends.llvm.places import Places

SIGNATURE = ir.FunctionType(VOID, (POINTER, I64, I64, I64))  # description, step, first row, end of rows


def write_reductions(
    module: ir.Module,
    name: str,
    reductions: Sequence[Reduction],
    numbers: Numbers,
    description: Description,
    reverse: bool,
) -> ir.Function:
    """A function that computes the reductions of some rows."""
    function = ir.Function(module, SIGNATURE, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    writer = Writer(function, numbers, description, ("call", "step", "row", "rows_end"))
    places = Places(writer, function.args[1], resets=False, reverse=reverse)
    for reduction in reductions:
        places.place(reduction.argument)
        for buffer in reduction.results:
            places.place(buffer, write=True)
    with loop(writer.build, function.args[2], function.args[3], name="row") as (row, _):
        cache: dict[str, ir.Value] = {}
        for reduction in reductions:
            argument = places.row(places.place(reduction.argument), row, cache)
            results = [places.row(places.place(buffer, write=True), row, cache) for buffer in reduction.results]
            _RowReduction(writer, reduction, argument, results).write()
    writer.build.ret_void()
    return function


class _RowReduction:
    """The writing of one reduction of one row."""

    def __init__(self, writer: Writer, reduction: Reduction, argument: ir.Value, results: Sequence[ir.Value]):
        self.writer = writer
        self.build = writer.build
        self.numbers = writer.numbers
        self.reduction = reduction
        self.argument = argument
        self.results = results
        self.width = self.size(reduction.argument.axis)

    def size(self, axis: str) -> ir.Value:
        return self.writer.word(f"size {axis}")

    def write(self) -> None:
        """Emit it."""
        {
            "sum": self.sum,
            "layer_norm": self.layer_norm,
            "inverse_deviation": self.inverse_deviation,
            "softmax": self.softmax,
            "cumsum": lambda: self.cumsum(reversed_units=False),
            "cumsum_reversed": lambda: self.cumsum(reversed_units=True),
            "repeat": self.repeat,
            "fold": self.fold,
        }[self.reduction.node.op]()

    def over_units(
        self,
        start: ir.Value,
        term: Callable[[ir.Value], ir.Value],
        join: Callable[[ir.Value, ir.Value], ir.Value],
        otherwise: float = 0.0,
    ) -> ir.Value:
        """Join the terms of all vectors of the row; what stands beyond the last unit counts as `otherwise`."""
        build, lanes = self.build, self.numbers.lanes
        with loop(build, integer(0), self.width, [start], step=lanes) as (column, carry):
            mask = self.writer.mask(column, self.width)
            address = build.add(self.argument, build.mul(column, integer(self.numbers.bytes)))
            value = term(self.writer.load(address, mask))
            filler = ir.Constant(self.numbers.vector, [otherwise] * lanes)
            carry.next[0] = join(carry.now[0], build.select(mask, value, filler))
        return carry.last[0]

    def total(self, term: Callable[[ir.Value], ir.Value]) -> ir.Value:
        """The sum of the terms, as a number."""
        sums = self.over_units(ir.Constant(self.numbers.vector, None), term, self.build.fadd)
        scalar = self.numbers.scalar
        add = intrinsic(
            self.writer.module, f"llvm.vector.reduce.fadd.{self.numbers.suffix}", scalar, [scalar, self.numbers.vector]
        )
        return self.build.call(add, [ir.Constant(scalar, 0.0), sums], fastmath=("reassoc",))

    def count(self) -> ir.Value:
        return self.build.sitofp(self.width, self.numbers.scalar)

    def sum(self) -> None:
        self.writer.store_number(self.total(lambda value: value), self.results[0])

    def moments(self) -> tuple[ir.Value, ir.Value]:
        """The mean, and one over the deviation."""
        build, scalar = self.build, self.numbers.scalar
        mean = build.fdiv(self.total(lambda value: value), self.count())
        around = self.writer.splat(mean)

        def square(value: ir.Value) -> ir.Value:
            apart = build.fsub(value, around)
            return build.fmul(apart, apart)

        variance = build.fdiv(self.total(square), self.count())
        variance = build.fadd(variance, ir.Constant(scalar, self.reduction.node["epsilon"]))
        root = intrinsic(self.writer.module, f"llvm.sqrt.{self.numbers.suffix[-3:]}", scalar, [scalar])
        return mean, build.fdiv(ir.Constant(scalar, 1.0), build.call(root, [variance]))

    def layer_norm(self) -> None:
        for value, result in zip(self.moments(), self.results, strict=True):
            self.writer.store_number(value, result)

    def inverse_deviation(self) -> None:
        self.writer.store_number(self.moments()[1], self.results[0])

    def softmax(self) -> None:
        build, scalar = self.build, self.numbers.scalar
        lowest = float("-inf")
        start = ir.Constant(self.numbers.vector, [lowest] * self.numbers.lanes)
        mathematics = Mathematics(build)
        largest = self.over_units(start, lambda value: value, mathematics.maximum, lowest)
        find = intrinsic(
            self.writer.module, f"llvm.vector.reduce.fmaximum.{self.numbers.suffix}", scalar, [self.numbers.vector]
        )
        number = build.call(find, [largest])
        above = self.writer.splat(number)
        total = self.total(lambda value: mathematics.exp(build.fsub(value, above)))
        self.writer.store_number(number, self.results[0])
        self.writer.store_number(build.fdiv(ir.Constant(scalar, 1.0), total), self.results[1])

    def unit(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.build.add(base, self.build.mul(index, integer(self.numbers.bytes)))

    def cumsum(self, *, reversed_units: bool) -> None:
        build, nothing = self.build, ir.Constant(self.numbers.scalar, 0.0)
        with loop(build, integer(0), self.width, [nothing]) as (count, carry):
            place = build.sub(build.sub(self.width, integer(1)), count) if reversed_units else count
            carry.next[0] = build.fadd(carry.now[0], self.writer.load_number(self.unit(self.argument, place)))
            self.writer.store_number(carry.next[0], self.unit(self.results[0], place))

    def repeat(self) -> None:
        build, long = self.build, self.size(self.reduction.results[0].axis)
        times = build.sdiv(long, self.width)
        with loop(build, integer(0), long) as (place, _):
            value = self.writer.load_number(self.unit(self.argument, build.sdiv(place, times)))
            self.writer.store_number(value, self.unit(self.results[0], place))

    def fold(self) -> None:
        build, short = self.build, self.size(self.reduction.results[0].axis)
        times = build.sdiv(self.width, short)
        nothing = ir.Constant(self.numbers.scalar, 0.0)
        with loop(build, integer(0), short) as (place, _):
            start = build.mul(place, times)
            with loop(build, start, build.add(start, times), [nothing]) as (long, carry):
                carry.next[0] = build.fadd(carry.now[0], self.writer.load_number(self.unit(self.argument, long)))
            self.writer.store_number(carry.last[0], self.unit(self.results[0], place))
