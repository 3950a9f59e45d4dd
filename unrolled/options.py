"""What can be set when a task is trained: each field is a keyword in Python, a flag of the command line, a key of the
configuration. Loads nothing, so that the command line can say what there is at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from unrolled.errors import UsageError

# Annotation -> what a value is, in words, and the types that do.
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "float | None": ("a number", (int, float)),
    "str": ("a text", (str,)),
}
_LIMITS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "above": ("above", lambda value, limit: value > limit),
    "from": ("at least", lambda value, limit: value >= limit),
    "below": ("below", lambda value, limit: value < limit),
}
SEEDS = {"from": 0, "below": 2**63}


def _option(default: Any, about: str, limits: Mapping[str, float] | None = None) -> Any:
    """A field with its description and, if it is a number, the limits that it keeps to."""
    return field(default=default, metadata={"about": about, "limits": limits or {}})


def check(options: Any) -> None:
    """Raise UsageError, naming the option, unless every value is of its field's type and within its limits."""
    for described in fields(options):
        value = getattr(options, described.name)
        if described.type in _TYPES and not (value is None and "None" in str(described.type)):
            kind, types = _TYPES[str(described.type)]
            if not isinstance(value, types) or isinstance(value, bool):
                raise UsageError(f"{described.name} must be {kind}, not {value!r}")
            check_number(described.name, value, described.metadata["limits"])


def check_number(name: str, value: Any, limits: Mapping[str, float]) -> None:
    """Raise UsageError, naming the value, unless it is finite and within its limits."""
    if not limits:
        return
    words = " and ".join(f"{_LIMITS[key][0]} {limit}" for key, limit in limits.items())
    if not math.isfinite(value) or not all(_LIMITS[key][1](value, limit) for key, limit in limits.items()):
        raise UsageError(f"{name} must be {words}, not {value!r}")


@dataclass(frozen=True)
class LanguageModelOptions:
    """The model of `language-model` and the reading of its text."""

    cell: Any = _option("lstm", "A name, a file of equations or the equations.")
    hidden_size: int = _option(256, "Units of each layer.", {"above": 0})
    layers: int = _option(1, "Layers one upon the other.", {"above": 0})
    dropout: float = _option(0.2, "Share of each layer's output that is dropped in training.", {"from": 0, "below": 1})
    batch_size: int = _option(32, "Pieces of the text that are read side by side.", {"above": 0})
    window: int = _option(32, "Steps between two cuts of truncated backpropagation.", {"above": 0})
    held_out: float = _option(0.1, "Share of the text, at its end, to evaluate on.", {"above": 0, "below": 1})
    backend: str = _option("", "The engine; the fastest that runs if not given.")


@dataclass(frozen=True)
class TrainingOptions:
    """How any model is trained. The learning rate warms up over the first steps and falls to zero along a cosine."""

    epochs: int = _option(10, "Readings of the data, unless --minutes says otherwise.", {"above": 0})
    minutes: float | None = _option(
        None, "Measure the first steps, then fix as many as this time allows.", {"above": 0, "below": 1e6}
    )
    learning_rate: float = _option(0.004, "The highest learning rate.", {"above": 0})
    weight_decay: float = _option(0.01, "Share of each weight taken off a step, times the learning rate.", {"from": 0})
    clip: float = _option(1.0, "Largest norm of the whole gradient.", {"above": 0})
    evaluations: int = _option(5, "Times the held-out loss is taken, evenly, the last at the end.", {"above": 0})
    seed: int = _option(0, "Initial values and everything drawn in training.", SEEDS)
