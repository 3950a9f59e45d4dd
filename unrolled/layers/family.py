"""The parameters of one family of symbols: stored stacked, one tensor an operand, reached by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        self._keys: dict[tuple[str, ...], str] = {}
        for group in groups:
            key = group.key
            # A symbol may have a name that a module uses for itself, such as `type`; a_b may be one symbol or two.
            while hasattr(self, key) or key in self._keys.values():
                key += "_"
            self._keys[group.names] = key
            for index, name in enumerate(group.names):
                self._places[name] = (key, index, len(group.names))

    def place(self, group: Group, value: nn.Parameter) -> None:
        """Store a group's parameter."""
        self.register_parameter(self._keys[group.names], value)

    def stored(self, group: Group) -> Tensor:
        """The parameter of a group."""
        return self._value(self._keys[group.names])

    def _value(self, key: str) -> Tensor:
        # An attribute, no parameter, where torch.nn.utils.parametrize or prune computes it.
        value = self._parameters[key] if key in self._parameters else getattr(self, key)
        assert isinstance(value, Tensor)
        return value

    def __getitem__(self, name: str) -> Tensor:
        """The parameter, or the part of one, of a symbol.

        Raises   UsageError when the family has no such symbol
        """
        if name not in self._places:
            raise UsageError(f"there is no symbol {name!r}.{did_you_mean(name, self._places)}")
        key, index, count = self._places[name]
        parameter = self._value(key)
        if count == 1:
            return parameter
        rows = parameter.shape[0] // count
        return parameter[index * rows : (index + 1) * rows]

    def __getattr__(self, name: str) -> Any:
        place = self.__dict__.get("_places", {}).get(name)
        if place is not None and place[0] != name:
            return self[name]
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        """The stored parameters and their shapes."""
        return ", ".join(f"{name}: {tuple(value.shape)}" for name, value in self.named_parameters())
