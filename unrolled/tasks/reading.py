"""What the tasks on texts with labels share: how they read, their batches of like length, and the network for them."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cached_property, lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unrolled.data.buckets import buckets, in_number, padding
from unrolled.data.labelled import Labelled, normalised
from unrolled.data.reader import Reader
from unrolled.data.vectors import Vectors, neighbours, read_vectors
from unrolled.data.words import Encoded, Numbers, Spelling
from unrolled.errors import UnrolledError, UsageError
from unrolled.language import Cell
from unrolled.layers import Recurrent, SequenceLayer, WindowMLP, network
from unrolled.layers.words import Words, WordVectors
from unrolled.models.text import WordModel
from unrolled.options import BatchOptions, LabelledOptions, WordsOptions
from unrolled.tasks.base import Run, of_layers

# Steps of a batch without gradients: more than in training, since nothing is kept.
READ_TOKENS = 16_000
SHOWN_ROWS = 5
# Words whose vectors are computed at once, and those among which neighbours are sought.
AT_ONCE, MOST_FREQUENT = 4000, 20_000
# Why a share to hold out is refused.
IDLE_SHARE = "held_out_data are evaluated on, and no share of the others"
# An epoch has as many, however few the texts are.
FEWEST_BATCHES = 50


Options = TypeVar("Options", bound=LabelledOptions | WordsOptions)


class Batch(NamedTuple):
    """Some of the texts that are trained on, and their rows."""

    words: Words
    rows: Numbers


class TextTask(ABC):
    """A task on texts with labels, for the loop: nothing is carried from one batch to the next.

    given      the texts as they were read
    other      those of the file of their own to evaluate on, if there is one
    encoded    all texts
    train      the rows to train on
    held_out   the rows to evaluate on
    """

    name: str
    unit: str

    model: WordModel
    training: BatchOptions
    given: Labelled[Any]
    other: Labelled[Any] | None

    def __init__(self, encoded: Encoded, train: Numbers, held_out: Numbers, training: BatchOptions):
        self.encoded, self.train, self.held_out = encoded, train, held_out
        self.notices: list[str] = []
        tokens = int(encoded.lengths[train].sum())
        fewer = max(1, min(training.batch_tokens, tokens // FEWEST_BATCHES))
        if fewer < training.batch_tokens:
            self.notices.append(f"the texts are few: batch_tokens {fewer} instead of {training.batch_tokens}")
        self.training = replace(training, batch_tokens=fewer)
        self._figures: Mapping[str, float] = {}
        self._batches = lru_cache(2)(self._of_epoch)
        self._sizes = lru_cache(2)(self._sizes_of_epoch)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        return len(buckets(self.encoded.lengths[self.train], self.training.batch_tokens, (self.training.seed, 0)))

    def _of_epoch(self, epoch: int) -> list[Numbers]:
        """The rows of each batch of an epoch, another order in each, as many batches in all."""
        lengths = self.encoded.lengths[self.train]
        drawn = buckets(lengths, self.training.batch_tokens, (self.training.seed, epoch))
        return [self.train[places] for places in in_number(drawn, self.steps_per_epoch)]

    def size(self, rows: Numbers) -> int:
        """Units in some of the texts."""
        return len(rows)

    def units(self, steps: int) -> int:
        """Units in the first so many batches, over all epochs."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        return epochs * self.size(self.train) + self._sizes(epochs)[rest]

    def _sizes_of_epoch(self, epoch: int) -> list[int]:
        """Units in the first so many batches of an epoch."""
        return [0, *accumulate(map(self.size, self._batches(epoch)))]

    def prepare(self) -> None:  # noqa: B027  (most learn nothing else)
        """Nothing is learned before the first step."""

    def windows(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch, in an order of chance that is the same whenever it is asked for."""
        for rows in self._batches(epoch)[first:]:
            yield Batch(self.encoded.batch(rows, grouped=False), rows)

    def state(self) -> Any:
        """There is none."""
        return None

    def sample(self) -> str:
        """Nothing is written."""
        return ""

    def figures(self) -> Mapping[str, float]:
        """What the last evaluation has measured besides the loss; the first decides which weights are kept."""
        return self._figures

    def evaluate(self) -> float | None:
        """The mean loss of the held-out texts, in nats."""
        if not len(self.held_out):
            return None
        self.model.eval()
        with torch.no_grad():
            loss, self._figures = self.measure()
        self.model.train()
        return loss

    @abstractmethod
    def measure(self) -> tuple[float, Mapping[str, float]]:
        """The mean loss of the held-out texts, and further figures, the one that decides first."""

    def _all(self) -> Iterator[Any]:
        return chain(self.given, self.other or ())

    def _of(self, rows: Numbers) -> Iterator[Any]:
        """Some of the texts, which are read once more."""
        wanted = set(rows.tolist())
        return (found for row, found in enumerate(self._all()) if row in wanted)

    @torch.no_grad()
    def _try_one_step(self) -> None:
        """Meet what cannot run before anything is made of it."""
        self.model.eval()
        self.model(self.encoded.batch(self.train[:2]))
        self.model.train()

    @cached_property
    def understood(self) -> list[list[str]]:
        """What was understood of the data, and what the user should know of it, for the report: names and values."""
        return [*map(list, self.description), *(["note", notice] for notice in self.notices)]

    @property
    @abstractmethod
    def description(self) -> list[tuple[str, str]]:
        """What was understood of the data."""

    @property
    def digest(self) -> str:
        """A hash of the texts and labels as they were read."""
        return self.given.digest + (self.other.digest if self.other is not None else "")

    def _parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def _unknown(self, rows: Numbers) -> float:
        """The share of words that have no vector of their own."""
        return self.encoded.unknown(rows) / max(1, int(self.encoded.lengths[rows].sum()))

    def _known_again(self) -> NDArray[np.bool_]:
        """Which of the held-out texts are trained on, too."""
        return known_again([self.encoded.texts.parts(int(row)) for row in self.held_out], self.model.seen)

    @property
    def padding(self) -> float:
        """The share of the steps of an epoch that is padding."""
        batches = self._batches(0)
        return padding(batches, self.encoded.lengths)


class TextRun(Run):
    """What was trained on texts with labels."""

    model: WordModel
    reader: Reader

    def vectors(self) -> tuple[list[str], Vectors]:
        """The words that the model knows, the most frequent first, and their vectors.

        Shapes   the vectors are (words, size)
        """
        words = self.reader.lexicon.words
        return words, vectors_of(cast(WordVectors, self.model.vectors), self.reader, words)

    def neighbours(self, word: str, top: int = 10) -> list[tuple[str, float]]:
        """The words nearest to a word, with the cosines of the angles between their vectors.

        Raises   UsageError for what is not one word, or where nothing is known of it
        """
        return near(cast(WordVectors, self.model.vectors), self.reader, word, top)

    @property
    def assessment(self) -> Mapping[str, Any] | None:
        """What was measured of the held-out texts when the training was over."""
        found = [row for row in self.metrics if row["event"] == "assessment"]
        return found[-1] if found else None


def with_paths(options: Options, *names: str) -> Options:
    """The options with whole paths, so that a training is resumed from wherever one stands."""
    given = {name: os.path.abspath(getattr(options, name)) for name in names if getattr(options, name)}
    return replace(options, **given)


def in_batches(encoded: Encoded, rows: Numbers, call: Callable[[Words], Tensor]) -> Iterator[tuple[Numbers, Tensor]]:
    """What a network gives of texts, batch by batch, with the rows that they are."""
    for places in buckets(encoded.lengths[rows], READ_TOKENS):
        yield rows[places], call(encoded.batch(rows[places]))


def seen(texts: Sequence[Sequence[str]]) -> Tensor:
    """A number for each text, of its parts, in order and each once: by these a text is known again.

    Shapes   returns (texts,), 64 bits each, of SHA-256
    """
    found = {_fingerprint(text) for text in texts}
    return torch.tensor(sorted(found), dtype=torch.int64)


def known_again(texts: Sequence[Sequence[str]], among: Tensor) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which texts are among those that `seen` had."""
    return np.isin(np.array([_fingerprint(text) for text in texts], np.int64), among.numpy())


def _fingerprint(text: Sequence[str]) -> int:
    digest = hashlib.sha256("\x1e".join(text).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def check_recorded(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise UsageError unless a run's configuration says what was found of its data."""
    found = config.get("recorded")
    for name in names:
        if not isinstance(found, Mapping) or name not in found:
            raise UsageError(f"config.toml has no {name!r} in [recorded]")


@contextmanager
def within_memory(options: WordsOptions) -> Iterator[None]:
    """Say in a line that a model is too large.

    Raises   UnrolledError when it is
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        raise UnrolledError(
            f"a model with hidden_size {options.hidden_size}, {options.layers} layers and embedding_size "
            f"{options.embedding_size} cannot be made: {str(error).splitlines()[0]}"
        ) from error


def refuse_idle(options: Any, names: Iterable[str], reason: str) -> None:
    """Raise UsageError for options that were given, and have no effect."""
    for described in fields(options):
        if described.name in names and getattr(options, described.name) != described.default:
            raise UsageError(f"{reason}: leave out {described.name}")


def refuse_idle_spelling(options: WordsOptions, spelling: Spelling) -> None:
    """Raise UsageError for options of n-grams where words are not spelled by them."""
    if spelling.kind != "ngrams":
        refuse_idle(options, ("buckets", "piece_dropout"), "no n-grams spell what is read")


def word_vectors(options: WordsOptions, reader: Reader) -> WordVectors:
    """The vectors of a reader's words, drawn at random."""
    return WordVectors(
        len(reader.lexicon),
        options.embedding_size,
        reader.lexicon.spelling.kind,
        reader.lexicon.spelling.size,
        dropout=options.dropout,
        word_dropout=options.word_dropout,
        piece_dropout=options.piece_dropout,
    )


def begin_with(vectors: WordVectors, path: str, reader: Reader) -> str:
    """Put vectors of a file in the place of those that were drawn; returns what to say of it.

    Raises   UsageError when it cannot be read, or has vectors of another size
    """
    found, is_there = read_vectors(path, reader.lexicon.words)
    size = vectors.own.embedding_dim
    if found.shape[1] != size:
        raise UsageError(f"{path} has vectors of {found.shape[1]} values: give --embedding-size {found.shape[1]}")
    with torch.no_grad():
        vectors.own.weight[1:][torch.from_numpy(is_there)] = torch.from_numpy(found[is_there])
    return f"{is_there.mean():.1%} of the words begin with vectors of {path}"


def vectors_of(vectors: WordVectors, reader: Reader, words: Sequence[str]) -> Vectors:
    """The vectors of words, without dropout; of words that a model does not know, what their spelling gives.

    Shapes   returns (words, size)
    """
    found = np.zeros((len(words), vectors.output_size), np.float32)
    with torch.inference_mode():
        for first in range(0, len(words), AT_ONCE):
            batch = reader.encode([words[first : first + AT_ONCE]]).batch([0])
            found[first : first + AT_ONCE] = vectors.eval().of_words(batch)[batch.places[:, 0]].numpy()
    return found


def near(vectors: WordVectors, reader: Reader, word: str, top: int) -> list[tuple[str, float]]:
    """The words whose vectors point most nearly where that of a word does, with the cosines of the angles.

    Raises   UsageError for what is not one word, or where nothing is known of it
    """
    word = normalised(word)
    if reader.split(word) != [word]:
        example = f", such as {reader.lexicon.words[0]!r}" if reader.lexicon.words else ""
        raise UsageError(f"{word!r} is not one of {reader.unit}: give one{example}")
    if word not in reader.lexicon and reader.lexicon.spelling.kind == "none":
        raise UsageError(f"{word!r} is not among the {len(reader.lexicon) - 1:,} {reader.unit} that the model knows")
    words = [word, *(other for other in reader.lexicon.words[:MOST_FREQUENT] if other != word)]
    return [(words[place], cosine) for place, cosine in neighbours(vectors_of(vectors, reader, words), 0, top)]


def layers_of(options: WordsOptions, cell: Cell, size: int, model: str = "recurrent", words: int = 1) -> SequenceLayer:
    """The network above the vectors.

    model   recurrent, or what it is compared with
    words   that a window-mlp sees at once
    """
    if model == "window-mlp":
        return WindowMLP(size, options.hidden_size, words)
    if model != "recurrent":
        return Recurrent(cell, size, options.hidden_size, backend=options.backend)
    return network(
        cell,
        size,
        options.hidden_size,
        options.layers,
        bidirectional=options.bidirectional,
        dropout=nn.Dropout(options.dropout),
        **of_layers(options),
    )


def described(lengths: Numbers, unit: str) -> str:
    """Lengths in words: the shortest, the middle one, the longest."""
    low, middle, high = (int(np.quantile(lengths, share)) for share in (0, 0.5, 1))
    return f"{low:,} to {high:,} {unit}, half of them up to {middle:,}"
