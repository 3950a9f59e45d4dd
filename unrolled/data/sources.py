"""What data can be given as, and how its documents are told apart."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from unrolled.data.encodings import decoder_of
from unrolled.data.files import TextFile, pieces
from unrolled.data.rows import Rows, rows_of
from unrolled.errors import UsageError, did_you_mean, short

# An ending such as .txt, but not a number such as 3.5.
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}\Z")
# Entries of a column that are looked at to see what it holds.
_FIRST = 100


class Texts:
    """Documents that are in memory already; line breaks are read as those of a file are."""

    name = "the texts"

    def __init__(self, texts: Sequence[str]):
        self._texts = texts

    def documents(self) -> Iterator[Iterator[str]]:
        """Each text, in successive pieces."""
        for text in self._texts:
            yield pieces(text.replace("\r\n", "\n").replace("\r", "\n"))


Source: TypeAlias = Texts | TextFile | Rows


def sources_of(data: Any, encoding: str, column: str) -> tuple[list[Source], list[str]]:
    """The sources that data stands for, and what the user should know of how it was understood.

    Raises   UsageError when it is nothing that can be read
    """
    decoder_of(encoding)
    if isinstance(data, str | os.PathLike):
        return [_file(data, encoding, column)], []
    columns = columns_of(data)
    if columns is not None:
        name, notices = _chosen(columns, column)
        return [Texts(_texts(columns[name], f"column {name!r}, row"))], notices
    if isinstance(data, bytes | set | frozenset) or not _is_list(data):
        raise UsageError(
            f"data of type {type(data).__name__} cannot be read: give a file, a list of files or of texts, or a table "
            "with a column of texts"
        )
    return _listed(tuple(data), encoding, column), []


def _is_list(data: Any) -> bool:
    return hasattr(data, "__len__") and hasattr(data, "__iter__") and getattr(data, "ndim", 1) == 1


def _file(path: str | os.PathLike[str], encoding: str, column: str) -> TextFile | Rows:
    name = os.fspath(path)
    if not os.path.exists(name):
        hint = "\n" in name or len(name) > 255
        said = "of this name: a text itself is given in a list, [text]" if hint else name or "without a name"
        raise UsageError(f"there is no file {said}")
    return rows_of(name, encoding, column) if column else TextFile(name, encoding)


def _listed(entries: Sequence[Any], encoding: str, column: str) -> list[Source]:
    """The files or texts of a list."""
    if not entries:
        raise UsageError("the data is empty: a list without files or texts")
    are_files = [isinstance(entry, os.PathLike) or (isinstance(entry, str) and _is_path(entry)) for entry in entries]
    # A text may look like a file by chance; that one is there by chance as well is past belief.
    surely = any(file and os.path.isfile(entry) for file, entry in zip(are_files, entries, strict=True))
    if not all(are_files) and not surely:
        texts = Texts(_texts(entries, "entry"))
        if column:
            raise UsageError(f"there is no column {column!r}: the data is a list of texts, no table")
        return [texts]
    if not all(are_files):
        file = next(index for index, entry in enumerate(entries) if are_files[index] and os.path.isfile(entry))
        text = are_files.index(False)
        raise UsageError(
            f"entry {file} of the data, {short(entries[file])}, is a file; entry {text}, "
            f"{short(entries[text])}, is none: give files alone, or texts as a column, {{'text': [...]}}"
        )
    return [_file(entry, encoding, column) for entry in entries]


def _is_path(entry: str) -> bool:
    """Whether a text names a file that exists, or looks as if it did."""
    if re.search(r"\s", entry) is None and (_ENDING.search(entry) or os.sep in entry):
        return True
    return "\n" not in entry and os.path.isfile(entry)


def columns_of(data: Any) -> Mapping[str, Any] | None:
    """The columns of a table in memory, by name; None if the data is no table."""
    if isinstance(data, Mapping):
        return {str(name): column for name, column in data.items()}
    # A frame of pandas or polars, without a need for either.
    if hasattr(data, "columns") and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return {str(name): data[name] for name in data.columns}
    return None


def _chosen(columns: Mapping[str, Any], column: str) -> tuple[str, list[str]]:
    """The name of the column that holds the texts, and whether it was guessed."""
    if column:
        if column not in columns:
            raise UsageError(f"the data has no column {column!r}.{did_you_mean(column, columns)}")
        return column, []
    of_text = [name for name, values in columns.items() if _is_list(values) and _holds_text(values)]
    if len(of_text) != 1:
        found = f"{len(of_text)} columns of text" if of_text else "no column of text"
        raise UsageError(f"the data has {found} among {', '.join(columns) or 'none'}: name one with text")
    return of_text[0], [f"The texts are those of the column {of_text[0]!r}, the only one that holds text."]


def _holds_text(values: Iterable[Any]) -> bool:
    return not isinstance(values, str) and any(isinstance(value, str) for value in islice(values, _FIRST))


def _texts(values: Any, where: str) -> tuple[str, ...]:
    """The values, when all are texts."""
    if isinstance(values, str | bytes) or not _is_list(values):
        raise UsageError(f"{where.split(',')[0]} is no list of texts, but {short(values)}")
    texts = tuple(values)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UsageError(f"{where} {index} is no text, but {short(text)}: leave it out, or put a text in its place")
    return texts
