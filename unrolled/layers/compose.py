"""Layers one upon the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from unrolled.cells import all_cells, resolve
from unrolled.errors import ShapeError, UsageError, did_you_mean
from unrolled.ir.program import name_below
from unrolled.language import Cell
from unrolled.layers.base import SequenceLayer
from unrolled.layers.given import check_taps
from unrolled.layers.stream import check_passes

if TYPE_CHECKING:
    from unrolled.backends.llvm.stepping import Frozen
    from unrolled.backends.llvm.stream import Stream


def check_time_major(layers: Iterable[nn.Module]) -> None:
    """Raise a UsageError if a layer that becomes part of another one is batch-first."""
    for layer in layers:
        if getattr(layer, "batch_first", False):
            raise UsageError("layers inside another one are time-major: give batch_first to the outermost alone")


def check_within(layers: Iterable[nn.Module]) -> None:
    """Raise a UsageError unless each is a layer over sequences that can become part of another one."""
    for layer in layers:
        if not isinstance(layer, SequenceLayer):
            raise UsageError(
                f"{type(layer).__name__} is no layer over sequences, which gives an output at every step and a state, "
                "as Recurrent does and what is made of such"
            )
        check_time_major([layer])


class Stacked(SequenceLayer):
    """Layers one upon the other. What is no layer over sequences, such as a dropout, maps the output and has no state.

    The state is a tuple with one entry a layer over sequences. A cell's further input called `below_NAME` is given what
    the cell below calls NAME, a state or any other named value, at the same step: `below_c: Input["hidden"]` is c. All
    others, and those of the lowest layer, are the stack's own, and go to each layer that reads them. A tap is the
    uppermost layer's, or with an index in front, the lowest 0, that layer's: `taps=("0.f", "f")`.

    Raises   UsageError or ShapeError when layers do not fit upon one another
    """

    def __init__(self, *layers: nn.Module, batch_first: bool = False):
        super().__init__(batch_first)
        check_time_major(layers)
        self.layers = nn.ModuleList(layers)
        carried = [layer for layer in layers if isinstance(layer, SequenceLayer)]
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

    def _places(self) -> list[nn.Module]:
        """What stands at each place, from below."""
        return list(self.layers)

    def _carried(self) -> list[SequenceLayer]:
        return [layer for layer in self._places() if isinstance(layer, SequenceLayer)]

    @property
    def further_inputs(self) -> dict[str, int]:
        """The layers' inputs besides x, without those that come from the layer below."""
        lowest, *above = self._carried()
        own = {name: size for layer in above for name, size in layer.further_inputs.items() if not name_below(name)}
        return {**own, **lowest.further_inputs}

    def run(
        self,
        x: Tensor,
        state: Any,
        lengths: Tensor | None,
        resets: Tensor | None,
        *,
        taps: tuple[str, ...] | list[str] = (),
        **inputs: Tensor,
    ) -> tuple[Any, ...]:
        """Run each layer on the output of the one below."""
        check_taps(taps)
        carried = self._carried()
        if state is not None and len(state) != len(carried):
            raise ShapeError(f"the state has {len(state)} entries; the stack has {len(carried)} layers")
        self._check_inputs(inputs)
        places = {tap: self._place_of(tap, len(carried)) for tap in taps}
        asked = self._asked(carried, places.values())
        states = iter(state if state is not None else [None] * len(carried))
        finals: list[Any] = []
        tapped: list[dict[str, Tensor]] = []
        for layer in self._places():
            if not isinstance(layer, SequenceLayer):
                x = layer(x)
                continue
            reads, names = layer.further_inputs, asked[len(finals)]
            given: dict[str, Any] = {name: inputs[name] for name in reads if name in inputs}
            if tapped:
                given |= {name: tapped[-1][name_below(name)] for name in reads if name_below(name)}
            if names:
                given["taps"] = names
            x, final, *found = layer(x, next(states), lengths, resets, **given)
            finals.append(final)
            tapped.append(found[0] if names else {})
        if not taps:
            return x, tuple(finals)
        return x, tuple(finals), {tap: tapped[place][name] for tap, (place, name) in places.items()}

    def _check_inputs(self, inputs: Iterable[str]) -> None:
        known = self.further_inputs
        for name in inputs:
            if name not in known:
                raise ShapeError(f"no layer of the stack has an input {name!r}.{did_you_mean(name, known)}")

    @staticmethod
    def _place_of(tap: str, layers: int) -> tuple[int, str]:
        """The index of the layer that a tap is of, and what it is called there."""
        index, _, name = tap.partition(".")
        if not index.isdecimal():
            return layers - 1, tap
        if int(index) >= layers:
            raise ShapeError(f"there is no tap {tap!r}: the layers of the stack have the indexes 0 to {layers - 1}")
        return int(index), name

    @staticmethod
    def _asked(carried: list[SequenceLayer], wanted: Iterable[tuple[int, str]]) -> list[tuple[str, ...]]:
        """The taps of each layer: those `wanted`, and what the layer above reads of them."""
        found = [[name_below(name) for name in above.further_inputs] for above in carried[1:]] + [[]]
        for place, name in wanted:
            found[place].append(name)
        return [tuple(dict.fromkeys(filter(None, names))) for names in found]

    def stream(self, batch: int = 1, threads: int | None = None) -> Stream:
        """A frozen copy of all layers that takes one step at a time; its state has one entry a layer."""
        from unrolled.backends.llvm.stream import Stream

        return Stream(self._frozen(), batch, stacked=True, threads=threads)

    def _frozen(self, taps: tuple[str, ...] = ()) -> list[Frozen]:
        carried = self._carried()
        found: list[Frozen] = []
        asked = iter(self._asked(carried, [self._place_of(tap, len(carried)) for tap in taps]))
        for layer in self._places():
            if isinstance(layer, SequenceLayer):
                found += layer._frozen(next(asked))
            else:
                check_passes(layer)
        return found

    @property
    def backward_size(self) -> int:
        """That of the uppermost layer."""
        return self._carried()[-1].backward_size

    def initial_state(self, batch: int) -> Any:
        """The initial states of the layers."""
        return tuple(layer.initial_state(batch) for layer in self._carried())


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


