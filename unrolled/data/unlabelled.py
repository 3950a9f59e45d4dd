"""Rows of files as they are, for what is to be said of their texts: in their order, with all of their columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from unrolled.data.examples import InMemory
from unrolled.data.labelled import FAULTS_SHOWN, normalised
from unrolled.data.rows import Fault, Rows, no_column
from unrolled.errors import UsageError, short


class Unlabelled:
    """The rows of files, or of a table in memory, that have texts in some columns.

    sources    what is read, see `sources_of`
    columns    of the texts, or of lists of their tokens
    skip_bad   leave rows out that cannot be used, and count them

    Raises   UsageError, in one line, for a row that cannot be used, unless `skip_bad`; while it is read
    """

    def __init__(self, sources: Iterable[Rows | InMemory], columns: Sequence[str], *, skip_bad: bool = False):
        self._sources = tuple(sources)
        self.columns, self.skip_bad = tuple(columns), skip_bad
        self.skipped = 0
        self.faults: list[str] = []

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for source in self._sources:
            for found in source.rows():
                reason = found.reason if isinstance(found, Fault) else self._fault(found.values)
                if not reason and not isinstance(found, Fault):
                    yield {**found.values, **{name: _text(found.values[name]) for name in self.columns}}
                    continue
                told = f"{source.name}, line {found.line} {reason}"
                if not self.skip_bad:
                    raise UsageError(f"{told}; --skip-bad leaves such rows out")
                self.skipped += 1
                if len(self.faults) < FAULTS_SHOWN:
                    self.faults.append(told)

    def _fault(self, values: Mapping[str, Any]) -> str:
        """What is wrong with a row; empty if nothing is."""
        for name in self.columns:
            if name not in values:
                return no_column(name, list(values))
            value = values[name]
            of_texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
            if value is not None and not isinstance(value, str) and not of_texts:
                return f"has no text under {name!r}, but {short(values[name])}"
        return ""


def _text(value: str | list[str] | None) -> str | list[str]:
    return [normalised(each) for each in value] if isinstance(value, list) else normalised(value or "")
