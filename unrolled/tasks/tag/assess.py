"""An assessment: how good labels are, of several methods on the same sentences, and where they fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.data.sentences import Sentence
from unrolled.tasks.tag.scores import figures, mistaken, of_entities, of_labels
from unrolled.tasks.tag.tags import Tags

WORST, MISTAKEN = 20, 30
# Tokens of a sentence that is shown.
SHOWN = 60


class Method(NamedTuple):
    """What a method gives of sentences: labels, in the scheme of the data; how sure it is; classes of the wholes."""

    name: str
    labels: Sequence[Sequence[str]]
    probabilities: Sequence[NDArray[np.float64]] = ()
    intents: Sequence[str] = ()


def assess(
    methods: Sequence[Method],
    tags: Tags,
    sentences: Sequence[Sentence],
    known_again: NDArray[np.bool_],
    is_known: Callable[[str], bool],
) -> dict[str, Any]:
    """What is found of labelled sentences, ready for a file of JSON; the first method is the model.

    known_again   (sentences,) those that were trained on, too: all is measured without them besides
    is_known      whether the model has a vector for a word
    """
    wanted = [tags.mended(sentence.labels) for sentence in sentences]
    unknown = [np.array([not is_known(token) for token in sentence.tokens], bool) for sentence in sentences]
    model = methods[0]

    def measured(rows: Sequence[int]) -> dict[str, dict[str, float]]:
        return {
            method.name: {
                **figures([wanted[row] for row in rows], [method.labels[row] for row in rows], tags.scheme,
                          [unknown[row] for row in rows]),
                **_of_intents(method, sentences, rows),
            }
            for method in methods
        }  # fmt: skip

    new = np.flatnonzero(~known_again).tolist()
    found: dict[str, Any] = {
        "sentences": len(sentences),
        "tokens": sum(map(len, wanted)),
        "unknown_tokens": int(sum(row.sum() for row in unknown)),
        "known_again": int(known_again.sum()),
        "methods": measured(range(len(sentences))),
        "by_label": {name: list(score) for name, score in of_labels(wanted, model.labels).items()},
        "mistaken": [list(each) for each in mistaken(wanted, model.labels, MISTAKEN)],
        "worst": [_shown(sentences[row], wanted[row], model, row) for row in _worst(wanted, model)],
    }
    if tags.scheme:
        _, kinds = of_entities(wanted, model.labels, tags.scheme)
        found["by_entity"] = {kind: list(score) for kind, score in kinds.items()}
    if len(new) not in (0, len(sentences)):
        found["without_known"] = measured(new)
    return found


def _of_intents(method: Method, sentences: Sequence[Sentence], rows: Sequence[int]) -> dict[str, float]:
    if not method.intents:
        return {}
    right = sum(method.intents[row] == sentences[row].intent for row in rows)
    return {"intent_accuracy": right / max(1, len(rows))}


def _worst(wanted: Sequence[Sequence[str]], model: Method) -> list[int]:
    """The sentences where the model is the surest of the most labels that are wrong, the worst first."""
    sure = np.array([
        sum(p for label, given, p in zip(*each, strict=True) if label != given)
        for each in zip(wanted, model.labels, model.probabilities, strict=True)
    ])  # fmt: skip
    wrong = np.flatnonzero(sure)
    return [int(row) for row in wrong[np.argsort(-sure[wrong], kind="stable")][:WORST]]


def _shown(sentence: Sentence, wanted: Sequence[str], model: Method, row: int) -> dict[str, Any]:
    found = {
        "place": sentence.place,
        "tokens": list(sentence.tokens[:SHOWN]),
        "labels": list(wanted[:SHOWN]),
        "given": list(model.labels[row][:SHOWN]),
        "probabilities": [round(float(p), 4) for p in model.probabilities[row][:SHOWN]],
    }
    return {**found, "intent": sentence.intent, "given_intent": model.intents[row]} if model.intents else found
