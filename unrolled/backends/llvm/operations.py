"""Every element-wise operation on vectors of the generated code."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from unrolled.backends.llvm.mathematics import Mathematics


def _identity(_: Mathematics, x: ir.Value) -> ir.Value:
    return x


# Operation -> the instructions that compute it. What walks over the units is not here: it needs more than one vector.
OPERATIONS: dict[str, Callable[..., ir.Value]] = {
    "neg": Mathematics.neg,
    "add": Mathematics.add,
    "sub": Mathematics.sub,
    "mul": Mathematics.mul,
    "div": Mathematics.div,
    "minimum": Mathematics.minimum,
    "maximum": Mathematics.maximum,
    "less": Mathematics.less,
    "less_equal": Mathematics.less_equal,
    "equal": Mathematics.equal,
    "where": Mathematics.where,
    "relu": Mathematics.relu,
    "abs": Mathematics.abs,
    "sign": Mathematics.sign,
    "sigmoid": Mathematics.sigmoid,
    "tanh": Mathematics.tanh,
    "exp": Mathematics.exp,
    "log": Mathematics.log,
    "sqrt": Mathematics.sqrt,
    "softplus": Mathematics.softplus,
    # A number is already in every lane, and the name of an axis is nothing to a vector.
    "spread": _identity,
    "raw": _identity,
}
