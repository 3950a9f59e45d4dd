"""How a tagger is made, and what it gives of sentences, whatever their length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.data.buckets import buckets
from unrolled.data.reader import Reader
from unrolled.data.sentences import Sentence
from unrolled.data.words import Encoded, Numbers
from unrolled.language import Cell
from unrolled.layers.words import Words
from unrolled.models.tagger import Scores, Tagger
from unrolled.options import TagOptions
from unrolled.tasks.classify.labels import Labels
from unrolled.tasks.reading import READ_TOKENS, layers_of, within_memory, word_vectors
from unrolled.tasks.tag.tags import Tags

# Of a chain, at each step: pairs of labels that are held at once, and steps that are read for all that.
PAIRS, FEWEST_TOKENS = 2**23, 500


class Read(NamedTuple):
    """What a model gives of a sentence: numbers of labels, how likely each is held, scores of the whole."""

    numbers: Numbers
    probabilities: NDArray[np.float64]
    intents: Tensor | None


def build(options: TagOptions, cell: Cell, reader: Reader, tags: Tags, intents: Labels | None) -> Tagger:
    """A new model of these options.

    Raises   UnrolledError when it is too large for the memory
    """
    scores = intents.scores if intents is not None else 0

    def tagger(own: TagOptions) -> Tagger:
        vectors = word_vectors(own, reader)
        layer = layers_of(own, cell, vectors.output_size)
        crf = tags.crf() if own.crf else None
        return Tagger(vectors, layer, len(tags.names), crf=crf, intents=scores, dropout=own.dropout)

    with within_memory(options):
        model = tagger(options)
        if options.forward_too:
            model.forward_only = tagger(replace(options, bidirectional=False))
        return model


def checker(tags: Tags, intents: Labels | None) -> Callable[[Sentence], object]:
    """What raises UsageError, with the reason, for a sentence with a label or a class that there is not."""

    def check(sentence: Sentence) -> None:
        tags.numbers(sentence.labels)
        if intents is not None:
            intents.numbers(sentence.intent)

    return check


def in_batches(model: Tagger, encoded: Encoded, rows: Numbers) -> Iterator[tuple[Numbers, Words, Scores]]:
    """The scores of texts, batch by batch, with the rows that they are."""
    most = READ_TOKENS
    if model.crf is not None:
        most = max(FEWEST_TOKENS, min(READ_TOKENS, PAIRS // model.crf.labels**2))
    for places in buckets(encoded.lengths[rows], most):
        words = encoded.batch(rows[places])
        yield rows[places], words, model(words)


def read(model: Tagger, words: Words, scores: Scores) -> list[Read]:
    """What the scores of a batch come to, text by text."""
    labels, probabilities = (each.numpy() for each in model.given(scores.labels, words.lengths))
    return [
        Read(labels[:length, row], probabilities[:length, row], None if scores.intents is None else scores.intents[row])
        for row, length in enumerate(words.lengths.tolist())
    ]


def read_in_pieces(model: Tagger, reader: Reader, texts: Iterable[Sequence[str]]) -> list[Read]:
    """What a model gives of sentences. One that is too long is read piece by piece, its class by the first of them."""
    pieces: list[Sequence[str]] = []
    bounds = [0]
    for tokens in texts:
        pieces += [tokens[first : first + reader.longest] for first in range(0, len(tokens) or 1, reader.longest)]
        bounds.append(len(pieces))
    found: dict[int, Read] = {}
    with torch.inference_mode():
        for rows, words, scores in in_batches(model.eval(), reader.encode(pieces), np.arange(len(pieces))):
            found |= zip(rows.tolist(), read(model, words, scores), strict=True)
    return [_joined([found[row] for row in range(*each)]) for each in pairwise(bounds)]


def _joined(pieces: Sequence[Read]) -> Read:
    numbers, probabilities, _ = zip(*pieces, strict=True)
    return Read(np.concatenate(numbers), np.concatenate(probabilities), pieces[0].intents)
