"""One layer upon itself."""

from __future__ import annotations

from torch import nn

from unrolled.errors import ShapeError, UsageError
from unrolled.layers.base import SequenceLayer
from unrolled.layers.compose import Stacked


class Tied(Stacked):
    """A layer upon itself: `times` places with a state each, and one set of weights.

    `Tied(Recurrent("gru", 64, 64), 4)`; below it may stand a layer of another input size, in a Stacked.

    dropout   what stands between two places

    Raises   ShapeError for a layer that gives another size than it reads
    """

    def __init__(
        self, layer: SequenceLayer, times: int, dropout: nn.Module | None = None, *, batch_first: bool = False
    ):
        super().__init__(layer, *([] if dropout is None else [dropout]), batch_first=batch_first)
        if type(times) is not int or times < 1:
            raise UsageError(f"a tied layer stands at 1 place or more, not {times!r}")
        if layer.input_size != layer.output_size:
            raise ShapeError(
                f"a layer upon itself reads what it gives, but this one reads {layer.input_size} values and gives "
                f"{layer.output_size}: put one that gives {layer.output_size} below, Stacked(first, Tied(…))"
            )
        self.times = times

    def _places(self) -> list[nn.Module]:
        layer, *between = self.layers
        return [layer, *[*between, layer] * (self.times - 1)]

    def extra_repr(self) -> str:
        """How often the layer stands."""
        return f"{self.times} times"
