"""Cells made of cells."""

from __future__ import annotations

from unrolled.errors import UsageError
from unrolled.ir.transforms import normalised
from unrolled.language.cell import Cell, build_cell


def layer_normalised(cell: Cell, memory: bool = True) -> Cell:
    """The cell with each map normalised over its units, W x and U h apart and each gate on its own.

    The gain of `W.i` is the vector `p.W_i`, which begins at 1; biases stay as they are, one a gate. Only maps that are
    read unit by unit are normalised: in a product of two maps the outer one is.

    memory   also normalise the new value of a memory where the step reads it, with the gain `p.c` and the bias `b.c`,
             as in h = o * tanh(p.c * layer_norm(c) + b.c); the state itself stays whole. A memory is a state beside
             the output whose next value is its old one multiplied and added to
    Raises   CellError where there is nothing to normalise; UsageError for what is no Cell
    Source   Ba, Kiros & Hinton 2016, arXiv 1607.06450, who take one mean and deviation over all gates and have a bias
             beside each gain
    """
    if not isinstance(cell, Cell):
        raise UsageError(f"layer_normalised takes a Cell, such as unrolled.cells.get('lstm'), not {cell!r}")
    return build_cell(lambda hyperparameters: normalised(cell._build(hyperparameters), memory), cell.hyperparameters)
