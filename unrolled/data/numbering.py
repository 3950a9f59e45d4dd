"""The symbols of a corpus as numbers, one document after the other, with what separates and ends them."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.data.corpus import Corpus, Part
from unrolled.data.units import Unit
from unrolled.data.vocabulary import Vocabulary
from unrolled.errors import UsageError, did_you_mean

END_TOKENS = ("none", "line", "document")
# To be raised whenever the same text comes to have other numbers.
_FORMAT = 1


class Numbering:
    """The numbers from one character of a corpus to another, in successive pieces.

    `starts`, where the state begins anew, and `unknown`, the symbols that the vocabulary lacks, are those of the pieces
    taken so far.
    """

    def __init__(self, corpus: Corpus, vocabulary: Vocabulary, end_token: str, wanted: range):
        _check(end_token, vocabulary)
        self.dtype = vocabulary.dtype
        self.starts = array("q")
        self.unknown = 0
        self._corpus, self._vocabulary, self._end_token, self._wanted = corpus, vocabulary, end_token, wanted

    def __iter__(self) -> Iterator[NDArray[Any]]:
        vocabulary, end = self._vocabulary, self._vocabulary.end
        newline = end if self._end_token == "line" else None
        separator = vocabulary.encode("\n") if end is None else np.array([end], self.dtype)
        self.starts, self.unknown = array("q"), 0
        length, last = 0, -1
        for part in _parts(self._corpus, vocabulary.unit, self._end_token, self._wanted):
            if part.begins:
                # The end of a line is the separator of the next document too.
                if newline is None or last != newline:
                    yield separator
                    length, last = length + 1, int(separator[0])
                if not self.starts or self.starts[-1] != length - 1:
                    self.starts.append(length - 1)
            numbers = vocabulary.encode(part.text, newline)
            if len(numbers):
                yield numbers
                length, last = length + len(numbers), int(numbers[-1])
                if vocabulary.unknown is not None:
                    self.unknown += int(np.count_nonzero(numbers == vocabulary.unknown))
        if length and (self._end_token == "document" or (newline is not None and last != newline)):
            yield np.array([end], self.dtype)

    def key(self) -> str:
        """What tells these numbers from all others."""
        wanted = (self._wanted.start, self._wanted.stop, self._end_token)
        said = (_FORMAT, unicodedata.unidata_version, self._corpus.digest, *wanted, self._vocabulary.to_json())
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def texts(corpus: Corpus, unit: Unit, *, end_token: str, start: int = 0, stop: int | None = None) -> Iterator[str]:
    """The texts whose symbols a stream has, to make a vocabulary of: without the line breaks that become ends."""
    for part in _parts(corpus, unit, end_token, range(corpus.characters)[start:stop]):
        yield from part.text.split("\n") if end_token == "line" else (part.text,)


def _check(end_token: str, vocabulary: Vocabulary) -> None:
    if end_token not in END_TOKENS:
        raise UsageError(f"there is no end_token {end_token!r}.{did_you_mean(str(end_token), END_TOKENS)}")
    if end_token != "none" and vocabulary.end is None:
        raise UsageError(f"end_token {end_token!r} needs a vocabulary with an end: make one with end=True")


def _parts(corpus: Corpus, unit: Unit, end_token: str, wanted: range) -> Iterator[Part]:
    parts = corpus.parts(wanted.start, wanted.stop)
    return _bare_lines(parts) if end_token == "line" and unit.name == "words" else parts


def _bare_lines(parts: Iterator[Part]) -> Iterator[Part]:
    """The same documents without white space around their lines and without empty lines."""
    # White space at the end of a part may be within a line or around it, which only the next part tells.
    begun, held = False, ""
    for part in parts:
        if part.begins:
            begun, held = False, ""
        text = held + part.text
        body = text.rstrip()
        held = "\n" if "\n" in text[len(body) :] else text[len(body) :]
        first, *others = body.split("\n")
        lines = [first.rstrip() if begun else first.strip(), *filter(None, map(str.strip, others))]
        # What goes on with a line that has begun keeps the space, or the line break, that it begins with.
        if body or part.begins:
            yield Part("\n".join(lines if begun or lines[0] else lines[1:]), part.begins)
        begun = begun or bool(body)
