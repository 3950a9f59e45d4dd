"""Initial values of parameters, by name or number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from unrolled.backends.maps import cut, side
from unrolled.errors import UsageError, did_you_mean
from unrolled.ir.plan import Group
from unrolled.ir.program import Initial
from unrolled.ir.structure import DENSE, Structure


def _glorot(view: Tensor) -> None:
    bound = math.sqrt(6 / (view.shape[0] + view.shape[1]))
    torch.nn.init.uniform_(view, -bound, bound)


def _orthogonal(view: Tensor) -> None:
    # Decomposed in float32 at least: torch has no decomposition of narrower types.
    wide = torch.empty_like(view, dtype=torch.promote_types(view.dtype, torch.float32))
    view.copy_(torch.nn.init.orthogonal_(wide))


def _identity(view: Tensor) -> None:
    torch.nn.init.eye_(view)


def _uniform(view: Tensor) -> None:
    """Within one over the square root of the number of values read, as torch's layers do."""
    bound = 1 / math.sqrt(max(1, view.shape[1]))
    torch.nn.init.uniform_(view, -bound, bound)


INITIALISERS: dict[str, Callable[[Tensor], object]] = {
    "glorot": _glorot,  # Glorot & Bengio 2010
    "orthogonal": _orthogonal,  # Saxe, McClelland & Ganguli 2014
    "identity": _identity,  # Le, Jaitly & Hinton 2015
    "uniform": _uniform,
    "normal": torch.nn.init.normal_,  # unit variance: for maps of one-hot vectors, which read one entry a unit
    "zeros": Tensor.zero_,
    "ones": lambda view: view.fill_(1),
}
DEFAULTS: dict[str, Initial] = {"W": "glorot", "U": "orthogonal", "V": "glorot", "b": 0.0, "p": 0.0, "s": 1.0}


def initialise(group: Group, value: Tensor, choices: Mapping[str, Initial]) -> None:
    """Fill a stored parameter, symbol by symbol in source order.

    choices  symbol or family -> a number or the name of an initialiser; a symbol goes before its family
    Raises   UsageError for an unknown name
    """
    parts = [value] if len(group.names) == 1 else value.chunk(len(group.names))
    with torch.no_grad():
        for name, part in zip(group.names, parts, strict=True):
            default = DEFAULTS[group.family]
            choice = choices.get(f"{group.family}.{name}", choices.get(group.family, default))
            if not isinstance(choice, str):
                part.fill_(choice)
                continue
            if choice not in INITIALISERS:
                raise UsageError(f"there is no initialiser {choice!r}.{did_you_mean(choice, INITIALISERS)}")
            _fill(group.structure, part, INITIALISERS[choice])


def initialise_chrono(opens: bool, keep: Tensor, enter: Iterable[Tensor], longest: float) -> None:
    """Fill the biases of a memory's gates so that its units forget within 1 to `longest` steps, each in its own time.

    opens    whether the gate of bias `keep` keeps the memory when it is open, or lets the new in
    enter    biases of the gates by which else something enters: they are as far shut as the memory is kept
    Raises   UsageError for a dependence of 2 steps or less
    Source   Tallec & Ollivier 2018, arXiv 1804.11188: the logarithm of a number drawn from 1 to `longest` - 1
    """
    if not longest > 2:
        raise UsageError(f"chrono is the longest dependence in steps, more than 2, not {longest!r}")
    with torch.no_grad():
        drawn = torch.empty_like(keep).uniform_(1, longest - 1).log_()
        keep.copy_(drawn if opens else -drawn)
        for bias in enter:
            bias.copy_(-drawn)


def _fill(structure: Structure, entries: Tensor, fill: Callable[[Tensor], object]) -> None:
    """Blocks and factors are filled as maps of their own; a triangle or diagonal is cut from a full map."""
    if structure.name == "block_diagonal":
        for block in entries:
            fill(block)
    elif entries.dim() == 2:
        fill(entries)
    elif structure == DENSE:
        fill(entries.view(-1, 1))
    else:
        units = side(structure, entries)
        full = entries.new_empty(units, units)
        fill(full)
        entries.copy_(cut(structure, full))
