"""What can be set when a task is trained: each field is a keyword in Python, a flag of the command line, a key of
config.toml. Loads nothing, so that the command line can say what there is at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from unrolled.errors import UsageError, did_you_mean

# Annotation -> what a value is, in words, and the types that do.
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "int | None": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "float | None": ("a number", (int, float)),
    "str": ("a text", (str,)),
    "bool": ("true or false", (bool,)),
}
_LIMITS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "above": ("above", lambda value, limit: value > limit),
    "from": ("at least", lambda value, limit: value >= limit),
    "below": ("below", lambda value, limit: value < limit),
}
SEEDS = {"from": 0, "below": 2**63}


def _option(default: Any, about: str, limits: Mapping[str, float] | None = None, choices: Sequence[str] = ()) -> Any:
    """A field with its description, the limits that a number keeps to, the words that a text is one of."""
    return field(default=default, metadata={"about": about, "limits": limits or {}, "choices": tuple(choices)})


def check(options: Any) -> None:
    """Raise UsageError, naming the option, unless every value is of its field's type and within its limits."""
    for described in fields(options):
        value = getattr(options, described.name)
        if described.type not in _TYPES or (value is None and "None" in str(described.type)):
            continue
        kind, types = _TYPES[str(described.type)]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(f"{described.name} must be {kind}, not {value!r}")
        check_number(described.name, value, described.metadata["limits"])
        choices = described.metadata["choices"]
        if choices and value not in choices:
            shown = [choice or '""' for choice in choices]
            raise UsageError(f"there is no {described.name} {value!r}.{did_you_mean(str(value), shown)}")


def check_number(name: str, value: Any, limits: Mapping[str, float]) -> None:
    """Raise UsageError, naming the value, unless it is finite and within its limits."""
    if not limits:
        return
    words = " and ".join(f"{_LIMITS[key][0]} {limit}" for key, limit in limits.items())
    if not math.isfinite(value) or not all(_LIMITS[key][1](value, limit) for key, limit in limits.items()):
        raise UsageError(f"{name} must be {words}, not {value!r}")


@dataclass(frozen=True)
class TextOptions:
    """How a text is read."""

    encoding: str = _option("utf-8", "How the files are written: utf-8, cp949, cp1252, …")
    text: str = _option(
        "", "The column of the texts, where the data are tables (CSV, TSV, JSON lines, Parquet): a row is a document."
    )
    unit: str = _option(
        "characters", "What is read at a step: characters, bytes, jamo, words, or subwords that are learned from the "
        "text (bpe, unigram).", None, ("characters", "bytes", "jamo", "words", "bpe", "unigram"),
    )  # fmt: skip
    symbols: int | None = _option(
        None, "How many subwords are learned, of the units bpe and unigram; 8,000 if not given.", {"above": 256}
    )
    min_count: int | None = _option(
        None, "A symbol that is rarer counts as unknown; 2 for words, else 1, if not given.", {"above": 0}
    )
    end_token: str = _option(
        "", "Where a symbol for the end stands: document, line or none; at documents, where there are several, if not "
        "given.", None, ("", "none", "line", "document"),
    )  # fmt: skip
    held_out: float = _option(0.1, "Share of the text, at its end, to evaluate on.", {"from": 0, "below": 1})


@dataclass(frozen=True)
class NetworkOptions:
    """A recurrent network, whatever it is for."""

    cell: Any = _option("lstm", "A name, a file of equations or the equations.")
    hidden_size: int = _option(256, "Units of each layer.", {"above": 0})
    layers: int = _option(1, "Layers one upon the other.", {"above": 0})
    structure: str = _option(
        "deep", "What stands above the lowest layer: layers (deep) that add to what they read (residual) or "
        "share their weights (tied); of classify also layers that read what the one below made of slices (sliced).",
        None, ("deep", "residual", "tied"),
    )  # fmt: skip
    recurrent_dropout: float = _option(
        0.0, "Share of the states that is dropped on their way to the next step.", {"from": 0, "below": 1}
    )
    zoneout: float = _option(
        0.0, "Probability that a unit of a state keeps its old value for a step of training.", {"from": 0, "below": 1}
    )
    weight_drop: float = _option(
        0.0, "Share of the recurrent maps' weights that is dropped in training.", {"from": 0, "below": 1}
    )
    chrono: int = _option(
        0, "Begin the gates' biases for dependences of up to so many steps; 0 for the cell's own values.", {"from": 0}
    )
    backend: str = _option("", "The engine; the fastest that runs if not given.")
    precision: str = _option(
        "", "What the layers multiply in: bf16 for bfloat16, summed in float32; as the weights are if not given.", None,
        ("", "bf16"),
    )  # fmt: skip


