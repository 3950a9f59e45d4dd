"""How good probabilities of labels are: accuracy, F1, calibration, and which texts are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
BINS = 10
AMONG = 3


class Bin(NamedTuple):
    """Texts whose probability lies between two bounds: how many, its mean, and the share that is right."""

    texts: int
    confidence: float
    accuracy: float


def decided(probabilities: Probabilities, several: bool) -> NDArray[np.bool_]:
    """Which labels are given: the likeliest, or all above a half.

    Shapes   (texts, label) to the same
    """
    if several:
        return probabilities > 0.5
    found = np.zeros(probabilities.shape, bool)
    found[np.arange(len(found)), probabilities.argmax(1)] = True
    return found


def one_hot(targets: NDArray[Any], labels: int) -> NDArray[np.bool_]:
    """What is wanted, as `decided` has it.

    Shapes   (texts,) numbers, or (texts, label); returns (texts, label)
    """
    return targets > 0.5 if targets.ndim == 2 else targets[:, None] == np.arange(labels)


def figures(probabilities: Probabilities, wanted: NDArray[np.bool_], several: bool) -> dict[str, float]:
    """Accuracy (all labels of a text right), macro F1, calibration error; where there are several, micro F1, and where
    one of many, how often it is among the three likeliest.

    A label that neither stands nor is given counts for nothing in the mean.
    """
    given = decided(probabilities, several)
    right = (given == wanted).all(1)
    hits = (given & wanted).sum(0)
    marked = given.sum(0) + wanted.sum(0)
    scores = 2 * hits[marked > 0] / marked[marked > 0]
    found = {"accuracy": float(right.mean()), "macro_f1": float(scores.mean()) if len(scores) else 0.0}
    if not several and probabilities.shape[1] > AMONG:
        likeliest = np.argsort(-probabilities, 1, kind="stable")[:, :AMONG]
        found["top_3"] = float(np.take_along_axis(wanted, likeliest, 1).any(1).mean())
    if several:
        found["micro_f1"] = float(2 * hits.sum() / max(1, marked.sum()))
    found["calibration_error"] = calibration_error(calibration(probabilities, wanted, several))
    return found


def calibration(probabilities: Probabilities, wanted: NDArray[np.bool_], several: bool) -> list[Bin]:
    """Texts by the probability of what is given, in bins of equal width; of several labels each label is one.

    Source   Guo et al. 2017, "On calibration of modern neural networks"
    """
    if several:
        sure = np.maximum(probabilities, 1 - probabilities).ravel()
        right = ((probabilities > 0.5) == wanted).ravel()
    else:
        sure = probabilities.max(1)
        right = wanted[np.arange(len(wanted)), probabilities.argmax(1)]
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    return [
        Bin(int(chosen.sum()), float(sure[chosen].mean()), float(right[chosen].mean()))
        for chosen in (places == place for place in range(BINS))
        if chosen.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance between probability and share that is right, by texts."""
    total = sum(each.texts for each in bins)
    return sum(each.texts * abs(each.confidence - each.accuracy) for each in bins) / max(1, total)


def confusion(probabilities: Probabilities, wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How often a label of a row was given the label of a column.

    Shapes   returns (label, label)
    """
    labels = wanted.shape[1]
    pairs = wanted.argmax(1) * labels + probabilities.argmax(1)
    return np.bincount(pairs, minlength=labels * labels).reshape(labels, labels)


def worst(probabilities: Probabilities, wanted: NDArray[np.bool_], several: bool, count: int) -> list[int]:
    """The texts of those that are wrong whose labels are held the least likely, the worst first."""
    wrong = np.flatnonzero((decided(probabilities, several) != wanted).any(1))
    likely = np.where(wanted, probabilities, 1 - probabilities).min(1) if several else (probabilities * wanted).sum(1)
    return [int(row) for row in wrong[np.argsort(likely[wrong], kind="stable")][:count]]
