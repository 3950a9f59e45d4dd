"""Noise of training: units of the states that are kept or not read, and weights that are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from unrolled.errors import UsageError, did_you_mean
from unrolled.ir.plan import Group
from unrolled.ir.program import Program
from unrolled.ir.transforms import recurrent_maps, with_recurrent_mask, with_zoneout, zoneout_name
from unrolled.layers.given import width


@dataclass(frozen=True)
class Noise:
    """What a layer leaves to chance in training, drawn anew at each call.

    recurrent_dropout   share of what maps read of the states that is 0, the same units at every step of a row
    zoneout             state -> probability that a unit keeps its old value, drawn at every step
    units               state -> how many it has
    weight_drop         share of the entries of `maps` that is 0, the same for all steps and rows
    maps                the symbols of the maps that read the states
    """

    recurrent_dropout: float
    zoneout: Mapping[str, float]
    units: Mapping[str, int]
    weight_drop: float
    maps: frozenset[str]

    @classmethod
    def of(
        cls,
        program: Program,
        sizes: Mapping[str, int],
        recurrent_dropout: float,
        zoneout: float | Mapping[str, float],
        weight_drop: float,
    ) -> Noise:
        """The noise on a program bound to these sizes; one probability of zoneout is that of every state.

        Raises   UsageError for what is no share or probability, or meets nothing in the program
        """
        for name, share in (("recurrent_dropout", recurrent_dropout), ("weight_drop", weight_drop)):
            if not (_is_number(share) and 0 <= share < 1):
                raise UsageError(f"{name} is a share from 0 to below 1, not {share!r}")
        maps = frozenset(recurrent_maps(program))
        units = {name: width(sizes, shape) for name, shape in program.states}
        rates = zoneout if isinstance(zoneout, Mapping) else dict.fromkeys(units, zoneout)
        for name, rate in rates.items():
            if name not in units:
                raise UsageError(f"zoneout names {name!r}, which is no state of the cell.{did_you_mean(name, units)}")
            if not (_is_number(rate) and 0 <= rate <= 1):
                raise UsageError(f"zoneout is a probability from 0 to 1, not {rate!r}")
        if weight_drop and not maps:
            raise UsageError(f"weight_drop leaves out weights of recurrent maps; cell '{program.name}' has none")
        if recurrent_dropout and not any(node.op == "row" for node in with_recurrent_mask(program).nodes):
            raise UsageError(
                f"recurrent_dropout drops what recurrent maps read on the axis of the output; cell '{program.name}' "
                "has no such map"
            )
        kept = {name: rates[name] for name in units if rates.get(name)}
        return cls(recurrent_dropout, kept, units, weight_drop, maps)

    def __bool__(self) -> bool:
        return bool(self.recurrent_dropout or self.zoneout or self.weight_drop)

    def applied(self, program: Program, training: bool) -> Program:
        """The program with its noise, or, out of training, with the expectation of zoneout."""
        if self.recurrent_dropout and training:
            program = with_recurrent_mask(program)
        return with_zoneout(program, self.zoneout, training) if self.zoneout else program

    def scalars(self, training: bool) -> dict[str, float]:
        """The run-time numbers that `applied` adds."""
        return {} if training else {zoneout_name(state): rate for state, rate in self.zoneout.items()}

    def rows(self, batch: int, units: int, like: Tensor) -> list[Tensor]:
        """The row values that `applied` adds in training, on average 1.

        Shapes   returns each (batch, units)
        """
        keep = 1 - self.recurrent_dropout
        return [like.new_empty(batch, units).bernoulli_(keep).div_(keep)] if self.recurrent_dropout else []

    def sequences(self, time: int, batch: int, like: Tensor) -> dict[str, Tensor]:
        """The inputs that `applied` adds in training: 1 where a unit keeps its old value, else 0.

        Shapes   returns each (time, batch, axis)
        """
        masks = {}
        for state, rate in self.zoneout.items():
            # Less than half of the time that bernoulli_ takes.
            uniform = torch.rand(time, batch, self.units[state], device=like.device, dtype=torch.float32)
            masks[zoneout_name(state)] = uniform.lt_(rate).to(like.dtype)
        return masks

    def thinned(self, group: Group, stored: Tensor) -> Tensor:
        """A stored parameter with entries left out if it is a recurrent map, the rest scaled up (Merity 2018)."""
        if not self.weight_drop or f"{group.family}.{group.names[0]}" not in self.maps:
            return stored
        return torch.nn.functional.dropout(stored, self.weight_drop)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
