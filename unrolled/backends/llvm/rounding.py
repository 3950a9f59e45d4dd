"""Numbers rounded to bfloat16."""

from __future__ import annotations

from llvmlite import ir

from unrolled.backends.llvm.code import I32
from unrolled.backends.llvm.machine import Machine

I16 = ir.IntType(16)


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's type, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def rounded(build: ir.IRBuilder, value: ir.Value, machine: Machine) -> ir.Value:
    """The bits of the bfloat16 nearest to each float32 of a vector, even ones where two are."""
    lanes = value.type.count
    narrow = ir.VectorType(I16, lanes)
    if "avx512bf16" in machine.features:
        return build.bitcast(build.fptrunc(value, ir.VectorType(_BFloat(), lanes)), narrow)
    # Without the instruction LLVM would call a function of the C compiler's for each number.
    wide = ir.VectorType(I32, lanes)

    def same(number: int) -> ir.Constant:
        return ir.Constant(wide, [number] * lanes)

    bits = build.bitcast(value, wide)
    odd = build.and_(build.lshr(bits, same(16)), same(1))
    near = build.add(bits, build.add(odd, same(0x7FFF)))
    # Rounding would carry the bits of some NaN into those of an infinity.
    quiet = build.or_(bits, same(1 << 22))
    near = build.select(build.fcmp_unordered("uno", value, value), quiet, near)
    return build.trunc(build.lshr(near, same(16)), narrow)
