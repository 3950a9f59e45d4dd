"""Both directions side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from unrolled.errors import ShapeError, UsageError
from unrolled.ir.program import name_below
from unrolled.layers.base import SequenceLayer
from unrolled.layers.compose import check_within
from unrolled.layers.given import check_tensor
from unrolled.layers.recurrent import Recurrent
from unrolled.scan import scans

if TYPE_CHECKING:
    from unrolled.backends.llvm.stepping import Frozen


def _is_plain(layer: Recurrent) -> bool:
    """Whether a call of the layer is its scan alone: nothing hangs on it, no class derived from it runs otherwise."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    if any(hooks) or torch.nn.modules.module._has_any_global_hook():
        return False
    own = vars(layer)
    same = type(layer).run is Recurrent.run and type(layer).forward is Recurrent.forward
    return same and "run" not in own and "forward" not in own


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
        check_within((forward, backward))
        if forward.backward_size or backward.backward_size != backward.output_size:
            raise UsageError("the first layer of a bidirectional one reads forward, the second has reverse=True")
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
        shares = self._shares(more)
        group = self._group()
        if group:
            each = zip(group, states, shares, strict=True)
            given = [layer.prepare(x, own, lengths, resets, **share) for layer, own, share in each]
            found = zip(group, given, scans(given, group[0].backend), strict=True)
            results = [layer.finish(*prepared, *scanned) for layer, prepared, scanned in found]
        else:
            both = zip(self._both(), states, shares, strict=True)
            results = [layer(x, own, lengths, resets, **share) for layer, own, share in both]
        joined = torch.cat([y for y, *_ in results], -1)
        finals = Directions(results[0][1], results[1][1])
        taps = [
            {name: torch.cat([ahead[name], behind[name]], -1) for name in ahead}
            for ahead, behind in zip(results[0][2:], results[1][2:], strict=True)
        ]
        return (joined, finals, *taps)

    def _both(self) -> list[SequenceLayer]:
        return list(self.directions)  # type: ignore[arg-type]

    def _shares(self, more: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What each direction is given: not what the other one alone reads; of what comes from below, its own part."""
        reads = [layer.further_inputs for layer in self._both()]
        ahead, behind = (
            {name: value for name, value in more.items() if name in own or name not in other}
            for own, other in (reads, reads[::-1])
        )
        for name in filter(name_below, more):
            check_tensor(name, more[name])
            sizes = [each.get(name, 0) for each in reads]
            if more[name].shape[-1] != sum(sizes):
                raise ShapeError(f"{name} is {more[name].shape[-1]} wide; the directions read {sizes[0]} + {sizes[1]}")
            for share, part in zip((ahead, behind), more[name].split(sizes, -1), strict=True):
                if name in share:
                    share[name] = part
        return ahead, behind

    def _group(self) -> list[Recurrent]:
        """The directions, where both do no more than run their scans, on one backend: then these run side by side."""
        plain = [layer for layer in self.directions if isinstance(layer, Recurrent) and _is_plain(layer)]
        return plain if len(plain) == 2 and plain[0].backend == plain[1].backend else []

    @property
    def further_inputs(self) -> dict[str, int]:
        """The directions' inputs besides x; what comes from below is that of both directions, side by side."""
        ahead, behind = (layer.further_inputs for layer in self._both())
        both = {name: ahead.get(name, 0) + behind.get(name, 0) for name in {**ahead, **behind} if name_below(name)}
        return {**ahead, **behind, **both}

    def _frozen(self, taps: tuple[str, ...] = ()) -> list[Frozen]:
        raise UsageError(
            "a bidirectional layer reads from the last step too, which a stream does not know: stream a layer of one "
            "direction, such as Recurrent(…), trained as such"
        )

    @property
    def backward_size(self) -> int:
        """The outputs of the second direction."""
        return self._both()[1].output_size

    def initial_state(self, batch: int) -> Any:
        """The initial states of both directions."""
        return Directions(*(layer.initial_state(batch) for layer in self._both()))
