"""A training that begins with the weights and the vocabulary of another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from unrolled.cells import resolve
from unrolled.data.vocabulary import Vocabulary
from unrolled.errors import UsageError
from unrolled.ir.structure import DENSE
from unrolled.layers import Recurrent
from unrolled.models.one_to_many import LanguageModel
from unrolled.tasks.language_model.run import LanguageModelRun

# What the weights of a run are made for.
FIXED = {
    "data": ("unit", "symbols", "end_token"),
    "model": ("cell", "hidden_size", "layers", "structure", "embedding_size", "tied"),
}
# Of runs that were made before there was such an option.
EARLIER = {"structure": "deep"}
SHOWN_SYMBOLS = 20


def options_of_start(begun: LanguageModelRun, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those that the weights of the earlier run ask for.

    Raises   UsageError for an option that would change them
    """
    options = dict(given)
    for table, names in FIXED.items():
        for name in names:
            value = begun.cell if name == "cell" else begun.config[table].get(name, EARLIER.get(name))
            if name in options and (resolve(options[name]) if name == "cell" else options[name]) != value:
                shown = begun.cell.name if name == "cell" else value
                raise UsageError(f"the run to start from has {name} {shown}: leave out {name}")
            options[name] = value
    return options


def adopt(model: LanguageModel, vocabulary: Vocabulary, begun: LanguageModelRun) -> str:
    """Give a new model the weights of an earlier run; symbols that are new stand at the end and keep what was drawn for
    them, but are predicted as rarely as the rarest so far. Returns what to say of it.

    Raises   UsageError when symbols are new and the cell has no columns to add for them
    """
    known = len(begun.vocabulary)
    added = [vocabulary.name(number) for number in range(known, len(vocabulary))]
    shown = " ".join(added[:SHOWN_SYMBOLS]) + (" …" if len(added) > SHOWN_SYMBOLS else "")
    if added and not _grows_at_the_end(model):
        raise UsageError(
            f"{len(added):,} symbols are new to the run to start from, {shown}, and its cell has a map of symbols that "
            "cannot be added to: only a run with an embedding_size can be started from then"
        )
    weights = model.state_dict()
    for name, old in begun.model.state_dict().items():
        weights[name][tuple(slice(0, size) for size in old.shape)] = old
    bias = model.head.bias if model.head is not None else model.bias
    assert bias is not None
    with torch.no_grad():
        bias[known:] = bias[:known].min()
    if not added:
        return "no symbol is new to the run that this starts from"
    return f"{len(added):,} symbols are new to the run that this starts from: {shown}"


def _grows_at_the_end(model: LanguageModel) -> bool:
    """Whether symbols that are appended are appended in the storage of every parameter, too."""
    if model.embedding is not None:
        return True
    lowest = next(layer for layer in model.layers.layers if isinstance(layer, Recurrent))
    reading = [group for group in lowest.groups if "input" in group.shape]
    return all(group.structure == DENSE and group.shape[1:] == ("input",) for group in reading)
