"""One layer of a stream: its buffers, and the words of the kernels that take its steps; no torch."""

from __future__ import annotations

import ctypes
import math
import sys
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from llvmlite import ir

from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.code import I64, POINTER, VOID, integer, loop
from unrolled.backends.llvm.compiler import Library, compiled, module_for
from unrolled.backends.llvm.constants import Array, matrix_of, symbols_of, values_of
from unrolled.backends.llvm.forward import TABLE, Forward, make_forward
from unrolled.backends.llvm.layout import ALIGNMENT, Layout
from unrolled.backends.llvm.machine import Machine, host
from unrolled.backends.llvm.phases import make_step
from unrolled.backends.llvm.rows import dense_rows
from unrolled.backends.llvm.scan_code import ScanCode, splits_of
from unrolled.backends.llvm.team import KERNEL, define_guarded, run
from unrolled.backends.llvm.variant import Variant
from unrolled.backends.llvm.work import Index
from unrolled.errors import ShapeError
from unrolled.ir.graph import Node
from unrolled.ir.plan import Plan, plan_of_key
from unrolled.ir.program import name_below

# A row's length that no step reaches.
ENDLESS = 2**62
# Of an entry of a program: the kernel, its words, and the places of those for the step, the one after and the barrier.
ENTRY = 5
# Fewer bytes of weights are read by one thread; of more, each has about as many.
SHARED_BYTES, THREAD_BYTES = 5 * 2**18, 2**20


