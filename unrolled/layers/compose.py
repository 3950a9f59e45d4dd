"""Layers made of layers: one upon the other, and both directions side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from unrolled.errors import ShapeError, UsageError
from unrolled.layers.base import SequenceLayer
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.stream import check_passes
from unrolled.scan import scans

if TYPE_CHECKING:
    from unrolled.backends.llvm.stepping import Frozen
    from unrolled.backends.llvm.stream import Stream


def _check_time_major(layers: Iterable[nn.Module]) -> None:
    for layer in layers:
        if getattr(layer, "batch_first", False):
            raise UsageError("layers inside another one are time-major: give batch_first to the outermost alone")


def _is_plain(layer: Recurrent) -> bool:
    """Whether a call of the layer is its scan alone: nothing hangs on it, no class derived from it runs otherwise."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    if any(hooks) or torch.nn.modules.module._has_any_global_hook():
        return False
    own = vars(layer)
    same = type(layer).run is Recurrent.run and type(layer).forward is Recurrent.forward
    return same and "run" not in own and "forward" not in own


class Stacked(SequenceLayer):
    """Layers one upon the other. What is no layer over sequences, such as a dropout, maps the output and has no state.

    The state is a tuple with one entry a layer over sequences. Taps and further inputs are those of single layers.
    """

    def __init__(self, *layers: nn.Module, batch_first: bool = False):
        super().__init__(batch_first)
        _check_time_major(layers)
        self.layers = nn.ModuleList(layers)
        carried = self._carried()
        if not carried:
            raise UsageError("a stack needs a layer over sequences")
        for below, above in pairwise(carried):
            if below.output_size != above.input_size:
                raise ShapeError(
                    f"a layer gives {below.output_size} values a step, the one above it has input_size "
                    f"{above.input_size}"
                )
        self.input_size = carried[0].input_size
        self.output_size = carried[-1].output_size

    def _carried(self) -> list[SequenceLayer]:
        return [layer for layer in self.layers if isinstance(layer, SequenceLayer)]

    def run(self, x: Tensor, state: Any, lengths: Tensor | None, resets: Tensor | None, **more: Any) -> tuple[Any, ...]:
        """Run each layer on the output of the one below."""
        if more:
            raise ShapeError(f"a stack hands no further inputs or taps to its layers: {', '.join(more)}")
        carried = self._carried()
        if state is not None and len(state) != len(carried):
            raise ShapeError(f"the state has {len(state)} entries; the stack has {len(carried)} layers")
        states = iter(state if state is not None else [None] * len(carried))
        finals = []
        for layer in self.layers:
            if isinstance(layer, SequenceLayer):
                x, final = layer(x, next(states), lengths, resets)
                finals.append(final)
            else:
                x = layer(x)
        return x, tuple(finals)

    def stream(self, batch: int = 1, threads: int | None = None) -> Stream:
        """A frozen copy of all layers that takes one step at a time; its state has one entry a layer."""
        from unrolled.backends.llvm.stream import Stream

        return Stream(self._frozen(), batch, stacked=True, threads=threads)

    def _frozen(self) -> list[Frozen]:
        found = []
        for layer in self.layers:
            if isinstance(layer, SequenceLayer):
                found += layer._frozen()
            else:
                check_passes(layer)
        return found

    def initial_state(self, batch: int) -> Any:
        """The initial states of the layers."""
        return tuple(layer.initial_state(batch) for layer in self._carried())


class Directions(NamedTuple):
    """The states of a bidirectional layer."""

    forward: Any
    backward: Any


class Bidirectional(SequenceLayer):
    """Two layers that read each sequence from both of its ends; their outputs stand side by side.

    The backward one begins at each sequence's own last valid step.

    Source   Schuster & Paliwal 1997
    """

    def __init__(self, forward: SequenceLayer, backward: SequenceLayer, *, batch_first: bool = False):
        super().__init__(batch_first)
        if getattr(forward, "reverse", False) or not getattr(backward, "reverse", False):
            raise UsageError("the first layer of a bidirectional one reads forward, the second has reverse=True")
        _check_time_major((forward, backward))
        if forward.input_size != backward.input_size:
            raise ShapeError(f"the directions have input sizes {forward.input_size} and {backward.input_size}")
        self.directions = nn.ModuleList([forward, backward])
        self.input_size = forward.input_size
        self.output_size = forward.output_size + backward.output_size

    def run(self, x: Tensor, state: Any, lengths: Tensor | None, resets: Tensor | None, **more: Any) -> tuple[Any, ...]:
        """Run both directions and join their outputs on the last axis."""
        if state is not None and len(state) != 2:
            raise ShapeError(f"the state has {len(state)} entries; a bidirectional layer has two, forward and backward")
        states = state if state is not None else (None, None)
        group = self._group()
        if group:
            given = [layer.prepare(x, each, lengths, resets, **more) for layer, each in zip(group, states, strict=True)]
            found = zip(group, given, scans(given, group[0].backend), strict=True)
            results = [layer.finish(*prepared, *scanned) for layer, prepared, scanned in found]
        else:
            both = zip(self.directions, states, strict=True)
            results = [layer(x, each, lengths, resets, **more) for layer, each in both]
        joined = torch.cat([y for y, *_ in results], -1)
        finals = Directions(results[0][1], results[1][1])
        taps = [
            {name: torch.cat([ahead[name], behind[name]], -1) for name in ahead}
            for ahead, behind in zip(results[0][2:], results[1][2:], strict=True)
        ]
        return (joined, finals, *taps)

    def _group(self) -> list[Recurrent]:
        """The directions, where both do no more than run their scans, on one backend: then these run side by side."""
        plain = [layer for layer in self.directions if isinstance(layer, Recurrent) and _is_plain(layer)]
        return plain if len(plain) == 2 and plain[0].backend == plain[1].backend else []

    def _frozen(self) -> list[Frozen]:
        raise UsageError(
            "a bidirectional layer reads from the last step too, which a stream does not know: stream a layer of one "
            "direction, such as Recurrent(…), trained as such"
        )

    def initial_state(self, batch: int) -> Any:
        """The initial states of both directions."""
        return Directions(*(layer.initial_state(batch) for layer in self.directions))  # type: ignore[operator]


class VariationalDropout(nn.Module):
    """Dropout that drops the same units at every step of a row.

    Shapes   (time, batch, feature) in and out
    Source   Gal & Ghahramani 2016
    """

    def __init__(self, probability: float = 0.5):
        super().__init__()
        if not 0 <= probability < 1:
            raise UsageError(f"a dropout probability is from 0 to below 1, not {probability!r}")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training, pass through otherwise."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        return x * x.new_empty(1, *x.shape[1:]).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """The probability."""
        return str(self.probability)


def deep(
    make: Callable[[int, int], SequenceLayer], input_size: int, layers: int, dropout: nn.Module | None = None
) -> Stacked:
    """`layers` layers one upon the other, with a dropout between them.

    make     the layer of an index, the lowest 0, and an input size
    Raises   UsageError for fewer than one layer
    """
    if layers < 1:
        raise UsageError(f"a network has 1 layer or more, not {layers}")
    made: list[nn.Module] = []
    for index in range(layers):
        if index > 0 and dropout is not None:
            made.append(dropout)
        layer = make(index, input_size)
        made.append(layer)
        input_size = layer.output_size
    return Stacked(*made)
