"""How good labels of tokens are: accuracy, F1 of labels and of entities, all of them and kind by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.data.entities import Entity, entities

Labels = Sequence[Sequence[str]]


class Score(NamedTuple):
    """How well something is found: how often it stands, precision, recall and F1, each 0 where there is none."""

    stand: int
    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, right: int, given: int, wanted: int) -> Score:
        """From how many are right, were given and were wanted."""
        return cls(wanted, right / max(1, given), right / max(1, wanted), 2 * right / max(1, given + wanted))


def of_labels(wanted: Labels, given: Labels) -> dict[str, Score]:
    """The score of each label that stands or is given."""
    pairs = Counter((label, other) for row, found in zip(wanted, given, strict=True)
                    for label, other in zip(row, found, strict=True))  # fmt: skip
    stand, are_given = _sums(pairs, 0), _sums(pairs, 1)
    return {
        label: Score.of(pairs[label, label], are_given[label], stand[label]) for label in sorted({*stand, *are_given})
    }


def _sums(pairs: Counter[tuple[str, str]], place: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for pair, count in pairs.items():
        found[pair[place]] += count
    return found


def of_entities(wanted: Labels, given: Labels, scheme: str) -> tuple[Score, dict[str, Score]]:
    """The score of entities, of which tokens and kind must be right: of all, and of each kind.

    Source   Tjong Kim Sang & De Meulder 2003, "Introduction to the CoNLL-2003 shared task"
    """
    stand, are_given = _all(wanted, scheme), _all(given, scheme)
    right = Counter(entity.kind for _, entity in stand & are_given)
    counted, found = (Counter(entity.kind for _, entity in each) for each in (stand, are_given))
    kinds = {kind: Score.of(right[kind], found[kind], counted[kind]) for kind in sorted({*counted, *found})}
    return Score.of(right.total(), found.total(), counted.total()), kinds


def _all(labels: Labels, scheme: str) -> set[tuple[int, Entity]]:
    return {(row, entity) for row, found in enumerate(labels) for entity in entities(found, scheme)}


def figures(wanted: Labels, given: Labels, scheme: str, unknown: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
    """Entity F1 where there are entities, accuracy, macro F1 over labels, accuracy on unknown words where there are.

    unknown   of each sentence, which of its words the model has no vector for
    """
    right = [np.array(row) == np.array(found) for row, found in zip(wanted, given, strict=True)]
    flat, new = _flat(right), _flat(unknown)
    by_label = of_labels(wanted, given)
    found: dict[str, float] = {}
    if scheme:
        whole, _ = of_entities(wanted, given, scheme)
        found |= {"entity_f1": whole.f1, "entity_precision": whole.precision, "entity_recall": whole.recall}
    found["accuracy"] = float(flat.mean()) if len(flat) else 0.0
    found["macro_f1"] = sum(score.f1 for score in by_label.values()) / max(1, len(by_label))
    if new.any():
        found["unknown_accuracy"] = float(flat[new].mean())
    return found


def _flat(rows: Iterable[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    return np.concatenate([np.zeros(0, bool), *rows])


def mistaken(wanted: Labels, given: Labels, most: int) -> list[tuple[str, str, int]]:
    """The labels that are mistaken for others most often: label, what was given, how often."""
    pairs = Counter(
        pair for row, found in zip(wanted, given, strict=True) for pair in zip(row, found, strict=True)
        if pair[0] != pair[1]
    )  # fmt: skip
    return [(*pair, count) for pair, count in sorted(pairs.items(), key=lambda each: (-each[1], each[0]))[:most]]