def at_depth(cell: str | Cell, index: int) -> Cell:
    """The cell for the layer of an index: the lowest has another one, NAME-first, where a cell reads from below.

    Raises   UsageError when a cell that reads from below has no such form
    """
    chosen = resolve(cell)
    read = [name for name, _ in chosen.program.inputs[1:] if name_below(name)]
    if index > 0 or not read:
        return chosen
    first = all_cells().get(f"{chosen.name}-first")
    if first is None:
        raise UsageError(
            f"cell '{chosen.name}' reads {read[0]} from the layer below, and the lowest layer has none: stack it on a "
            "layer of another cell"
        )
    return first


def upward(make: Callable[[int, int], SequenceLayer], input_size: int, layers: int) -> list[SequenceLayer]:
    """Layers of which each reads what the one before it gives; `make` has an index and an input size."""
    made: list[SequenceLayer] = []
    for index in range(layers):
        made.append(make(index, made[-1].output_size if made else input_size))
    return made


def deep(
    make: Callable[[int, int], SequenceLayer],
    input_size: int,
    layers: int,
    dropout: nn.Module | None = None,
    *,
    batch_first: bool = False,
) -> Stacked:
    """`layers` layers one upon the other, with a dropout between them.

    A depth-gated stack: `deep(lambda index, size: Recurrent(at_depth("depth-gated-lstm", index), size, 64), 32, 4)`.
    A bidirectional one: `deep(lambda index, size: Bidirectional(Recurrent("gru", size, 64), Recurrent("gru", size, 64,
    reverse=True)), 32, 4)`.

    make     the layer of an index, the lowest 0, and an input size
    Raises   UsageError for fewer than one layer
    """
    if type(layers) is not int or layers < 1:
        raise UsageError(f"a network has 1 layer or more, not {layers!r}")
    lowest, *above = upward(make, input_size, layers)
    between = [] if dropout is None else [dropout]
    return Stacked(lowest, *(part for layer in above for part in (*between, layer)), batch_first=batch_first)
