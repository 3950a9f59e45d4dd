"""Grid LSTM: a net whose depth is a dimension like time, which an LSTM with a memory of its own runs along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from unrolled.cells import resolve
from unrolled.errors import ShapeError, UsageError
from unrolled.ir.program import Initial
from unrolled.language import Cell, parse
from unrolled.layers.compose import Stacked
from unrolled.layers.given import check_tensor
from unrolled.layers.recurrent import Recurrent

# The options of a block that the projection below it has, too.
_SHARED = ("backend", "precision", "device", "dtype")

_SIDE = parse("""
@cell(source="Kalchbrenner 2015: inputs from a side, section 3.4")
def grid_side(x, y):
    'A data point as the hidden vector y and the memory m that enter a grid along its lowest side.'
    m = W.m @ x
    y = W.y @ x
    return y
""")


class GridLSTM(Stacked):
    """A grid of LSTM blocks, time x depth: each hands a hidden vector and a memory on in both dimensions.

    The lowest layer, index 0 in state and taps, projects the data and remembers nothing; `layers` of blocks stand on
    it. The output is the hidden vector that leaves the uppermost.

    block     the cell of a block: "grid-block", or "priority-grid-block", whose depth reads what time has made of the
              same step; or any other that reads x and `below_m` and gives y and m
    tied      all blocks share their weights
    lowest    initial values of the projection, whose maps are `W.m` and `W.y`
    options   those of `Recurrent`, for all blocks alike

    Raises   UsageError for fewer than one layer, or a cell that is no block
    Source   Kalchbrenner, Danihelka & Graves 2015, arXiv 1507.01526
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        layers: int,
        *,
        block: str | Cell = "grid-block",
        tied: bool = False,
        lowest: Mapping[str, Initial] | None = None,
        batch_first: bool = False,
        **options: Any,
    ):
        if type(layers) is not int or layers < 1:
            raise UsageError(f"a grid has 1 layer or more, not {layers!r}")
        chosen = resolve(block)
        if not is_block(chosen):
            raise UsageError(
                f"cell '{chosen.name}' is no block of a grid, which reads x and below_m of the layer below and gives y "
                "and m to the one above: such are grid-block, priority-grid-block and depth-block"
            )
        shared = {key: options[key] for key in _SHARED if key in options}
        side = Recurrent(_SIDE, input_size, hidden_size, init=lowest, **shared)
        blocks = [Recurrent(chosen, hidden_size, hidden_size, **options) for _ in range(1 if tied else layers)]
        super().__init__(side, *blocks, batch_first=batch_first)
        self.times = layers if tied else 1
        self.reverse = blocks[0].reverse

    def _places(self) -> list[nn.Module]:
        lowest, *blocks = self.layers
        return [lowest, *blocks * self.times]


class DepthLSTM(nn.Module):
    """A Grid LSTM of one dimension, depth: a feed-forward net that keeps a memory through its layers.

    layers, tied, options   as in `GridLSTM`, but without batch_first

    Shapes   x (batch, input), or whole numbers (batch,) for one-hot vectors; returns (batch, hidden)
    Source   Kalchbrenner, Danihelka & Graves 2015, arXiv 1507.01526
    """

    def __init__(self, input_size: int, hidden_size: int, layers: int, *, tied: bool = False, **options: Any):
        super().__init__()
        if "batch_first" in options:
            raise UsageError("a net of depth alone has no time: leave out batch_first")
        self.grid = GridLSTM(input_size, hidden_size, layers, block="depth-block", tied=tied, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers, which take a batch of vectors as sequences of one step."""
        check_tensor("x", x)
        if x.dim() != (2 if x.is_floating_point() else 1):
            raise ShapeError(f"x is {tuple(x.shape)}; expected (batch, input), or whole numbers (batch,)")
        y, _ = self.grid(x[None])
        return y.squeeze(0)  # type: ignore[no-any-return]


def is_block(cell: Cell) -> bool:
    """Whether a cell reads a memory of the layer below, and gives one to the layer above."""
    return "below_m" in dict(cell.program.inputs) and {"y", "m"} <= set(cell.program.names)
