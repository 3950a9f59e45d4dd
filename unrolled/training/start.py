"""A training that begins with the weights and the vocabulary of another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unrolled.cells import resolve
from unrolled.errors import UsageError
from unrolled.tasks import LanguageModelRun, LanguageModelTask

# What the weights of a run are made for.
FIXED = {"data": ("unit", "end_token"), "model": ("cell", "hidden_size", "layers", "embedding_size", "tied")}
SHOWN_SYMBOLS = 20


def options_of_start(begun: LanguageModelRun, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those that the weights of the earlier run ask for.

    Raises   UsageError for an option that would change them
    """
    options = dict(given)
    for table, names in FIXED.items():
        for name in names:
            value = begun.cell if name == "cell" else begun.config[table][name]
            if name in options and (resolve(options[name]) if name == "cell" else options[name]) != value:
                shown = begun.cell.name if name == "cell" else value
                raise UsageError(f"the run to start from has {name} {shown}: leave out {name}")
            options[name] = value
    return options


def adopt(learner: LanguageModelTask, begun: LanguageModelRun) -> list[str]:
    """Give a new model the weights of an earlier run; symbols that are new stand at the end and keep what was drawn for
    them, but are foretold as rarely as the rarest so far. Returns what to say of it.
    """
    vocabulary, known = learner.vocabulary, len(begun.vocabulary)
    weights = learner.model.state_dict()
    for name, old in begun.model.state_dict().items():
        _place(weights[name], old)
    bias = learner.model.head.bias if learner.model.head is not None else learner.model.bias
    assert bias is not None
    with torch.no_grad():
        bias[known:] = bias[:known].min()
    added = [vocabulary.name(number) for number in range(known, len(vocabulary))]
    if not added:
        return ["no symbol is new to the run that this starts from"]
    shown = " ".join(added[:SHOWN_SYMBOLS]) + (" …" if len(added) > SHOWN_SYMBOLS else "")
    return [f"{len(added):,} symbols are new to the run that this starts from: {shown}"]


def _place(new: Tensor, old: Tensor) -> None:
    """Put the old values into the beginning of the new ones: only the axis of the symbols has grown, at its end."""
    new[tuple(slice(0, size) for size in old.shape)] = old
