"""The matrix registers of x86 processors (AMX): 16 rows of 64 bytes, multiplied as bfloat16 and summed as float32.

Operands and weights stand in memory as `narrow` leaves them.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from llvmlite import ir

from unrolled.backends.llvm.code import I8, I64, POINTER, VOID, integer, intrinsic, loop
from unrolled.backends.llvm.compiler import compiled, module_for
from unrolled.backends.llvm.machine import Machine
from unrolled.backends.llvm.tiles import FIELDS, LENGTH, OPERAND, STRIDE, WEIGHTS

FEATURES = frozenset({"amx-bf16", "amx-tile"})
# Of a matrix register: rows, bytes of a row, the terms of a product that a row holds, bytes in all.
ROWS, ROW_BYTES = 16, 64
TERMS = ROW_BYTES // 2
BYTES = ROWS * ROW_BYTES
REGISTERS = 8

# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): the system saves registers of this size only for who asked.
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


@cache
def granted() -> bool:
    """Whether the system lets this process use the matrix registers; it is asked once, for all threads."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0)


def usable(machine: Machine) -> bool:
    """Whether kernels for the machine may use them in this process."""
    return machine.features >= FEATURES and machine.vector_bytes == ROW_BYTES and granted()


class Registers:
    """Their instructions, in a function that is being written."""

    def __init__(self, build: ir.IRBuilder):
        self.build = build

    def configure(self) -> None:
        """Give all of them their full size; a thread does so before it uses them."""
        module = self.build.module
        table = bytearray([1, 0, *[0] * 14])  # the only palette there is, and where to resume after a fault
        for number in range(16):
            table += (ROW_BYTES if number < REGISTERS else 0).to_bytes(2, "little")
        table += bytes(ROWS if number < REGISTERS else 0 for number in range(16))
        constant = ir.GlobalVariable(module, ir.ArrayType(I8, len(table)), "matrix registers")
        constant.global_constant = True
        constant.linkage = "internal"
        constant.initializer = ir.Constant(constant.value_type, table)
        self._do("ldtilecfg", (POINTER,), [constant.bitcast(POINTER)])

    def release(self) -> None:
        """Empty them: what they hold would be saved at every change of threads."""
        self._do("tilerelease", (), [])

    def zero(self, register: int) -> None:
        """Set one to zeros."""
        self._do("tilezero", (I8,), [I8(register)])

    def load(self, register: int, address: ir.Value, stride: ir.Value) -> None:
        """Fill one with rows that lie so many bytes apart."""
        self._do("tileloadd64", (I8, POINTER, I64), [I8(register), self.build.inttoptr(address, POINTER), stride])

    def store(self, register: int, address: ir.Value, stride: ir.Value) -> None:
        """Write its rows."""
        self._do("tilestored64", (I8, POINTER, I64), [I8(register), self.build.inttoptr(address, POINTER), stride])

    def multiply(self, total: int, operand: int, weights: int) -> None:
        """Add the products of two of them to a third."""
        self._do("tdpbf16ps", (I8, I8, I8), [I8(total), I8(operand), I8(weights)])

    def _do(self, name: str, kinds: Sequence[ir.Type], values: Sequence[ir.Value]) -> None:
        self.build.call(intrinsic(self.build.module, f"llvm.x86.{name}", VOID, kinds), values)


@dataclass(frozen=True)
class MatrixTile:
    """A tile in matrix registers; what it computes is told as for those of vectors.

    rows   16 or 32, of which some may be nobody's: what it computes for them is not read
    """

    slots: tuple[tuple[int, ...], ...]
    count: int
    blocks: int
    rows: int

    @cached_property
    def key(self) -> str:
        """What tells it from others."""
        return f"tile {self}"

    def address(self, machine: Machine) -> int:
        """Where its code stands: void (out, stretches, first row)."""
        return compiled("tile", self.key, lambda: self.module(machine), machine).address("tile")

    def module(self, machine: Machine) -> ir.Module:
        """Its code."""
        module = module_for("tile", machine)
        function = ir.Function(module, ir.FunctionType(VOID, (POINTER, POINTER, I64)), "tile")
        build = ir.IRBuilder(function.append_basic_block("entry"))
        heights = self.rows // ROWS
        panels = [(slot, block) for slot in range(self.count) for block in range(self.blocks)]
        # As many sums as leave room for the operands of all rows and at least two registers of weights.
        some = 4 // heights
        for start in range(0, len(panels), some):
            self._panels(build, panels[start : start + some], heights)
        build.ret_void()
        return module

    def _panels(self, build: ir.IRBuilder, panels: Sequence[tuple[int, int]], heights: int) -> None:
        """The sums of some accumulators, over all stretches."""
        out, stretches, first = build.function.args
        registers = Registers(build)
        for number in range(len(panels) * heights):
            registers.zero(number)
        for number, slots in enumerate(self.slots):
            mine = [(index, slot, block) for index, (slot, block) in enumerate(panels) if slot in slots]
            if mine:
                places = [(index, slots.index(slot) * self.blocks + block) for index, slot, block in mine]
                self._stretch(build, number, places, heights, first, stretches)
        base, width = build.ptrtoint(out, I64), self.count * self.blocks
        for index, (slot, block) in enumerate(panels):
            for height in range(heights):
                distance = ((height * ROWS) * width + slot * self.blocks + block) * ROW_BYTES
                address = build.add(base, integer(distance))
                registers.store(index * heights + height, address, integer(width * ROW_BYTES))

    def _stretch(
        self,
        build: ir.IRBuilder,
        number: int,
        places: Sequence[tuple[int, int]],
        heights: int,
        first: ir.Value,
        stretches: ir.Value,
    ) -> None:
        """Add one operand's products: of each accumulator (its place among the sums, among the weights)."""
        registers = Registers(build)

        def field(index: int) -> ir.Value:
            place = build.gep(stretches, [integer(number * FIELDS + index)], source_etype=I64)
            return build.load(place, typ=I64)

        stride, weights = field(STRIDE), field(WEIGHTS)
        operands = [
            build.add(field(OPERAND), build.mul(build.add(first, integer(height * ROWS)), stride))
            for height in range(heights)
        ]
        width = len(self.slots[number]) * self.blocks
        operand_registers = range(4, 4 + heights)
        weight_registers = range(4 + heights, REGISTERS)
        with loop(build, integer(0), build.sdiv(field(LENGTH), integer(TERMS))) as (step, _):
            for register, operand in zip(operand_registers, operands, strict=True):
                registers.load(register, build.add(operand, build.mul(step, integer(ROW_BYTES))), stride)
            at = build.add(weights, build.mul(step, integer(width * BYTES)))
            for turn, (index, place) in enumerate(places):
                register = weight_registers[turn % len(weight_registers)]
                registers.load(register, build.add(at, integer(place * BYTES)), integer(ROW_BYTES))
                for height, operand_register in enumerate(operand_registers):
                    registers.multiply(index * heights + height, operand_register, register)
