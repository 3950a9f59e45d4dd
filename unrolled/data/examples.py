"""Labelled texts: rows of files or of a table in memory, with the columns of their texts and of their labels."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from unrolled.data.corpus import files_of
from unrolled.data.rows import Fault, Found, Row, Rows, no_column, rows_of
from unrolled.data.sources import columns_of
from unrolled.errors import UsageError, short

# What columns of texts and of labels are usually called.
TEXT_NAMES = ("text", "document", "sentence", "review", "content", "body", "message", "comment", "query", "title")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "tag")
# Rows that are looked at to find out which column is which.
LOOKED_AT = 1000
FAULTS_SHOWN = 3


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
        self.columns = columns

    def rows(self) -> Iterator[Found]:
        """The rows, by their number from 1 on."""
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise UsageError(f"the columns of the data are not of one length: {shown}")
        for line, values in enumerate(zip(*self.columns.values(), strict=True), 1):
            yield Row(line, dict(zip(self.columns, values, strict=True)))


class Examples:
    """Labelled texts in Unicode form NFC, read as often as asked and never whole in memory.

    The first reading counts them, and finds what cannot be read.

    text         the columns of the texts, with commas between; "" to guess
    label        that of the label; "" to guess, None where there is none
    skip_bad     leave rows out that cannot be used, and count them
    unlabelled   a row without a label can be used
    check        raises UsageError, with the reason, for an example that cannot be used

    Raises   UsageError, in one line, for a row that cannot be used, unless `skip_bad`; for columns that cannot be told
    """

    def __init__(
        self,
        sources: Iterable[Rows | InMemory],
        *,
        text: str = "",
        label: str | None = "",
        skip_bad: bool = False,
        unlabelled: bool = False,
        check: Callable[[Example], object] = bool,
    ):
        self._sources = tuple(sources)
        self.skip_bad, self._unlabelled, self._check = skip_bad, unlabelled, check
        self.columns = self._chosen(text, label)
        self.faults: list[str] = []
        self.skipped = 0
        labels: list[str] = []
        digest = hashlib.sha256()
        for found in self._read():
            if isinstance(found, str):
                self._refuse(found)
                continue
            digest.update(repr(found[:2]).encode("utf-8", "surrogatepass"))
            labels.append(found.label)
        self.count = len(labels)
        self.labels = labels
        self.digest = digest.hexdigest()
        self.files = files_of(self._sources)
        if not labels:
            raise UsageError(f"{self._sources[0].name if len(self._sources) == 1 else 'the data'} has no rows to use")

    def __iter__(self) -> Iterator[Example]:
        return (found for found in self._read() if isinstance(found, Example))

    def __len__(self) -> int:
        return self.count

    @property
    def notices(self) -> list[str]:
        """What the user should know of how the data were understood."""
        found = []
        if self.columns.guessed:
            texts = " and ".join(map(repr, self.columns.texts))
            labels = f", labels {self.columns.label!r}" if self.columns.label else ""
            found.append(f"Texts are the column {texts}{labels}: guessed.")
        if self.skipped:
            more = f"; and {self.skipped - len(self.faults):,} more" if self.skipped > len(self.faults) else ""
            found.append(f"{self.skipped:,} rows left out: {'; '.join(self.faults)}{more}.")
        return found

    def _refuse(self, reason: str) -> None:
        if not self.skip_bad:
            raise UsageError(f"{reason}; --skip-bad leaves such rows out")
        self.skipped += 1
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(reason)

    def _read(self) -> Iterator[Example | str]:
        """The examples, and what is said of rows that are none."""
        for source in self._sources:
            for found in source.rows():
                where = f"{source.name}, line {found.line}"
                if isinstance(found, Fault):
                    yield f"{where} {found.reason}"
                    continue
                try:
                    example = self._example(found, where)
                    self._check(example)
                except UsageError as error:
                    yield f"{where} {error}"
                else:
                    yield example

    def _example(self, row: Row, where: str) -> Example:
        texts = tuple(_text(row.values, name) for name in self.columns.texts)
        if not any(text.strip() for text in texts):
            raise UsageError("has an empty text")
        if not self.columns.label:
            return Example(texts, "", where)
        label = _label(row.values, self.columns.label)
        if not label and not self._unlabelled:
            raise UsageError(f"has no label under {self.columns.label!r}")
        return Example(texts, label, where)

    def _chosen(self, text: str, label: str | None) -> Columns:
        """The columns that were named, and those that can be told."""
        first = self._sources[0]
        seen = [row.values for row in islice((row for row in first.rows() if isinstance(row, Row)), LOOKED_AT)]
        if not seen:
            raise UsageError(f"{first.name} is empty")
        names = list(dict.fromkeys(name for row in seen for name in row))
        wanted = [name.strip() for name in text.split(",") if name.strip()]
        for name in [*wanted, *([label] if label else [])]:
            if name not in names:
                raise UsageError(f"{first.name} {no_column(name, names)}")
        labels = (
            label if label or label is None else _only(names, LABEL_NAMES, wanted) or _repeating(seen, names, wanted)
        )
        if labels == "":
            raise UsageError(f"which column is the label? {first.name} has {', '.join(names)}: name it with --label")
        kept = [name for name in names if name != labels]
        texts = tuple(wanted) or tuple(filter(None, [_only(kept, TEXT_NAMES) or _longest(seen, kept)]))
        if not texts:
            raise UsageError(f"which column is the text? {first.name} has {', '.join(names)}: name it with --text")
        return Columns(texts, labels or "", guessed=not wanted or label == "")


def examples(data: Any, *, encoding: str = "utf-8", **options: Any) -> Examples:
    """The labelled texts of files, or of a table in memory: a frame, a mapping of columns, a list of mappings.

    options   those of `Examples`

    Raises   UsageError, in one line, when the data is nothing that can be read
    """
    return Examples(_sources(data, encoding), **options)


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


def _sources(data: Any, encoding: str) -> list[Rows | InMemory]:
    columns = columns_of(data)
    if columns is not None:
        return [InMemory(columns)]
    if isinstance(data, str | os.PathLike):
        data = [data]
    entries = list(data) if isinstance(data, Sequence) else []
    if entries and all(isinstance(entry, Mapping) for entry in entries):
        return [InMemory({name: [entry.get(name) for entry in entries] for name in entries[0]})]
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
    return normalize("NFC", value.replace("\r\n", "\n").replace("\r", "\n"))


def _label(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    # A number of numpy, or of torch, is one of Python's.
    value = value.item() if value is not None and hasattr(value, "item") else value
    # What pandas has for nothing is compared with nothing.
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return ""
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
        value = str(int(value))
    if not isinstance(value, str):
        raise UsageError(f"has no label under {name!r}, but {short(value)}")
    return normalize("NFC", value.strip())


def _only(names: Iterable[str], known: Sequence[str], but: Sequence[str] = ()) -> str:
    """The one name that is known; "" if there is none or several."""
    found = [name for name in names if name.lower() in known and name not in but]
    return found[0] if len(found) == 1 else ""


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
