"""The language in which cells are written. Loads no numerical library."""

from unrolled.ir.structure import Structure
from unrolled.language.cell import Cell, Input, State, cell
from unrolled.language.functions import (
    abs,
    cumax,
    cumsum,
    exp,
    hard_sigmoid,
    layer_norm,
    log,
    maximum,
    mean,
    minimum,
    raw,
    relu,
    repeat,
    sigmoid,
    silu,
    size,
    softmax,
    softplus,
    sqrt,
    sum,
    tanh,
    tick,
    where,
)
from unrolled.language.grammar import parse, parse_all
from unrolled.language.structures import antisymmetric, block_diagonal, block_triangular, diagonal, low_rank
from unrolled.language.transforms import layer_normalised
from unrolled.language.values import Family

W = Family("W")
U = Family("U")
V = Family("V")
b = Family("b")
p = Family("p")
s = Family("s")

__all__ = [
    "Cell",
    "Input",
    "State",
    "Structure",
    "U",
    "V",
    "W",
    "abs",
    "antisymmetric",
    "b",
    "block_diagonal",
    "block_triangular",
    "cell",
    "cumax",
    "cumsum",
    "diagonal",
    "exp",
    "hard_sigmoid",
    "layer_norm",
    "layer_normalised",
    "log",
    "low_rank",
    "maximum",
    "mean",
    "minimum",
    "p",
    "parse",
    "parse_all",
    "raw",
    "relu",
    "repeat",
    "s",
    "sigmoid",
    "silu",
    "size",
    "softmax",
    "softplus",
    "sqrt",
    "sum",
    "tanh",
    "tick",
    "where",
]
