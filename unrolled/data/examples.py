"""Labelled texts: rows of files or of a table in memory, with the columns of their texts and of their labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.data.labelled import Labelled, label_under, normalised, only
from unrolled.data.rows import Found, Row, Rows, rows_of
from unrolled.data.sources import columns_of
from unrolled.errors import UsageError, short

# What columns of texts and of labels are usually called.
TEXT_NAMES = ("text", "document", "sentence", "review", "content", "body", "message", "comment", "query", "title")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "tag")


class Example(NamedTuple):
    """A text, or several, and its label; empty where there is none. `place` is the file and the line."""

    texts: tuple[str, ...]
    label: str
    place: str


@dataclass(frozen=True)
class Columns:
    """Which columns are texts and which one is the label, and whether that was guessed."""

    texts: tuple[str, ...]
    label: str
    guessed: bool


class InMemory:
    """Rows of a table in memory."""

    name = "the data"

    def __init__(self, columns: Mapping[str, Sequence[Any]]):
        for name, column in columns.items():
            if (
                isinstance(column, str | bytes | Mapping)
                or getattr(column, "ndim", 1) == 0
                or not hasattr(column, "__len__")
            ):
                raise UsageError(f"column {name!r} of the data is no list, but {short(column)}")
        self.columns = columns

    def rows(self) -> Iterator[Found]:
        """The rows, by their number from 1 on."""
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise UsageError(f"the columns of the data are not of one length: {shown}")
        for line, values in enumerate(zip(*self.columns.values(), strict=True), 1):
            yield Row(line, dict(zip(self.columns, values, strict=True)))


class Examples(Labelled[Example]):
    """Labelled texts in Unicode form NFC, read as often as asked and never whole in memory.

    The first reading counts them, and finds what cannot be read.

    text         the columns of the texts, as a text with commas between, or a sequence; "" to guess
    label        that of the label; "" to guess, None where there is none
    skip_bad     leave rows out that cannot be used, and count them
    separator    what stands between several labels of a row, which may then have none; a list of them is joined by it
    check        raises UsageError, with the reason, for an example that cannot be used

    Raises   UsageError, in one line, for a row that cannot be used, unless `skip_bad`; for columns that cannot be told
    """

    def __init__(
        self,
        sources: Iterable[Rows | InMemory],
        *,
        text: str | Sequence[str] = "",
        label: str | None = "",
        skip_bad: bool = False,
        separator: str = "",
        check: Callable[[Example], object] = bool,
    ):
        super().__init__(sources, skip_bad=skip_bad, check=check)
        self._separator = separator
        self.columns = self._chosen(text, label)
        self.labels = [found.label for found in self.first_reading()]

    @property
    def notices(self) -> list[str]:
        """What the user should know of how the data were understood."""
        found = []
        if self.columns.guessed:
            texts = " and ".join(map(repr, self.columns.texts))
            labels = f", labels {self.columns.label!r}" if self.columns.label else ""
            found.append(f"Texts are the column {texts}{labels}: guessed.")
        return [*found, *self.left_out()]

    def made(self, row: Row, where: str) -> Example:
        """The texts and the label of a row."""
        texts = tuple(_text(row.values, name) for name in self.columns.texts)
        if not any(text.strip() for text in texts):
            raise UsageError("has an empty text")
        if not self.columns.label:
            return Example(texts, "", where)
        label = self._label(row.values)
        if not label and not self._separator:
            raise UsageError(f"has no label under {self.columns.label!r}")
        return Example(texts, label, where)

    def _label(self, values: Mapping[str, Any]) -> str:
        name = self.columns.label
        several = values.get(name)
        if not self._separator or not isinstance(several, list | tuple):
            return label_under(values, name)
        labels = [label_under({name: label}, name) for label in several]
        for label in labels:
            if self._separator in label:
                raise UsageError(f"has the label {short(label)}, in which {self._separator!r} is no separator")
        return self._separator.join(labels)

    def content(self, found: Example) -> tuple[Any, ...]:
        """The texts and the label."""
        return found[:2]

    def _chosen(self, text: str | Sequence[str], label: str | None) -> Columns:
        """The columns that were named, and those that can be told."""
        wanted = [name.strip() for name in text.split(",") if name.strip()] if isinstance(text, str) else list(text)
        seen, names = self.looked_at([*wanted, *([label] if label else [])])
        labels = (
            label if label or label is None else only(names, LABEL_NAMES, wanted) or _repeating(seen, names, wanted)
        )
        if labels == "":
            raise self.asked_for("label", names)
        kept = [name for name in names if name != labels]
        texts = tuple(wanted) or tuple(filter(None, [only(kept, TEXT_NAMES) or _longest(seen, kept)]))
        if not texts:
            raise self.asked_for("text", names)
        return Columns(texts, labels or "", guessed=not wanted or label == "")


def examples(data: Any, *, encoding: str = "utf-8", **options: Any) -> Examples:
    """The labelled texts of files, or of a table in memory: a frame, a mapping of columns, a list of mappings.

    options   those of `Examples`

    Raises   UsageError, in one line, when the data is nothing that can be read
    """
    return Examples(sources_of(data, encoding), **options)


def split(labels: Sequence[str], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which examples train and which are held out: this share of each label, at random; each in their order.

    A label of a single example trains.

    Raises   UsageError when nothing is left for one of both
    """
    _, numbers = np.unique(np.asarray(labels), return_inverse=True)
    held = np.zeros(len(labels), bool)
    random = np.random.default_rng(seed)
    # What rounding leaves over of each label's share goes to the next.
    owed = 0.0
    for number in range(numbers.max() + 1):
        rows = random.permutation(np.flatnonzero(numbers == number))
        owed += share * len(rows)
        taken = max(0, min(round(owed), len(rows) - 1))
        # Never more than a rounding: one label does not pay for others that have too few.
        owed = max(-0.5, min(0.5, owed - taken))
        held[rows[:taken]] = True
    if share and not held.any():
        raise UsageError(
            f"held_out {share} leaves nothing of {len(labels):,} examples to evaluate on: give more of them"
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def sources_of(data: Any, encoding: str) -> list[Rows | InMemory]:
    """What rows are read from: files, or a table in memory.

    Raises   UsageError, in one line, when the data is nothing that can be read
    """
    columns = columns_of(data)
    if columns is not None:
        return [InMemory(columns)]
    if isinstance(data, str | os.PathLike):
        data = [data]
    entries = list(data) if isinstance(data, Sequence) else []
    if entries and all(isinstance(entry, Mapping) for entry in entries):
        names = dict.fromkeys(name for entry in entries for name in entry)
        return [InMemory({str(name): [entry.get(name) for entry in entries] for name in names})]
    if not entries or not all(isinstance(entry, str | os.PathLike) for entry in entries):
        raise UsageError(
            f"data of type {type(data).__name__} cannot be read: give files, a table with columns of texts and labels, "
            "or a list of mappings"
        )
    for entry in entries:
        if not os.path.exists(entry):
            raise UsageError(f"there is no file {os.fspath(entry)}")
    return [rows_of(os.fspath(entry), encoding) for entry in entries]


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if isinstance(value, list) and all(isinstance(token, str) for token in value):
        value = " ".join(value)
    if not isinstance(value, str):
        raise UsageError(f"has no text under {name!r}, but {short(value)}")
    return normalised(value)


def _repeating(seen: Sequence[Mapping[str, Any]], names: Sequence[str], but: Sequence[str]) -> str:
    """The one column whose values come again and again."""
    found = []
    for name in names:
        counts = Counter(str(row.get(name)) for row in seen)
        if name not in but and 1 < len(counts) <= max(2, len(seen) // 10):
            found.append(name)
    return found[0] if len(found) == 1 else ""


def _longest(seen: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The one column of texts that are by far the longest."""
    means = {
        name: sum(len(str(row.get(name) or "")) for row in seen) / len(seen)
        for name in names
        if all(isinstance(row.get(name), str | list) or row.get(name) is None for row in seen)
    }
    best = sorted(means, key=lambda name: -means[name])
    return best[0] if best and (len(best) == 1 or means[best[0]] > 2 * means[best[1]]) else ""
