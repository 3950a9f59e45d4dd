"""An assessment: how good probabilities are, of several methods on the same texts, and where they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.data.examples import Example
from unrolled.tasks.classify.figures import (
    Probabilities,
    calibration,
    confusion,
    decided,
    figures,
    one_hot,
    worst,
)
from unrolled.tasks.classify.labels import Labels

WORST = 20
# Characters of a text that is shown.
SHOWN = 300


def assess(
    methods: Sequence[tuple[str, Probabilities]],
    labels: Labels,
    texts: Sequence[Example],
    known_again: NDArray[np.bool_],
) -> dict[str, Any]:
    """What is found of texts with labels, ready for a file of JSON; the first method is the model.

    methods       name and probabilities (texts, label)
    known_again   (texts,) those that were trained on, too: all is measured without them besides
    """
    several = bool(labels.separator)
    wanted = one_hot(labels.targets([text.label for text in texts]).numpy(), len(labels.names))
    new = ~known_again
    model = methods[0][1]
    found: dict[str, Any] = {
        "texts": len(texts),
        "known_again": int(known_again.sum()),
        "methods": {name: figures(p, wanted, several) for name, p in methods},
        "calibration": [list(each) for each in calibration(model, wanted, several)],
        "worst": [_shown(texts[row], model[row], labels) for row in worst(model, wanted, several, WORST)],
    }
    if known_again.any() and new.any():
        found["without_known"] = {name: figures(p[new], wanted[new], several) for name, p in methods}
    if several:
        hits = (decided(model, True) & wanted).sum(0)
        sums = decided(model, True).sum(0) + wanted.sum(0)
        found["by_label"] = {
            name: [int(wanted[:, place].sum()), float(2 * hits[place] / max(1, sums[place]))]
            for place, name in enumerate(labels.names)
        }
    else:
        found["confusion"] = confusion(model, wanted).tolist()
    return found


def _shown(text: Example, probabilities: NDArray[np.float64], labels: Labels) -> Mapping[str, Any]:
    given = decided(probabilities[None], bool(labels.separator))[0]
    shown = " | ".join(text.texts)
    return {
        "text": shown if len(shown) <= SHOWN else f"{shown[:SHOWN]} …",
        "columns": [column[:SHOWN] for column in text.texts],
        "label": text.label,
        "given": (labels.separator or " ").join(labels.names[place] for place in np.flatnonzero(given)),
        "probability": float(probabilities[given].min()) if given.any() else float(1 - probabilities.max()),
        "place": text.place,
    }
