"""Sentences as tokens with a label each: rows of CoNLL, of CoNLL-U, of tables whose columns hold lists."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unrolled.data.examples import LABEL_NAMES, InMemory, sources_of
from unrolled.data.labelled import Labelled, label_under, normalised, only
from unrolled.data.rows import UNIVERSAL, Row, Rows, Separated, Tokens
from unrolled.errors import UsageError, short

# What columns of tokens and of their labels are usually called.
TOKEN_NAMES = ("form", "tokens", "words", "token", "word", "text", "sentence")
TAG_NAMES = ("upos", "tags", "labels", "ner", "pos", "ner_tags", "pos_tags", "slots", "tag", "label")


class Sentence(NamedTuple):
    """Tokens, the label of each, and the class of the whole; empty where there is none. `place` is file and line."""

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    place: str
    intent: str = ""


@dataclass(frozen=True)
class TokenColumns:
    """Which columns are the tokens, their labels, the class of the whole; and whether that was guessed."""

    tokens: str
    labels: str
    intent: str
    guessed: bool


class Sentences(Labelled[Sentence]):
    """Sentences whose tokens are labelled, in Unicode form NFC, read as often as asked and never whole in memory.

    The first reading counts them, and finds what cannot be read.

    text       the column of the tokens; "" to guess
    label      that of their labels; "" to guess, None where there are none
    intent     that of the class of the whole sentence; "" where there is none
    skip_bad   leave rows out that cannot be used, and count them
    check      raises UsageError, with the reason, for a sentence that cannot be used

    Raises   UsageError, in one line, for a row that cannot be used, unless `skip_bad`; for columns that cannot be told
    """

    def __init__(
        self,
        sources: Iterable[Rows | InMemory],
        *,
        text: str = "",
        label: str | None = "",
        intent: str = "",
        skip_bad: bool = False,
        check: Callable[[Sentence], object] = bool,
    ):
        super().__init__(sources, skip_bad=skip_bad, check=check)
        self.columns = self._chosen(text.strip(), label, intent)
        self.labels: list[tuple[str, ...]] = []
        self.intents: list[str] = []
        for found in self.first_reading():
            self.labels.append(found.labels)
            self.intents.append(found.intent)

    @property
    def notices(self) -> list[str]:
        """What the user should know of how the data were understood."""
        found = []
        if self.columns.guessed:
            labels = f", labels {self.columns.labels!r}" if self.columns.labels else ""
            found.append(f"Tokens are the column {self.columns.tokens!r}{labels}: guessed.")
        return [*found, *self.left_out()]

    def made(self, row: Row, where: str) -> Sentence:
        """The sentence of a row."""
        columns = self.columns
        tokens = tuple(_text(token) for token in _parts(row.values, columns.tokens, "tokens"))
        if not tokens:
            raise UsageError("has no tokens")
        if "" in tokens:
            raise UsageError(f"has an empty token, number {tokens.index('') + 1}")
        intent = label_under(row.values, columns.intent) if columns.intent else ""
        if columns.intent and not intent:
            raise UsageError(f"has no intent under {columns.intent!r}")
        if not columns.labels:
            return Sentence(tokens, (), where, intent)
        labels = tuple(_label(label) for label in _parts(row.values, columns.labels, "labels"))
        if len(labels) != len(tokens):
            raise UsageError(f"has {len(tokens)} tokens, but {len(labels)} labels")
        if "" in labels:
            place = labels.index("")
            raise UsageError(f"has no label for its token {place + 1}, {short(tokens[place])}")
        return Sentence(tokens, labels, where, intent)

    def content(self, found: Sentence) -> tuple[Any, ...]:
        """The tokens, their labels and the class."""
        return found.tokens, found.labels, found.intent

    def _chosen(self, text: str, label: str | None, intent: str) -> TokenColumns:
        """The columns that were named, and those that can be told."""
        seen, names = self.looked_at(filter(None, (text, label, intent)))
        # Columns of lists before those of texts: these may be what the tokens were before they were taken apart.
        listed = [name for name in names if any(_is_list(row.get(name)) for row in seen)]
        free = [name for name in names if name not in (text, label, intent)]
        guessed_text, guessed_label = _usual(free, names)
        first, rest = [name for name in free if name in listed], [name for name in free if name not in listed]
        tokens = text or guessed_text or only(first, TOKEN_NAMES) or only(rest, TOKEN_NAMES)
        if not tokens:
            raise self.asked_for("text", names)
        if label is None:
            return TokenColumns(tokens, "", intent, not text)
        first, rest = ([name for name in part if name != tokens] for part in (first, rest))
        labels = label or guessed_label or only(first, TAG_NAMES) or only(rest, LABEL_NAMES + TAG_NAMES)
        if not labels or labels == tokens:
            raise self.asked_for("label", names)
        return TokenColumns(tokens, labels, intent, not (text and label))


def sentences(data: Any, *, encoding: str = "utf-8", **options: Any) -> Sentences:
    """The labelled sentences of files, or of a table in memory: a frame, a mapping of columns, a list of mappings.

    A file whose ending is not that of a table, of lines of JSON, of Parquet or of CoNLL-U has the columns of CoNLL.

    options   those of `Sentences`

    Raises   UsageError, in one line, when the data is nothing that can be read
    """
    return Sentences(sources_of_tokens(data, encoding), **options)


def sources_of_tokens(data: Any, encoding: str) -> list[Rows | InMemory]:
    """What sentences are read from: a file of text that does not end as a table does has columns of tokens.

    Raises   UsageError, in one line, when the data is nothing that can be read
    """
    return [_in_columns(source) for source in sources_of(data, encoding)]


def _in_columns(source: Rows | InMemory) -> Rows | InMemory:
    if isinstance(source, Separated) and not source.name.removesuffix(".gz").lower().endswith((".csv", ".tsv")):
        return Tokens(source.name, source.encoding)
    return source


def _usual(free: Sequence[str], names: Sequence[str]) -> tuple[str, str]:
    """The tokens and labels of CoNLL-U, and of CoNLL: its first and its last column."""
    wanted = ("", "")
    if tuple(names) == UNIVERSAL:
        wanted = ("form", "upos")
    elif list(names) == [str(place) for place in range(1, len(names) + 1)]:
        wanted = (names[0], names[-1])
    return (wanted[0] if wanted[0] in free else "", wanted[1] if wanted[1] in free else "")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (hasattr(value, "__array__") and getattr(value, "ndim", 1) == 1)


def _parts(values: Mapping[str, Any], name: str, what: str) -> list[Any]:
    """The entries of a list; a text is taken apart at white space."""
    value = values.get(name)
    if isinstance(value, str):
        return value.split()
    if value is None or not _is_list(value):
        raise UsageError(f"has no {what} under {name!r}, but {short(value)}")
    return list(value)


def _text(token: Any) -> str:
    if not isinstance(token, str):
        raise UsageError(f"has a token that is no text, but {short(token)}")
    return normalised(token.strip())


def _label(label: Any) -> str:
    # The same few texts, again and again.
    return sys.intern(label_under({"label": label}, "label"))
