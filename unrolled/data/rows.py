"""Rows of a file: what stands under each column of a table, of lines of JSON, of columns of tokens, of Parquet."""

from __future__ import annotations

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from unrolled.data.files import File, TextFile, pieces
from unrolled.errors import MissingExtraError, UsageError, did_you_mean, short

# Characters of a line; what is longer is no row, or a quotation mark is not closed.
LONGEST_LINE = 2**24
# The columns of CoNLL-U.
UNIVERSAL = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_SHOWN = 40
# A comment before a sentence, as CoNLL-U has them.
_COMMENT = re.compile(r"# [\w.-]+ = ")


class Row(NamedTuple):
    """What stands under each column, and the line that it ends in, the first 1."""

    line: int
    values: Mapping[str, Any]


class Fault(NamedTuple):
    """A line that belongs to no row, and why: what is said after "line 3 "."""

    line: int
    reason: str


Found: TypeAlias = Row | Fault


class Rows(File, ABC):
    """A file of rows, whose documents are the texts of one column."""

    def __init__(self, path: str | Path, column: str = ""):
        super().__init__(path)
        self.column = column

    @abstractmethod
    def rows(self) -> Iterator[Found]:
        """The rows in their order, and between them what is none.

        Raises   UsageError, in one line, where the file as a whole cannot be read
        """

    def documents(self) -> Iterator[Iterator[str]]:
        """The texts of the column, row by row.

        Raises   UsageError, with the file and the line, for what is no row or has no text there
        """
        for found in self.rows():
            if isinstance(found, Fault):
                raise UsageError(f"{self.name}, line {found.line} {found.reason}")
            if self.column not in found.values:
                raise UsageError(f"{self.name}, line {found.line} {no_column(self.column, list(found.values))}")
            text = found.values[self.column]
            if not isinstance(text, str):
                what = f"has no text under {self.column!r}, but {short(text)}"
                raise UsageError(f"{self.name}, line {found.line} {what}")
            yield pieces(text)


class _TextRows(Rows, TextFile):
    """Rows that are lines of text."""

    def __init__(self, path: str | Path, encoding: str, column: str = ""):
        TextFile.__init__(self, path, encoding)
        self.column = column

    def lines(self) -> Iterator[str]:
        """The lines, each with the line feed at its end; the last may have none."""
        held, number = "", 0
        for chunk in self.chunks():
            *lines, held = (held + chunk).split("\n")
            number += len(lines)
            yield from (line + "\n" for line in lines)
            if len(held) > LONGEST_LINE:
                raise UsageError(f"{self.name}, line {number + 1} is longer than {LONGEST_LINE:,} characters: no table")
        if held:
            yield held


