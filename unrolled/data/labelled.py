"""Labelled rows: read as often as asked, counted and checked by the first reading, and what is said of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar
from unicodedata import normalize

from unrolled.data.corpus import DataFile, files_of
from unrolled.data.rows import Fault, Found, Row, no_column
from unrolled.errors import UsageError, short

# Rows that are looked at to find out which column is which.
LOOKED_AT = 1000
FAULTS_SHOWN = 3


class Source(Protocol):
    """What rows are read from: a file, or a table in memory."""

    name: str

    def rows(self) -> Iterator[Found]:
        """The rows, the same each time."""


T = TypeVar("T", bound=tuple[Any, ...])


class Labelled(ABC, Generic[T]):
    """Rows with labels, read as often as asked and never whole in memory.

    skip_bad   leave rows out that cannot be used, and count them
    check      raises UsageError, with the reason, for a row that cannot be used
    count      how many there are, after the first reading; `digest` a hash of them, `files` where they stand
    """

    def __init__(self, sources: Iterable[Source], *, skip_bad: bool = False, check: Callable[[T], object] = bool):
        self._sources = tuple(sources)
        self.skip_bad, self._check = skip_bad, check
        self.count, self.skipped = 0, 0
        self.faults: list[str] = []
        self.digest = ""
        self.files: tuple[DataFile, ...] = ()

    def first_reading(self) -> Iterator[T]:
        """Read all, and find what cannot be used.

        Raises   UsageError, in one line, for a row that cannot be used, unless `skip_bad`; where there is none to use
        """
        digest = hashlib.sha256()
        for found in self._read():
            if isinstance(found, str):
                self._refuse(found)
                continue
            digest.update(repr(self.content(found)).encode("utf-8", "surrogatepass"))
            self.count += 1
            yield found
        self.digest = digest.hexdigest()
        self.files = files_of(self._sources)
        if not self.count:
            raise UsageError(f"{self._sources[0].name if len(self._sources) == 1 else 'the data'} has no rows to use")

    @abstractmethod
    def made(self, row: Row, where: str) -> T:
        """What a row is.

        Raises   UsageError, with the reason, where it cannot be used
        """

    @abstractmethod
    def content(self, found: T) -> tuple[Any, ...]:
        """What of it is learned from, without its place."""

    def __iter__(self) -> Iterator[T]:
        return (found for found in self._read() if not isinstance(found, str))

    def __len__(self) -> int:
        return self.count

    def left_out(self) -> list[str]:
        """What to say of the rows that cannot be used, if there are any."""
        more = f"; and {self.skipped - len(self.faults):,} more" if self.skipped > len(self.faults) else ""
        return [f"{self.skipped:,} rows left out: {'; '.join(self.faults)}{more}."] if self.skipped else []

    def _refuse(self, reason: str) -> None:
        if not self.skip_bad:
            raise UsageError(f"{reason}; --skip-bad leaves such rows out")
        self.skipped += 1
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(reason)

    def _read(self) -> Iterator[T | str]:
        """What the rows are, and what is said of those that cannot be used."""
        for source in self._sources:
            for found in source.rows():
                where = f"{source.name}, line {found.line}"
                if isinstance(found, Fault):
                    yield f"{where} {found.reason}"
                    continue
                try:
                    made = self.made(found, where)
                    self._check(made)
                except UsageError as error:
                    yield f"{where} {error}"
                else:
                    yield made

    def looked_at(self, wanted: Iterable[str]) -> tuple[list[Mapping[str, Any]], list[str]]:
        """The first rows, and the names of their columns.

        Raises   UsageError where there is no row, or a column that is wanted is not there
        """
        first = self._sources[0]
        found = list(islice(first.rows(), LOOKED_AT))
        seen = [row.values for row in found if isinstance(row, Row)]
        if not seen:
            faults = [f"line {row.line} {row.reason}" for row in found if isinstance(row, Fault)]
            raise UsageError(f"{first.name} has no row that can be used" + (f": {faults[0]}" if faults else ""))
        names = list(dict.fromkeys(name for row in seen for name in row))
        for name in wanted:
            if name not in names:
                raise UsageError(f"{first.name} {no_column(name, names)}")
        return seen, names

    def asked_for(self, what: str, names: Sequence[str]) -> UsageError:
        """What to raise where a column cannot be told: the label, the text."""
        shown = ", ".join(names)
        return UsageError(f"which column is the {what}? {self._sources[0].name} has {shown}: name it with --{what}")


def normalised(text: str) -> str:
    """A text as it is read everywhere: in Unicode form NFC, lines that end in a line feed, no halves of characters."""
    text = normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    # A half is what is left of a character beyond the basic plane when a text was cut within it.
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def label_under(values: Mapping[str, Any], name: str) -> str:
    """The label in a column of a row; empty where there is none.

    Raises   UsageError, with the reason, for what is neither a text nor a whole number
    """
    value = values.get(name)
    # A number of numpy, or of torch, is one of Python's.
    if value is not None and hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError):
            raise UsageError(f"has no label under {name!r}, but {short(value)}") from None
    # What pandas has for nothing is compared with nothing.
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return ""
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
        value = str(int(value))
    if not isinstance(value, str):
        raise UsageError(f"has no label under {name!r}, but {short(value)}")
    return normalised(value.strip())


def only(names: Iterable[str], known: Sequence[str], but: Sequence[str] = ()) -> str:
    """The one name that is known; "" if there is none or several."""
    found = [name for name in names if name.lower() in known and name not in but]
    return found[0] if len(found) == 1 else ""