@dataclass(frozen=True)
class LanguageModelOptions(NetworkOptions):
    """The model of `language-model`."""

    embedding_size: int = _option(0, "Size of a learned vector for each symbol; 0 for one-hot vectors.", {"from": 0})
    tied: bool = _option(False, "Score the next symbol by the vectors that symbols enter as.")
    dropout: float = _option(
        0.2,
        "Share of each layer's output, and of learned vectors, that is dropped in training.",
        {"from": 0, "below": 1},
    )
    dropout_kind: str = _option(
        "steps", "Drop other units at each step (steps) or the same in a whole window (variational).", None,
        ("steps", "variational"),
    )  # fmt: skip


@dataclass(frozen=True)
class LabelledOptions:
    """How labelled texts are read."""

    encoding: str = _option("utf-8", "How the files are written: utf-8, cp949, cp1252, …")
    text: str = _option("", "The column of the texts; several with commas between. Guessed if not given, and said.")
    label: str = _option("", "The column of the labels. Guessed if not given, and said.")
    unit: str = _option(
        "words", "What is read at a step: words, characters, bytes, jamo, subwords that are learned from the texts "
        "(bpe, unigram), or morphemes of Korean.", None,
        ("words", "characters", "bytes", "jamo", "bpe", "unigram", "morphemes"),
    )  # fmt: skip
    symbols: int | None = _option(
        None, "How many subwords are learned, of the units bpe and unigram; 8,000 if not given.", {"above": 256}
    )
    min_count: int = _option(2, "What is rarer in the texts has no vector of its own.", {"above": 0})
    longest: int = _option(1000, "Steps of a text that are read, its first ones.", {"above": 0})
    held_out: float = _option(
        0.1, "Share of the texts to evaluate on, of each label alike, where no --held-out-data are given.",
        {"from": 0, "below": 1},
    )  # fmt: skip
    held_out_data: str = _option("", "A file of texts to evaluate on.")
    skip_bad: bool = _option(False, "Leave rows out that cannot be used, and say how many.")


@dataclass(frozen=True)
class ClassifyDataOptions(LabelledOptions):
    """How the texts of `classify` are read."""

    separator: str = _option(
        "", "What stands between the labels of a text, which may then have several or none; empty where it has one."
    )


@dataclass(frozen=True)
class TagDataOptions(LabelledOptions):
    """How the sentences of `tag` are read."""

    text: str = _option("", "The column of the tokens. Guessed if not given, and said.")
    label: str = _option("", "The column of their labels. Guessed if not given, and said.")
    intent: str = _option("", "The column of the class of the whole sentence, to be learned besides.")
    scheme: str = _option(
        "", "How entities are marked within the model, BIO or BIOES; as in the data if not given. What is predicted is "
        "as in the data.", None, ("", "BIO", "BIOES"),
    )  # fmt: skip
    unit: str = _option(
        "words", "What the tokens are, and so how a text is taken apart that is not given as such: words, characters, "
        "bytes, jamo, or morphemes of Korean.", None, ("words", "characters", "bytes", "jamo", "morphemes"),
    )  # fmt: skip
    min_count: int = _option(1, "What is rarer in the sentences has no vector of its own.", {"above": 0})
    longest: int = _option(
        1000, "Tokens of a sentence that are read at once: of more the first are learned, all are labelled in pieces.",
        {"above": 0},
    )  # fmt: skip


