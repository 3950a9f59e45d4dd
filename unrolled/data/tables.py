"""A column of a table with a header line: each row's text is a document."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from unrolled.data.files import TextFile, pieces
from unrolled.errors import UsageError, did_you_mean

# Characters of a line of a table; what is longer is no table, or a quotation mark is not closed.
LONGEST_LINE = 2**24


class Table(TextFile):
    """The documents of one column: separated by tabs if the header has one, else by commas, with quotation marks."""

    def __init__(self, path: str | Path, encoding: str, column: str):
        super().__init__(path, encoding)
        self.column = column

    def documents(self) -> Iterator[Iterator[str]]:
        """The texts of the column, row by row.

        Raises   UsageError, with the file and the line, for a row that does not fit the header
        """
        lines = self._lines()
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
            index = self._index(header)
            for row in reader:
                if row and len(row) != len(header):
                    columns = f"{len(row)} column{'s' * (len(row) != 1)}, not {len(header)}"
                    raise UsageError(f"{self.name}, line {reader.line_num} does not fit the header: it has {columns}")
                if row:
                    yield pieces(row[index])
        except csv.Error as error:
            raise UsageError(f"{self.name}, line {reader.line_num} is no row of a table: {error}") from None

    def _index(self, header: list[str]) -> int:
        """Where the column stands."""
        count = header.count(self.column)
        if count == 0:
            # A file that is no table has a first line of any length.
            names = [name[:40] for name in header]
            raise UsageError(f"{self.name} has no column {self.column!r}.{did_you_mean(self.column, names)}")
        if count > 1:
            raise UsageError(f"{self.name} has {count} columns {self.column!r}: give each a name of its own")
        return header.index(self.column)

    def _lines(self) -> Iterator[str]:
        held, number = "", 0
        for chunk in self.chunks():
            *lines, held = (held + chunk).split("\n")
            number += len(lines)
            yield from (line + "\n" for line in lines)
            if len(held) > LONGEST_LINE:
                raise UsageError(f"{self.name}, line {number + 1} is longer than {LONGEST_LINE:,} characters: no table")
        if held:
            yield held