@dataclass(frozen=True)
class Frozen:
    """All that the steps of one layer depend on.

    plan        the plan's key
    sizes       of each axis
    scalars     the run-time numbers
    parameters  in the order of the plan's groups
    initial     state -> what it begins from, (axis,)
    precision   the type that products of float32 are taken in, with sums in float32: "bfloat16", or "" for their own
    """

    plan: str
    sizes: Mapping[str, int]
    scalars: Mapping[str, float]
    parameters: tuple[Array, ...]
    initial: Mapping[str, Array]
    precision: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of all numbers."""
        return next(iter(self.initial.values())).dtype

    @property
    def weight_bytes(self) -> int:
        """The bytes of the parameters."""
        return sum(value.nbytes for value in self.parameters)


@dataclass
class Form:
    """The words of a kernel for one kind of input. The step among them is 0 or 1: only its parity counts."""

    code: ScanCode
    words: array[int]
    kept: list[Any]

    def place(self, name: str) -> int:
        """The place of a word, -1 if the code does not read it."""
        return self.code.words.index(name) if name in self.code.words else -1

    @cached_property
    def _start(self) -> int:
        return self.place("start")

    @property
    def parity(self) -> int:
        """The next step, 0 or 1: which half of the states it reads."""
        return self.words[self._start]

    def set_parity(self, parity: int) -> None:
        """Say which half of the states the next step reads."""
        self.words[self._start], self.words[self.place("stop")] = parity, parity + 1

    def entry(self) -> tuple[int, ...]:
        """What a program says of it."""
        first = self.words.buffer_info()[0]
        return self.code.address, first, *(first + 8 * self.place(name) for name in ("start", "stop", "barriers"))

    def copy(self) -> Form:
        """The same kernel and weights with words, and barriers, of its own."""
        words, barriers = array("q", self.words), new_barriers()
        words[self.place("barriers")] = int(barriers.ctypes.data)
        return Form(self.code, words, [*self.kept, barriers])


class SteppedLayer:
    """The buffers of a layer, and its kernels.

    x         what a step reads, (batch, input): the y of the layer below, if there is one
    y, taps   what it leaves, (batch, output) and each (batch, axis)
    further   the inputs besides x that each step is given; linked, those that are taps of the layer below
    """

    def __init__(self, frozen: Frozen, batch: int, threads: int, below: SteppedLayer | None = None):
        self.frozen = frozen
        self.batch = batch
        self.threads = threads
        self.plan: Plan = plan_of_key(frozen.plan)
        # numpy's own: types that were unpickled are others.
        program, self.dtype = self.plan.program, np.dtype(frozen.dtype.name)
        self.symbols = symbols_of(self.plan.groups, frozen.parameters)
        (self.input, shape), *further = program.inputs
        self.input_size = frozen.sizes[shape[0]]
        self.x: Array = self._zeros(self.input_size) if below is None else below.y
        if self.x.shape[1] != self.input_size:
            raise ShapeError(
                f"a layer gives {self.x.shape[1]} values, the one above it has input_size {self.input_size}"
            )
        self.y: Array = self._zeros(self._width(program.states[0][1]))
        self.numbers = np.zeros(batch, np.int64)
        self.taps = {name: self._zeros(self._width(program.tap(name).shape)) for name in self.plan.taps}
        linked = [] if below is None else [name for name, _ in further if name_below(name)]
        self.further = {name: self._zeros(self._width(shape)) for name, shape in further if name not in linked}
        self.linked = {} if below is None else {name: below.taps[name_below(name)] for name in linked}
        for name, value in self.linked.items():
            expected = self._width(dict(further)[name])
            if value.shape[1] != expected:
                raise ShapeError(
                    f"{name} of the layer below has {value.shape[1]} values; the one above reads {expected}"
                )
        self.carried = {
            name: aligned((2, batch, self._whole_vectors(self._width(shape)) if shape else 1), self.dtype)
            for name, shape in program.states
        }
        self.clock = 0
        self.beats: dict[str, tuple[Array, Array]] = {}
        for node in program.nodes:
            if node.op == "tick":
                units = self._width(node.shape)
                periods = np.repeat(np.array(node["periods"], np.int64), units // len(node["periods"]))
                self.beats[f"tick {node['periods']}"] = (periods, np.zeros(units, self.dtype))

    def _width(self, shape: tuple[str, ...]) -> int:
        return self.frozen.sizes[shape[0]] if shape else 1

    def _whole_vectors(self, units: int) -> int:
        lanes = host().lanes(self.dtype.itemsize == 8)
        return -(-units // lanes) * lanes

    def _zeros(self, units: int) -> Array:
        return aligned((self.batch, units), self.dtype)

    # State

    def state(self, parity: int) -> dict[str, Array]:
        """Copies of the states, by name."""
        shapes = self.plan.program.states
        return {name: self.carried[name][parity, :, : self._width(shape)].copy() for name, shape in shapes}

    def set_state(self, name: str, value: Array, parity: int, rows: Any = slice(None)) -> None:
        """Write a state."""
        shape = dict(self.plan.program.states)[name]
        self.carried[name][parity, rows, : self._width(shape)] = value

    def due(self) -> None:
        """Say which units are due at this step."""
        for periods, beats in self.beats.values():
            beats[...] = self.clock % periods == 0

    # Kernels

    @cached_property
    def by_vectors(self) -> Form:
        """The kernel that reads vectors."""
        return self._form("")

    @cached_property
    def by_numbers(self) -> Form:
        """The kernel that reads the whole numbers of one-hot vectors: rows of a table."""
        uses = [arg for node in self.plan.program.nodes if node.op != "product" for arg in node.args]
        if any(node.op == "sequence" and node["name"] == self.input for node in (*uses, *self.plan.program.results)):
            raise ShapeError(f"the cell uses {self.input} itself, not only maps of it: give vectors, not whole numbers")
        return self._form(TABLE)

    def _form(self, mode: str) -> Form:
        sizes = dict(self.frozen.sizes)
        weights = narrow.way(host(), self.batch) if self.frozen.precision else ""
        double = self.dtype.itemsize == 8
        code, forward = _code(self.frozen.plan, tuple(sorted(sizes.items())), mode, double, weights, host())
        axes, extra = forward.work.axes, forward.work.extra
        sizes = {**{axes.get(axis, axis): size for axis, size in sizes.items()}, **sizes, **extra}
        layout = Layout(code, sizes, self.dtype, self.batch, 1)
        rows = dense_rows(ENDLESS, self.batch, False, 1).block
        arrays: dict[str, Array] = {}

        def rows_of(name: str, value: Array) -> None:
            arrays[name] = value
            layout.rows_of(name, name, value.shape[-1] * layout.item)

        rows_of(f"input {self.input}", self.x)
        for name, value in {**self.further, **self.linked}.items():
            rows_of(f"input {name}", value)
        for buffer, value in zip(forward.outputs, (self.y, *self.taps.values()), strict=True):
            rows_of(buffer.name, value)
        for name, (_, value) in self.beats.items():
            arrays[name] = value
            layout.rows_of(name, name, 0)
        for name, value in self.carried.items():
            for half, which in zip(value, ("even", "odd"), strict=True):
                arrays[f"{name} {which}"] = half
                layout.address(f"state {name}.{which}", f"{name} {which}")
            layout.number(f"state {name}.stride", value.shape[-1] * layout.item)
        for name, value in self._fixed(code, sizes, forward).items():
            rows_of(name, value)
        if mode == TABLE:
            arrays["symbols"] = self.numbers
            layout.address("symbols", "symbols")
            self._set_table(layout, arrays, forward, sizes)
        for name, number in {"delta": 0, "members": self.threads, "start": 0, "stop": 1}.items():
            layout.number(name, number)
        arrays["barriers"] = new_barriers()
        layout.address("barriers", "barriers")
        layout.set_tiles({self.batch}, splits_of(self.batch), self.threads)

        def place(node: Node) -> tuple[str, int, tuple[int, int]]:
            matrix = arrays[f"map {node.symbol}"] = np.ascontiguousarray(
                matrix_of(node, self.symbols, sizes), self.dtype
            )
            return f"map {node.symbol}", 0, (matrix.strides[0], matrix.strides[1])

        layout.set_weights(place, 1)
        layout.finish()
        memory = aligned((layout.size,), np.dtype(np.uint8))
        given = {name: _Address(value) for name, value in arrays.items()}
        launches = layout.launches(given, int(memory.ctypes.data), int(rows.ctypes.data))
        run(*launches.pack())
        kept = [layout, memory, rows, *(value for name, value in arrays.items() if not name.startswith("map "))]
        return Form(code, array("q", launches.words.tobytes()), kept)

    def _fixed(self, code: ScanCode, sizes: Mapping[str, int], forward: Forward) -> dict[str, Array]:
        """Vectors and numbers that are the same at every step."""
        scalars = self.frozen.scalars
        found: dict[str, Any] = {f"scalar {name}": number for name, number in scalars.items()}
        for buffer in code.of_index(Index.FIXED):
            if buffer.name.startswith("size "):
                found[buffer.name] = sizes[buffer.name.removeprefix("size ")]
        found |= {symbol: value for symbol, value in self.symbols.items() if value.ndim < 2}
        values = values_of([node for node, _ in forward.once], self.symbols, scalars, sizes)
        for (node, buffer), value in zip(forward.once, values, strict=True):
            found[buffer.name] = np.broadcast_to(value, sizes[node.shape[0]]) if node.shape else value
        return {name: np.array(value, self.dtype, ndmin=1) for name, value in found.items()}

    def _set_table(self, layout: Layout, arrays: dict[str, Array], forward: Forward, sizes: Mapping[str, int]) -> None:
        """The products with all one-hot vectors, side by side."""
        products = forward.outside[self.input]
        if not products:
            return
        maps = [matrix_of(node.args[0], self.symbols, sizes) for node in products]
        table = arrays["table"] = np.ascontiguousarray(np.concatenate(maps).T, self.dtype)
        column = 0
        for number, each in enumerate(maps):
            layout.rows_of(f"product {self.input} {number}", "table", table.strides[0], column * layout.item)
            column += len(each)


class _Address:
    """An array's address, asked for as a tensor's is."""

    def __init__(self, value: Array):
        self.value = value

    def data_ptr(self) -> int:
        return int(self.value.ctypes.data)


def new_barriers() -> Array:
    """Two counters, whose addresses differ in one bit."""
    return aligned((2 * ALIGNMENT,), np.dtype(np.uint8), 2 * ALIGNMENT)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any], alignment: int = ALIGNMENT) -> Array:
    """Zeros that begin where a cache line does."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + alignment, np.uint8)
    start = -int(memory.ctypes.data) % alignment
    return memory[start : start + size].view(dtype).reshape(shape)