class Separated(_TextRows):
    """A table with a header: separated by tabs if the header has one, else by commas, with quotation marks."""

    def rows(self) -> Iterator[Found]:
        """The rows below the header, without empty lines."""
        lines = self.lines()
        first = next(lines, "")
        if not first.strip():
            raise UsageError(f"{self.name} is empty" if not first else f"{self.name} has no header in its first line")
        # Python's own limit is less than the length of many a document.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        lines = chain((first,), lines)
        by_tabs = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        reader = by_tabs if "\t" in first else csv.reader(lines, strict=True)
        try:
            header = next(reader)
        except csv.Error as error:
            raise UsageError(f"{self.name} has no header in its first line: {error}") from None
        self._check(header)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            # After it the reader goes on with the next line.
            except csv.Error as error:
                yield Fault(reader.line_num, f"is no row of a table: {error}")
                continue
            if row and len(row) != len(header):
                yield Fault(reader.line_num, f"does not fit the header: it has {_columns(row, header)}")
            elif row:
                yield Row(reader.line_num, dict(zip(header, row, strict=True)))

    def _check(self, header: Sequence[str]) -> None:
        if self.column and self.column not in header:
            raise UsageError(f"{self.name} {no_column(self.column, header)}")
        twice = next((name for name in header if name and header.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"{self.name} has {header.count(twice)} columns {twice!r}: give each a name of its own")


class JsonLines(_TextRows):
    """An object of JSON in each line."""

    def rows(self) -> Iterator[Found]:
        """The objects, without empty lines."""
        for number, line in enumerate(self.lines(), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                yield Fault(number, f"is no JSON: {error.msg}, character {error.pos + 1}")
                continue
            except ValueError as error:
                yield Fault(number, f"is no JSON that can be read: {str(error).split(';')[0]}")
                continue
            except RecursionError:
                yield Fault(number, "is no row: its JSON is nested too deep")
                continue
            yield Row(number, value) if isinstance(value, dict) else Fault(number, "is no object of JSON, {…}")


class Tokens(_TextRows):
    """Sentences as a token a line, its columns separated by tabs or blanks, with an empty line between two sentences.

    A row is a sentence: under each column the list of what its tokens have there. The columns of CoNLL are called 1, 2
    and so on; those of CoNLL-U have their names, and its comments, ranges and empty nodes are left out. In CoNLL a line
    such as `# name = value` before a sentence is a comment.
    """

    def __init__(self, path: str | Path, encoding: str, column: str = "", *, universal: bool = False):
        super().__init__(path, encoding, column)
        self.universal = universal

    def rows(self) -> Iterator[Found]:
        """The sentences; one with a line that does not fit is a fault as a whole."""
        columns = len(UNIVERSAL) if self.universal else 0
        sentence: list[list[str]] = []
        fault: Fault | None = None
        number = 0
        for number, line in enumerate(chain(self.lines(), ("\n",)), 1):
            if line.strip():
                token = [] if not sentence and _COMMENT.match(line) else self._token(line)
                columns = columns or len(token)
                if token and len(token) != columns and fault is None:
                    what = "does not fit the lines before it" if not self.universal else "is no token of CoNLL-U"
                    fault = Fault(number, f"{what}: it has {_columns(token, [''] * columns)}")
                if token:
                    sentence.append(token)
                continue
            if fault is not None:
                yield fault
            elif sentence:
                names = UNIVERSAL if self.universal else [str(place) for place in range(1, columns + 1)]
                yield Row(number - 1, dict(zip(names, map(list, zip(*sentence, strict=True)), strict=True)))
            sentence, fault = [], None

    def _token(self, line: str) -> list[str]:
        """The columns of a token; none for a line that is no word."""
        if not self.universal:
            parts = line.rstrip("\n").split("\t") if "\t" in line else line.split()
            return [] if parts[0] == "-DOCSTART-" else [part.strip() for part in parts]
        parts = line.rstrip("\n").split("\t")
        is_word = line[0] != "#" and "-" not in parts[0] and "." not in parts[0]
        return parts if is_word else []


class Parquet(Rows):
    """A file of Parquet, read a batch of rows at a time. Its lines are its rows, the first 1."""

    def rows(self) -> Iterator[Found]:
        """All rows.

        Raises   MissingExtraError without pyarrow; UsageError when it cannot read the file
        """
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise MissingExtraError(f"{self.name} is read by pyarrow: pip install 'unrolled[parquet]'") from None
        with self.opened() as file:
            try:
                number = 0
                for batch in parquet.ParquetFile(file).iter_batches():
                    for values in batch.to_pylist():
                        number += 1
                        yield Row(number, values)
            except pyarrow.ArrowException as error:
                raise UsageError(f"{self.name} is no Parquet: {str(error).splitlines()[0]}") from None


def rows_of(path: str | Path, encoding: str, column: str = "") -> Rows:
    """The rows of a file by its ending: .jsonl, .ndjson, .parquet, .conllu, .conll, .iob, .bio; any other is a table.

    It may end in .gz besides.
    """
    ending = Path(str(path).removesuffix(".gz")).suffix.lower()
    if ending == ".parquet":
        return Parquet(path, column)
    if ending in (".jsonl", ".ndjson"):
        return JsonLines(path, encoding, column)
    if ending in (".conllu", ".conll", ".iob", ".bio"):
        return Tokens(path, encoding, column, universal=ending == ".conllu")
    return Separated(path, encoding, column)


def no_column(column: str, names: Sequence[str]) -> str:
    """What to say of a column that is not there: what stands after the name of the file."""
    # A file that is no table has names of any length.
    return f"has no column {column!r}.{did_you_mean(column, [name[:_SHOWN] for name in names])}"


def _columns(found: Sequence[str], wanted: Sequence[str]) -> str:
    return f"{len(found)} column{'s' * (len(found) != 1)}, not {len(wanted)}"
