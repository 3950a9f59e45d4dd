"""What can be set when a task is trained: each field is a keyword in Python, a flag of the command line, a key of the
configuration. Loads nothing, so that the command line can say what there is at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unrolled.errors import UsageError


def _option(default: Any, about: str, least: float | None = None) -> Any:
    """A field with its description and the number that it must lie above, if it is one."""
    return field(default=default, metadata={"about": about, "above": least})


def check(options: object) -> None:
    """Raise UsageError, naming the option, unless every number lies above what its field says."""
    for name, described in options.__dataclass_fields__.items():  # type: ignore[attr-defined]
        value, above = getattr(options, name), described.metadata["above"]
        if above is not None and value is not None and not value > above:
            raise UsageError(f"{name} is above {above}, not {value!r}")


@dataclass(frozen=True)
class LanguageModelOptions:
    """The model of `language-model` and the reading of its text."""

    cell: Any = _option("lstm", "A name, a file of equations or the equations.")
    hidden_size: int = _option(256, "Units of each layer.", 0)
    layers: int = _option(1, "Layers one upon the other.", 0)
    dropout: float = _option(0.2, "Share of each layer's output that is dropped in training.")
    batch_size: int = _option(32, "Pieces of the text that are read side by side.", 0)
    window: int = _option(32, "Steps between two cuts of truncated backpropagation.", 0)
    held_out: float = _option(0.1, "Share of the text, at its end, to evaluate on.", 0)
    backend: str = _option("", "The engine; the fastest that runs if not given.")


@dataclass(frozen=True)
class TrainingOptions:
    """How any model is trained. The learning rate warms up over the first steps and falls to zero along a cosine."""

    epochs: int = _option(10, "Readings of the data, unless --minutes says otherwise.", 0)
    minutes: float | None = _option(None, "Measure the first steps, then fix as many as this time allows.", 0)
    learning_rate: float = _option(0.004, "The highest learning rate.", 0)
    weight_decay: float = _option(0.01, "Share of each weight taken off a step, times the learning rate.")
    clip: float = _option(1.0, "Largest norm of the whole gradient.", 0)
    evaluations: int = _option(5, "Times the held-out loss is taken, evenly, the last at the end.", 0)
    seed: int = _option(0, "Initial values and everything drawn in training.")