@cache
def _code(
    key: str, sizes: tuple[tuple[str, int], ...], mode: str, double: bool, weights: str, machine: Machine
) -> tuple[ScanCode, Forward]:
    plan = plan_of_key(key)
    forward = make_forward(plan, False, {plan.program.inputs[0][0]: mode} if mode else {}, carried=True)
    lanes = machine.lanes(double)
    whole = all(size % lanes == 0 for size in {**dict(sizes), **forward.work.extra}.values())
    variant = Variant(double=double, whole=whole, weights=weights)
    return ScanCode(make_step(forward.work), variant, machine), forward


def program_of(forms: list[Form]) -> array[int]:
    """What `launcher` runs: the forms one after the other, each for one step."""
    entries = [word for form in forms for word in form.entry()]
    return array("q", [len(forms), *entries])


def threads_for(weight_bytes: int) -> int:
    """How many threads share a step: where the weights outgrow a core's second cache, each keeps a part of them.

    Measured: a step of a 256-unit LSTM, 2 MB, is twice as fast with two threads, one of 192 units as fast with one. In
    a process without torch there is one thread.
    """
    torch = sys.modules.get("torch")
    most = 1 if torch is None or weight_bytes <= SHARED_BYTES else torch.get_num_threads()
    return max(1, min(most, -(-weight_bytes // THREAD_BYTES)))


def launcher(threads: int, release: bool) -> Callable[[int], None]:
    """The function that runs a program at an address; `release` lets other threads of Python run meanwhile."""
    if threads > 1:
        return partial(_run_on_team, _library().address("kernel"), threads)
    alone: Callable[[int], None] = _serial_launcher(release)
    return alone


def _run_on_team(kernel: int, threads: int, program: int) -> None:
    run(kernel, program, threads)


@cache
def _serial_launcher(release: bool) -> Any:
    kind = ctypes.CFUNCTYPE if release else ctypes.PYFUNCTYPE
    return kind(None, ctypes.c_void_p)(_library().address("steps"))


def _library() -> Library:
    machine = host()
    return compiled("steps", "steps", lambda: _steps(machine), machine)


def _steps(machine: Machine) -> ir.Module:
    """The code that runs programs: `kernel(program, thread, threads)` on a team, `steps(program)` alone.

    After each kernel the words for the next step are set: its parity, and the other of two barriers, at zero. By then
    all threads have entered the kernel and read them.
    """
    module = module_for("steps", machine)
    kernel = ir.Function(module, ir.FunctionType(VOID, [POINTER, I64, I64]), "kernel")
    program, thread, threads = kernel.args
    build = ir.IRBuilder(kernel.append_basic_block("entry"))

    def word(at: ir.Value) -> ir.Value:
        return build.load(build.gep(program, [at], source_etype=I64), typ=I64)

    with loop(build, integer(0), word(integer(0))) as (number, _):
        first = build.add(build.mul(number, integer(ENTRY)), integer(1))
        code, *places = (word(build.add(first, integer(index))) for index in range(ENTRY))
        words, start, stop, barrier = (build.inttoptr(place, POINTER) for place in places)
        build.call(build.inttoptr(code, KERNEL.as_pointer()), [words, thread, threads])
        with build.if_then(build.icmp_signed("==", thread, integer(0))):
            following = build.xor(build.load(start, typ=I64), integer(1))
            build.store(following, start)
            build.store(build.add(following, integer(1)), stop)
            counter = build.xor(build.load(barrier, typ=I64), integer(ALIGNMENT))
            build.store(integer(0), build.inttoptr(counter, POINTER))
            build.store(counter, barrier)
    build.ret_void()
    steps = ir.Function(module, ir.FunctionType(VOID, [POINTER]), "steps")
    build = ir.IRBuilder(steps.append_basic_block("entry"))
    build.call(define_guarded(module, machine), [kernel, steps.args[0], integer(0), integer(1)])
    build.ret_void()
    return module
