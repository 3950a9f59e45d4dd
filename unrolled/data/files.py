"""A file as text, decoded as it is read: never whole in memory, and the same each time."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO

from unrolled.data.encodings import decoder_of, likely_encoding, mostly_utf8
from unrolled.errors import UnrolledError, UsageError

# Bytes of a file, or characters of a text in memory, that are taken at a time.
CHUNK = 2**20
SAMPLE = 2**18


def pieces(text: str) -> Iterator[str]:
    """A text in memory, in successive pieces."""
    return (text[start : start + CHUNK] for start in range(0, len(text), CHUNK))


class File:
    """A file that is read as often as asked, and is the same each time; one that ends in .gz is unpacked as it is read.

    size   of the file as it lies there, in bytes: known after the first whole reading
    """

    def __init__(self, path: str | Path):
        self.name = str(path)
        self.size = 0
        self._time: int | None = None

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The bytes of the file.

        Raises   UsageError, in one line, when they cannot be read; UnrolledError when the file has changed since it was
        read first
        """
        try:
            with open(self.name, "rb") as raw:
                if not raw.seekable():
                    what = "can be read only once: write what it gives into a file, and name that"
                    raise UsageError(f"{self.name} {what}")
                found = os.fstat(raw.fileno())
                if self._time is not None and (found.st_size, found.st_mtime_ns) != (self.size, self._time):
                    raise UnrolledError(f"{self.name} has changed since it was read first: start again")
                yield gzip.GzipFile(fileobj=raw) if self.is_packed else raw  # type: ignore[misc]
                self.size, self._time = found.st_size, found.st_mtime_ns
        except FileNotFoundError:
            raise UsageError(f"there is no file {self.name}") from None
        except IsADirectoryError:
            hint = f"name the files in it, such as {os.path.join(self.name, '*.txt')}"
            raise UsageError(f"{self.name} is a folder: {hint}") from None
        except (EOFError, zlib.error) as error:
            raise UsageError(f"{self.name} is damaged: {error}") from None
        except OSError as error:
            raise UsageError(f"{self.name} cannot be read: {error.strerror or error}") from None

    @property
    def is_packed(self) -> bool:
        """Whether it is unpacked as it is read."""
        return self.name.endswith(".gz")

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file as it lies there.

        Raises   as `opened`
        """
        with self.opened() as file:
            raw = file.fileobj if isinstance(file, gzip.GzipFile) else file
            return hashlib.file_digest(raw, "sha256").hexdigest()  # type: ignore[arg-type]


class TextFile(File):
    """One document: the text of a file, with each line break as a line feed."""

    def __init__(self, path: str | Path, encoding: str):
        super().__init__(path)
        self.encoding = encoding
        self._decoder = decoder_of(encoding)
        self._is_utf8 = codecs.lookup(encoding).name == "utf-8"

    def documents(self) -> Iterator[Iterator[str]]:
        """The one document of the file, in successive pieces."""
        yield self.chunks()

    def chunks(self) -> Iterator[str]:
        """The text in successive pieces.

        Raises   UsageError, in one line, when it cannot be read or is no text; UnrolledError when it has changed since
        it was read first
        """
        with self.opened() as file:
            yield from self._decoded(file)

    def _decoded(self, file: IO[bytes]) -> Iterator[str]:
        decoder = io.IncrementalNewlineDecoder(self._decoder(), translate=True)
        read, more = 0, True
        while more:
            chunk = file.read(CHUNK)
            more = bool(chunk)
            text = self._text(decoder, chunk, file, read)
            if read == 0 and self._is_utf8 and "\0" in text:
                position = chunk.index(b"\0")
                what = f"{self.name} is no text: it holds a zero byte at position {position}"
                raise UsageError(what + _suggestion(file, position))
            read += len(chunk)
            if text:
                yield text

    def _text(self, decoder: io.IncrementalNewlineDecoder, chunk: bytes, file: IO[bytes], read: int) -> str:
        """The text of the next bytes, of which `read` stand before them; the last are empty."""
        try:
            return decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # The end of what was to be decoded is the end of what was read.
            position = read + len(chunk) - len(error.object) + error.start
            what = f"byte {error.object[error.start]:#04x} at position {position}"
        # Some decoders say no more than this.
        except UnicodeError as error:
            position, what = read, str(error)
        kind = "UTF-8" if self._is_utf8 else self.encoding
        raise UsageError(f"{self.name} is no {kind} text: {what}{_suggestion(file, position, self._is_utf8)}")


def _suggestion(file: IO[bytes], position: int, is_utf8: bool = False) -> str:
    """What to try, from the bytes around a position that cannot be read, as UTF-8 or else."""
    start = max(0, position - SAMPLE // 2) // 2 * 2
    file.seek(start)
    sample = file.read(SAMPLE)
    if start and b"\0" not in sample:
        # After a line feed a character begins.
        sample = sample[sample.find(b"\n") + 1 :]
    if is_utf8 and mostly_utf8(sample):
        return "; all around it is UTF-8: mend the file there"
    likely = likely_encoding(sample)
    return f"; it may be {likely}: --encoding {likely}" if likely else ""
