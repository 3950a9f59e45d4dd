"""Documents, read as often as asked and never whole in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unicodedata import category, is_normalized, normalize

from unrolled.data.files import File
from unrolled.data.sources import Source, sources_of
from unrolled.errors import UsageError

# Characters without white space from which on a word is cut.
LONGEST_WORD = 2**20
_PREVIEW_WIDTH = 80


@dataclass(frozen=True)
class DataFile:
    """A file as it was read."""

    path: str
    sha256: str
    # In bytes.
    size: int


@dataclass(frozen=True)
class Part:
    """A piece of a document."""

    text: str
    # Whether a document begins with it.
    begins: bool


def files_of(sources: Iterable[object]) -> tuple[DataFile, ...]:
    """The files among sources, as they were read."""
    return tuple(
        DataFile(_readable(os.path.abspath(source.name)), source.sha256, source.size)
        for source in sources
        if isinstance(source, File)
    )


class Corpus:
    """Documents in Unicode form NFC, each a file, an entry of a list or a row of a table, in their order.

    The first reading counts them and finds what cannot be read.
    """

    def __init__(self, sources: Iterable[Source], notices: Iterable[str] = ()):
        self._sources = tuple(sources)
        self.documents = self.characters = 0
        found, empty, digest = list(notices), 0, hashlib.sha256()
        for source in self._sources:
            changed = 0
            for document in source.documents():
                length = 0
                for text in _cut(document):
                    normal = normalize("NFC", text)
                    if normal != text:
                        changed += sum(not is_normalized("NFC", word) for word in text.split())
                    digest.update(_encoded(normal, source.name))
                    length += len(normal)
                if length:
                    # No text has this byte: other documents with the same characters have another digest.
                    digest.update(b"\xff")
                    self.documents += 1
                    self.characters += length
                else:
                    empty += 1
            if changed:
                found.append(f"{_counted(changed, 'word', f' of {source.name}')} brought to Unicode form NFC.")
        if not self.documents:
            names = [source.name for source in self._sources if isinstance(source, File)]
            raise UsageError(f"{names[0] if len(names) == 1 else 'the data'} is empty")
        if empty:
            found.append(f"{_counted(empty, 'empty document')} left out.")
        self.notices = tuple(found)
        self.digest = digest.hexdigest()
        # Now, while they are there: what was learned is kept though they are not any more.
        self.files = files_of(self._sources)

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Part]:
        """The characters from `start` to `stop`, counted over all documents, in parts of about a million at most.

        The first part counts as the beginning of a document, wherever it stands. No part but the last ends
        within a word.
        """
        wanted = range(self.characters)[start:stop]
        after, first = 0, True
        for part in self._read():
            if after >= wanted.stop:
                return
            before, after = after, after + len(part.text)
            text = part.text[max(0, wanted.start - before) : max(0, wanted.stop - before)]
            if text:
                yield Part(text, part.begins or first)
                first = False

    def preview(self, count: int = 5) -> list[str]:
        """The beginnings of the first documents; of a single one, those of its first lines."""
        beginnings: Iterable[str] = (part.text for part in self.parts() if part.begins)
        if self.documents == 1:
            beginnings = next(iter(beginnings)).split("\n")
        shown: list[str] = []
        for beginning in beginnings:
            if len(shown) >= count:
                break
            line = " ".join(beginning[: 2 * _PREVIEW_WIDTH].split())
            if line:
                shown.append(line if len(line) <= _PREVIEW_WIDTH else f"{line[: _PREVIEW_WIDTH - 1]}…")
        return shown

    def _read(self) -> Iterator[Part]:
        for source in self._sources:
            for document in source.documents():
                begins = True
                for text in _cut(document):
                    yield Part(normalize("NFC", text), begins)
                    begins = False


def corpus(data: Any, *, encoding: str = "utf-8", column: str = "") -> Corpus:
    """The documents of a file, of a list of files or of texts, or of the column of a table.

    Raises   UsageError, in one line, when the data is nothing that can be read, or empty
    """
    return Corpus(*sources_of(data, encoding, column))


def _cut(pieces: Iterable[str]) -> Iterator[str]:
    """A document in parts, each but the last cut before white space: neither a word nor a composed character is cut."""
    held = ""
    for piece in pieces:
        if held:
            cut = max(held.rfind(" "), held.rfind("\n"))
            if cut <= 0 and len(held) >= LONGEST_WORD:
                cut = _last_beginning(held)
            if cut > 0:
                yield held[:cut]
                held = held[cut:]
        held += piece
    if held:
        yield held


def _last_beginning(text: str) -> int:
    """Where the last character stands that composes with none before it."""
    return next((index for index in range(len(text) - 1, 0, -1) if not _composes(text[index])), len(text))


def _composes(character: str) -> bool:
    """Whether a character may compose or change places with those before it, as accents and jamo do."""
    return category(character)[0] == "M" or "\u1160" <= character <= "\u11ff" or character == "\U00016d67"


def _encoded(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r}, half a character, after {text[max(0, error.start - 20) : error.start]!r}"
        raise UsageError(f"{name} cannot be read: there is {half}") from None


def _counted(count: int, noun: str, where: str = "") -> str:
    return f"{count:,} {noun}{where} was" if count == 1 else f"{count:,} {noun}s{where} were"


def _readable(path: str) -> str:
    """A path as text that can be written: where the system says that names are ASCII, those of UTF-8 are still read."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
