"""The parameters of one family of symbols: stored stacked, one tensor an operand, reached by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unrolled.errors import UsageError, did_you_mean
from unrolled.ir.plan import Group


class Family(nn.Module):
    """All `W`, or all `U`, … of a layer.

    Gates that read one operand lie under one another in one parameter, which is named after them: `layer.U.i_f_g_o`.
    `layer.U.f` is the view of its rows, to read or, without gradient, to write.
    """

    def __init__(self, groups: Sequence[Group]):
        super().__init__()
        self._places: dict[str, tuple[str, int, int]] = {}
        self._keys: dict[str, str] = {}
        for group in groups:
            # A symbol may have a name that a module uses for itself, such as `type`.
            key = group.key + "_" * (hasattr(nn.Module, group.key) or group.key in ("training",))
            self._keys[group.key] = key
            for index, name in enumerate(group.names):
                self._places[name] = (key, index, len(group.names))

    def place(self, group: Group, value: nn.Parameter) -> None:
        """Store a group's parameter."""
        self.register_parameter(self._keys[group.key], value)

    def stored(self, group: Group) -> Tensor:
        """The parameter of a group."""
        parameter = self._parameters[self._keys[group.key]]
        assert parameter is not None
        return parameter

    def __getitem__(self, name: str) -> Tensor:
        """The parameter, or the part of one, of a symbol.

        Raises   UsageError when the family has no such symbol
        """
        if name not in self._places:
            raise UsageError(f"there is no symbol {name!r}.{did_you_mean(name, self._places)}")
        key, index, count = self._places[name]
        parameter = self._parameters[key]
        assert parameter is not None
        if count == 1:
            return parameter
        rows = parameter.shape[0] // count
        return parameter[index * rows : (index + 1) * rows]

    def __getattr__(self, name: str) -> Tensor:
        place = self.__dict__.get("_places", {}).get(name)
        if place is not None and place[0] != name and place[0] in self._parameters:
            return self[name]
        found = super().__getattr__(name)
        assert isinstance(found, torch.Tensor)
        return found

    def extra_repr(self) -> str:
        """The stored parameters and their shapes."""
        return ", ".join(f"{name}: {tuple(value.shape)}" for name, value in self.named_parameters())