@dataclass(frozen=True)
class WordsOptions(NetworkOptions):
    """A network above vectors of words."""

    hidden_size: int = _option(128, "Units of each layer, in each direction.", {"above": 0})
    bidirectional: bool = _option(True, "Read from both ends.")
    embedding_size: int = _option(64, "Size of the vector of a word.", {"above": 0})
    vectors: str = _option("", "A file of word vectors to begin with: of word2vec, GloVe or fastText.")
    spelling: str = _option(
        "", "What a word's spelling adds to its vector: its n-grams (ngrams; of classify if not given), a network over "
        "its characters (characters; of tag if not given), or nothing (none).", None,
        ("", "ngrams", "characters", "none"),
    )  # fmt: skip
    buckets: int = _option(2**17, "Vectors that n-grams share, under a hash.", {"above": 0})
    dropout: float = _option(0.3, "Share of vectors and outputs that is dropped in training.", {"from": 0, "below": 1})
    word_dropout: float = _option(
        0.1, "Share of the words that are unknown in training, so that the others have to serve.",
        {"from": 0, "below": 1},
    )  # fmt: skip
    piece_dropout: float = _option(
        0.3, "Share of the n-grams of words that is left out in training.", {"from": 0, "below": 1}
    )


@dataclass(frozen=True)
class ClassifyOptions(WordsOptions):
    """The model of `classify`."""

    dropout: float = _option(0.5, "Share of vectors and outputs that is dropped in training.", {"from": 0, "below": 1})
    members: int = _option(
        1, "Networks that learn side by side, from other initial values, and answer together.", {"above": 0}
    )
    wide: int = _option(
        2**21, "Weights of a linear model of the n-grams of a text's characters, which answers together with a "
        "recurrent network; 0 for none.", {"from": 0, "below": 2**31},
    )  # fmt: skip
    model: str = _option(
        "recurrent", "What reads the words: a recurrent network; or, to compare with, a bag of words, a hidden layer "
        "on each word (mlp) or on a few next to each other (window-mlp).", None,
        ("recurrent", "bag-of-words", "mlp", "window-mlp"),
    )  # fmt: skip
    structure: str = _option(
        "deep", "What stands above the lowest layer: layers (deep) that add to what they read (residual) or share "
        "their weights (tied); or that read what the one below made of each slice of the text (sliced).", None,
        ("deep", "residual", "tied", "sliced"),
    )  # fmt: skip
    parts: int = _option(4, "Slices of a sliced network that are one sequence of the layer above.", {"above": 1})
    words: int = _option(5, "Words that a window-mlp sees at once.", {"above": 0})
    pooling: str = _option(
        "max", "How a text becomes one vector: by the last output, the mean, the max, or attention.", None,
        ("last", "mean", "max", "attention"),
    )  # fmt: skip


@dataclass(frozen=True)
class TagOptions(WordsOptions):
    """The model of `tag`."""

    hidden_size: int = _option(200, "Units of each layer, in each direction.", {"above": 0})
    layers: int = _option(2, "Layers one upon the other.", {"above": 0})
    dropout: float = _option(0.5, "Share of vectors and outputs that is dropped in training.", {"from": 0, "below": 1})
    word_dropout: float = _option(
        0.25, "Share of the words that are unknown in training, so that the others have to serve.",
        {"from": 0, "below": 1},
    )  # fmt: skip
    crf: bool = _option(False, "Score labels with the ones before them: a conditional random field.")
    forward_too: bool = _option(
        False, "Learn beside a bidirectional network another one that reads forward only, so that the report shows "
        "what the other direction is worth.",
    )  # fmt: skip


@dataclass(frozen=True)
class TrainingOptions:
    """How any model is trained."""

    epochs: int = _option(10, "Readings of the data, at most, unless --minutes says otherwise.", {"above": 0})
    minutes: float | None = _option(
        None, "Measure the first steps, then fix as many as this time allows.", {"above": 0, "below": 1e6}
    )
    optimiser: str = _option("adamw", "adamw or sgd.", None, ("adamw", "sgd"))
    learning_rate: float = _option(0.004, "The highest learning rate.", {"above": 0})
    momentum: float = _option(
        0.9, "Share of the last direction that is kept: of sgd, and of adamw, whose other beta is .99; vectors of "
        "words that classify and tag learn keep none.",
        {"from": 0, "below": 1},
    )  # fmt: skip
    weight_decay: float = _option(0.01, "Share of each weight taken off a step, times the learning rate.", {"from": 0})
    warm_up: float = _option(
        0.05, "Share of the steps in which the learning rate rises from 0.", {"from": 0, "below": 1}
    )
    decay: str = _option(
        "cosine", "How the learning rate falls after that: cosine or linear, to 0, or none.", None,
        ("cosine", "linear", "none"),
    )  # fmt: skip
    clip: float = _option(1.0, "Largest norm of the whole gradient; 0 for no limit.", {"from": 0})
    evaluations: int = _option(20, "Times the held-out loss is taken, evenly, at most.", {"above": 0})
    patience: int = _option(
        5, "Evaluations without better weights or a lower loss that end the training; 0 for never.", {"from": 0}
    )
    checkpoint_every: int = _option(
        0, "Steps between two checkpoints; 0 for one at every evaluation and at the end.", {"from": 0}
    )
    seed: int = _option(0, "Initial values and everything drawn in training.", SEEDS)


