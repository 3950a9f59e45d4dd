"""A network of layers by name, as configurations ask for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from unrolled.cells import resolve
from unrolled.errors import UsageError, did_you_mean
from unrolled.ir.program import Initial
from unrolled.language import Cell
from unrolled.layers.base import SequenceLayer
from unrolled.layers.bidirectional import Bidirectional
from unrolled.layers.compose import Stacked, at_depth, deep
from unrolled.layers.grid import GridLSTM, is_block
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.residual import Residual
from unrolled.layers.tied import Tied

STACKS = ("deep", "residual", "tied")


def network(
    cell: str | Cell,
    input_size: int,
    hidden_size: int,
    layers: int = 1,
    *,
    structure: str = "deep",
    bidirectional: bool = False,
    dropout: nn.Module | None = None,
    lowest: Mapping[str, Initial] | None = None,
    batch_first: bool = False,
    **options: Any,
) -> Stacked:
    """Layers of one cell, one upon the other; those of a grid's block make a grid.

    structure       "deep"; "residual", where all but the lowest add what they read; or "tied", where all but the lowest
                    share their weights
    bidirectional   every layer reads from both ends
    dropout         what stands between two layers; nothing stands within a grid
    lowest          initial values of the lowest layer, after those in `options`; of a grid, those of its projection
    options         those of `Recurrent`, for all layers

    Raises   UsageError for another structure, for fewer layers than it needs, for a block in anything but a grid, or a
             grid that reads from both ends
    """
    if structure not in STACKS:
        raise UsageError(f"there is no stack {structure!r}.{did_you_mean(structure, STACKS)}")
    chosen = resolve(cell)
    if is_block(chosen):
        if structure == "residual":
            raise UsageError(f"layers of the block '{chosen.name}' make a grid, which is deep or tied, not residual")
        if bidirectional:
            raise UsageError(
                f"layers of the block '{chosen.name}' make a grid, which reads forward: leave out bidirectional"
            )
        grid: dict[str, Any] = {**options, "lowest": lowest, "batch_first": batch_first}
        return GridLSTM(input_size, hidden_size, layers, block=chosen, tied=structure == "tied", **grid)
    if structure != "deep" and (type(layers) is not int or layers < 2):
        raise UsageError(f"a {structure} stack has 2 layers or more, not {layers!r}: the lowest is as in any other")

    def make(index: int, size: int) -> SequenceLayer:
        given = {**options, "init": {**lowest, **(options.get("init") or {})}} if index == 0 and lowest else options
        layer: SequenceLayer = Recurrent(at_depth(chosen, index), size, hidden_size, **given)
        if bidirectional:
            layer = Bidirectional(layer, Recurrent(at_depth(chosen, index), size, hidden_size, reverse=True, **given))
        return Residual(layer) if structure == "residual" and index > 0 else layer

    if structure != "tied":
        return deep(make, input_size, layers, dropout, batch_first=batch_first)
    bottom = make(0, input_size)
    upper = Tied(make(1, bottom.output_size), layers - 1, dropout)
    return Stacked(bottom, *([] if dropout is None else [dropout]), upper, batch_first=batch_first)
