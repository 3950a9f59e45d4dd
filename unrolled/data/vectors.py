"""Word vectors in files: those of word2vec, text and binary, of GloVe and of fastText; and which words are near."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from unrolled.data.files import File
from unrolled.errors import UnrolledError, UsageError

Vectors = NDArray[np.float32]
# Bytes of a word in a binary file; what is longer is none.
_LONGEST_WORD = 4096
_BYTES_A_VALUE, _MOST_VALUES = 4, 2**16


class VectorFile(File):
    """A file of word vectors, read a word at a time; gzip is unpacked as it is read.

    In text a line is a word and its numbers, with blanks between; word2vec and fastText begin with a line of two
    numbers, how many words and how many values each. The binary form of word2vec, ending in .bin, begins likewise, and
    has each word, a blank and the values as 32-bit numbers. fastText's own .bin is no file of vectors: use its .vec.
    """

    def items(self) -> Iterator[tuple[str, Vectors]]:
        """Each word with its vector.

        Raises   UsageError, with the line or the word, where it is no file of vectors
        """
        with self.opened() as file:
            binary = self.name.removesuffix(".gz").endswith(".bin")
            yield from self._binary(file) if binary else self._text(file)

    def _text(self, file: IO[bytes]) -> Iterator[tuple[str, Vectors]]:
        size, promised, number = 0, None, 0
        for number, line in enumerate(file, 1):
            # A word may hold a blank that is not the plain one.
            parts = line.decode("utf-8", "replace").rstrip().split(" ")
            if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
                promised, size = int(parts[0]), int(parts[1])
                continue
            size = size or len(parts) - 1
            if size < 1 or len(parts) <= size:
                raise UsageError(
                    f"{self.name}, line {number} has {len(parts) - 1} numbers after a word, not {size or 1}"
                )
            try:
                values = np.array(parts[-size:], np.float32)
            except ValueError as error:
                raise UsageError(f"{self.name}, line {number} is no word with its vector: {error}") from None
            # GloVe has words with blanks in them.
            yield " ".join(parts[:-size]), values
        if promised is not None and number - 1 < promised:
            raise UsageError(f"{self.name} ends after {number - 1:,} words of {promised:,}")

    def _binary(self, file: IO[bytes]) -> Iterator[tuple[str, Vectors]]:
        header = file.readline(_LONGEST_WORD).split()
        if len(header) != 2 or not all(part.isdigit() for part in header):
            raise UsageError(f"{self.name} is no binary file of word2vec: it does not begin with two numbers")
        count, size = map(int, header)
        if not 1 <= size <= _MOST_VALUES:
            raise UsageError(f"{self.name} is no binary file of word2vec: it says that a word has {size} values")
        for number in range(1, count + 1):
            word = bytearray()
            while (byte := file.read(1)) not in (b" ", b"") and len(word) < _LONGEST_WORD:
                word += byte
            values = file.read(_BYTES_A_VALUE * size)
            if byte != b" " or len(values) < _BYTES_A_VALUE * size:
                raise UsageError(f"{self.name} ends, or is damaged, at word {number:,} of {count:,}")
            yield word.decode("utf-8", "replace").lstrip("\n"), np.frombuffer(values, "<f4").astype(np.float32)


def read_vectors(path: str | Path, words: Sequence[str]) -> tuple[Vectors, NDArray[np.bool_]]:
    """The vectors of words as a file has them, and which it has; the others are 0.

    Of a word that comes twice the first counts; one that the file does not have is sought in lower case.

    Shapes   returns (words, size) and (words,)
    Raises   UsageError when the file cannot be read, is none of vectors, or has vectors of several sizes
    """
    source = VectorFile(path)
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    lower: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        lower.setdefault(word.lower(), []).append(place)
    found: Vectors | None = None
    exact, loose = np.zeros(len(words), bool), np.zeros(len(words), bool)
    for word, values in source.items():
        if found is None:
            found = np.zeros((len(words), len(values)), np.float32)
        if len(values) != found.shape[1]:
            raise UsageError(f"{source.name} has {found.shape[1]} values for a word, but {len(values)} for {word!r}")
        if not np.isfinite(values).all():
            raise UsageError(f"{source.name} has a value for {word!r} that is no finite number")
        for place in places.get(word, ()):
            if not exact[place]:
                found[place], exact[place] = values, True
        for place in lower.get(word, ()):
            if not exact[place] and not loose[place]:
                found[place], loose[place] = values, True
    if found is None:
        raise UsageError(f"{source.name} is empty")
    return found, exact | loose


def write_vectors(path: str | Path, words: Sequence[str], vectors: Vectors) -> None:
    """Write words and their vectors in the text form of word2vec, which gensim and others read.

    Blanks within a word become "_": the form has no other way.

    Shapes   vectors (words, size)
    Raises   UsageError when something is there already; UnrolledError when it cannot be written
    """
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(f"{vectors.shape[0]} {vectors.shape[1]}\n")
            for word, values in zip(words, vectors.tolist(), strict=True):
                file.write(f"{'_'.join(word.split()) or '_'} {' '.join(f'{value:.6g}' for value in values)}\n")
    except FileExistsError:
        raise UsageError(f"{path} is there already") from None
    except OSError as error:
        raise UnrolledError(f"{path} cannot be written: {error.strerror or error}") from error


def neighbours(vectors: Vectors, place: int, top: int = 10) -> list[tuple[int, float]]:
    """The nearest vectors to one of them, without itself, with the cosines of their angles.

    Shapes   vectors (words, size)
    """
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = vectors @ vectors[place] / np.maximum(lengths * lengths[place], np.finfo(np.float32).tiny)
    cosines[place] = -np.inf
    top = min(top, len(vectors) - 1)
    best = np.argsort(-cosines, kind="stable")[:top]
    return [(int(each), float(cosines[each])) for each in best]