@dataclass(frozen=True)
class WindowOptions(TrainingOptions):
    """How a model of long sequences is trained: by truncated backpropagation through time."""

    batch_size: int = _option(32, "Sequences that are read side by side.", {"above": 0})
    window: int = _option(32, "Steps between two cuts of truncated backpropagation.", {"above": 0})
    reduction: str = _option(
        "mean", "What is minimised of the losses of a window's steps: mean or sum.", None, ("mean", "sum")
    )


@dataclass(frozen=True)
class BatchOptions(TrainingOptions):
    """How a model of texts with labels is trained: in batches of texts of like length."""

    epochs: int = _option(5, "Readings of the data, at most, unless --minutes says otherwise.", {"above": 0})
    learning_rate: float = _option(0.002, "The highest learning rate.", {"above": 0})
    decay: str = _option(
        "linear", "How the learning rate falls after that: cosine or linear, to 0, or none.", None,
        ("cosine", "linear", "none"),
    )  # fmt: skip
    batch_tokens: int = _option(2000, "Steps in a batch, padding included.", {"above": 0})
    label_smoothing: float = _option(
        0.0, "Share of the probability that is wanted of all labels alike.", {"from": 0, "below": 1}
    )
    baselines: bool = _option(True, "Measure simple methods on the same texts, for the report.")


@dataclass(frozen=True)
class ClassifyTrainingOptions(BatchOptions):
    """How a classifier is trained."""

    class_weights: str = _option(
        "none", "Let each label count by its texts (none) or all labels alike (balanced).", None, ("none", "balanced")
    )


@dataclass(frozen=True)
class TagTrainingOptions(BatchOptions):
    """How a tagger is trained."""

    epochs: int = _option(15, "Readings of the data, at most, unless --minutes says otherwise.", {"above": 0})
    learning_rate: float = _option(0.003, "The highest learning rate.", {"above": 0})
    patience: int = _option(
        10, "Evaluations without better weights or a lower loss that end the training; 0 for never.", {"from": 0}
    )  # fmt: skip
    batch_tokens: int = _option(1000, "Steps in a batch, padding included.", {"above": 0})
    label_smoothing: float = _option(
        0.1, "Share of the probability that is wanted of all labels alike; with --crf, of intents alone.",
        {"from": 0, "below": 1},
    )  # fmt: skip


# Task -> the tables of its configuration.
TABLES: Mapping[str, Mapping[str, type[Any]]] = {
    "language-model": {"data": TextOptions, "model": LanguageModelOptions, "training": WindowOptions},
    "classify": {"data": ClassifyDataOptions, "model": ClassifyOptions, "training": ClassifyTrainingOptions},
    "tag": {"data": TagDataOptions, "model": TagOptions, "training": TagTrainingOptions},
}


def tables_of(task: Any) -> Mapping[str, type[Any]]:
    """The tables of a task's configuration.

    Raises   UsageError for a task that is not there
    """
    if not isinstance(task, str) or task not in TABLES:
        raise UsageError(f"there is no task {task!r}.{did_you_mean(str(task), TABLES)}")
    return TABLES[task]


def settle(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a task, a table each, from keywords; every other one has its default.

    Raises   UsageError for a name that is unknown, or a value that makes no sense
    """
    tables = tables_of(task)
    home = {option.name: table for table, kind in tables.items() for option in fields(kind)}
    # A number of numpy is one of Python's in a file.
    given = {name: value.item() if type(value).__module__ == "numpy" else value for name, value in given.items()}
    given = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in given.items()}
    for name in given:
        if name not in home:
            raise UsageError(f"{task} has no option {name!r}.{did_you_mean(name, home)}")
    options = {}
    for table, kind in tables.items():
        options[table] = kind(**{name: value for name, value in given.items() if home[name] == table})
        check(options[table])
    return options
