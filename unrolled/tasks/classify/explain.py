"""What of a text a model goes by: how the odds of a label fall when a part is taken out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.data.buckets import buckets
from unrolled.data.reader import Reader
from unrolled.models.text import TextModel
from unrolled.tasks.classify.labels import Labels
from unrolled.tasks.reading import READ_TOKENS


class Influence(NamedTuple):
    """A part of a text, and by how many nats the log-odds of the label fall without it; below 0, rise."""

    part: str
    nats: float


def influences(model: TextModel, reader: Reader, parts: Sequence[str], labels: Labels, number: int) -> list[Influence]:
    """The influence of each part on a label.

    Each is taken out, and the text read again: what is said twice therefore counts little each time.

    Source   "leave one out": Li, Monroe & Jurafsky 2016, "Understanding neural networks through representation erasure"
    """
    without = [[*parts[:place], *parts[place + 1 :]] for place in range(len(parts))]
    encoded = reader.encode([list(parts), *without])
    odds = np.zeros(len(encoded))
    with torch.inference_mode():
        for rows in buckets(encoded.lengths, READ_TOKENS):
            odds[rows] = log_odds(model(encoded.batch(rows)), labels, number).numpy()
    return [Influence(part, float(odds[0] - left)) for part, left in zip(parts, odds[1:], strict=True)]


def log_odds(scores: Tensor, labels: Labels, number: int) -> Tensor:
    """The log-odds of a label against all others, in nats.

    Shapes   scores (texts, score); returns (texts,)
    """
    scores = scores.double()
    if labels.is_binary:
        return scores[:, 0] if number else -scores[:, 0]
    if labels.separator:
        return scores[:, number]
    others = [place for place in range(scores.shape[1]) if place != number]
    return scores[:, number] - torch.logsumexp(scores[:, others], 1)
