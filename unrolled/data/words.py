"""Texts as numbers of their distinct words, and how each word is spelled in numbers.

A word is looked up and spelled once, however often it stands in a text; a batch holds each of its words once.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unrolled.errors import UsageError, did_you_mean
from unrolled.layers.words import Words

UNKNOWN = 0
# Characters of a word that are spelled; beyond, it is no word of a language.
SPELLED = 60
SHORTEST, LONGEST = 1, 4
Numbers = NDArray[np.int64]
# Multipliers that mix the bits of 64: the prime of FNV, and 2^64 over the golden ratio.
_PRIME, _ODD = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15)


class Texts:
    """Texts as numbers of their distinct words, in the order in which they are first met."""

    def __init__(self, texts: Iterable[Sequence[str]]):
        numbers: dict[str, int] = {}
        flat: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        for text in texts:
            found = [numbers.setdefault(word, len(numbers)) for word in text]
            flat.append(np.array(found, np.int32))
            lengths.append(len(found))
        self.words = list(numbers)
        self.lengths: Numbers = np.array(lengths, np.int64)
        self.flat: NDArray[np.int32] = np.concatenate([np.zeros(0, np.int32), *flat])
        self._begins = np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        return len(self.lengths)

    def text(self, row: int) -> NDArray[np.int32]:
        """The numbers of a text's words."""
        return self.flat[self._begins[row] : self._begins[row + 1]]

    def parts(self, row: int) -> list[str]:
        """A text's words."""
        return [self.words[number] for number in self.text(row)]

    def counts(self, rows: Iterable[int]) -> Counter[str]:
        """How often each word stands in some of the texts."""
        numbers = np.concatenate([np.zeros(0, np.int32), *(self.text(row) for row in rows)])
        found = np.bincount(numbers, minlength=len(self.words))
        return Counter({self.words[place]: int(found[place]) for place in np.flatnonzero(found)})


def ngrams(word: str) -> set[str]:
    """The groups of characters that follow each other in a word whose ends are marked, < and >."""
    marked = f"<{word[:SPELLED]}>"
    return {
        marked[begin : begin + length]
        for length in range(SHORTEST, LONGEST + 1)
        for begin in range(len(marked) - length + 1)
    }


class Spelling:
    """What a word is made of, as numbers: nothing, its characters, or groups of them under a hash.

    kind         none, characters or ngrams
    characters   those that are known, for the kind of that name; every other has the number 0
    buckets      numbers that groups have, for ngrams: several groups share one where there are more

    Source   n-grams under a hash: Bojanowski et al. 2017, "Enriching word vectors with subword information"
    """

    KINDS = ("none", "characters", "ngrams")

    def __init__(self, kind: str = "none", *, characters: Sequence[str] = (), buckets: int = 0):
        if kind not in self.KINDS:
            raise UsageError(f"there is no spelling {kind!r}.{did_you_mean(kind, self.KINDS)}")
        self.kind, self.characters, self.buckets = kind, list(characters), buckets
        self._numbers = {character: number for number, character in enumerate(self.characters, 1)}

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return {"none": 0, "characters": len(self.characters) + 1, "ngrams": self.buckets}[self.kind]

    def of(self, word: str) -> list[int]:
        """The pieces of a word."""
        word = word[:SPELLED]
        if self.kind == "none":
            return []
        if self.kind == "characters":
            return [self._numbers.get(character, UNKNOWN) for character in word] or [UNKNOWN]
        # In an order that is the same in every process.
        return sorted(zlib.crc32(group.encode("utf-8", "surrogatepass")) % self.buckets for group in ngrams(word))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"kind": self.kind, "characters": self.characters, "buckets": self.buckets}

    @classmethod
    def from_json(cls, value: Any) -> Spelling:
        """The spelling that `to_json` gave, from a file that anybody may have written.

        Raises   ValueError, with the reason, when it is none
        """
        if not isinstance(value, Mapping) or set(value) != {"kind", "characters", "buckets"}:
            raise ValueError("a spelling has a kind, characters and buckets")
        kind, characters, buckets = value["kind"], value["characters"], value["buckets"]
        if kind not in cls.KINDS or not isinstance(buckets, int) or buckets < 0:
            raise ValueError("a spelling has a kind, characters and buckets")
        if not isinstance(characters, list) or not all(isinstance(each, str) for each in characters):
            raise ValueError("the characters of a spelling are a list of texts")
        return cls(kind, characters=characters, buckets=buckets)


class Lexicon:
    """The words that a model knows, numbered from 1, and how it spells any word."""

    def __init__(self, words: Iterable[str], spelling: Spelling):
        self.words = list(words)
        self.spelling = spelling
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}

    @classmethod
    def of(cls, counts: Mapping[str, int], spelling: Spelling, min_count: int = 1) -> Lexicon:
        """The words that occur so often, the most frequent first."""
        kept = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)), spelling)

    def __len__(self) -> int:
        """Numbers that words have, that of the unknown ones among them."""
        return len(self.words) + 1

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    def number(self, word: str) -> int:
        """The number of a word; 0 if it is unknown."""
        return self._numbers.get(word, UNKNOWN)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"words": self.words, "spelling": self.spelling.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> Lexicon:
        """The words that `to_json` gave, from a file that anybody may have written.

        Raises   ValueError, with the reason, when it is none
        """
        if not isinstance(value, Mapping) or set(value) != {"words", "spelling"}:
            raise ValueError("it must have words and a spelling")
        words = value["words"]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("the words must be a list of texts")
        if len(set(words)) < len(words):
            raise ValueError("a word stands twice in it")
        return cls(words, Spelling.from_json(value["spelling"]))


class Encoded:
    """Texts whose words have the numbers that a model reads.

    wide      numbers that groups of characters of a text have, under a hash; 0 where they are not read
    between   what stands between two words of a text
    """

    def __init__(self, texts: Texts, lexicon: Lexicon, *, wide: int = 0, between: str = " "):
        self.texts, self.wide, self.between = texts, wide, between
        self.lengths = texts.lengths
        words = texts.words
        self.known: Numbers = np.fromiter(map(lexicon.number, words), np.int64, len(words))
        spelled = [np.array(lexicon.spelling.of(word), np.int32) for word in words]
        self._pieces = np.concatenate([np.zeros(0, np.int32), *spelled])
        self._counts = np.array([len(pieces) for pieces in spelled], np.int64)
        self._begins = np.cumsum(self._counts) - self._counts

    def __len__(self) -> int:
        return len(self.texts)

    def unknown(self, rows: Iterable[int]) -> int:
        """Words in some of the texts that the model does not know."""
        return sum(int((self.known[self.texts.text(row)] == UNKNOWN).sum()) for row in rows)

    def batch(self, rows: Sequence[int] | Numbers, *, grouped: bool = True) -> Words:
        """Some of the texts, side by side; without the groups of characters of the texts unless `grouped`."""
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        numbers = np.zeros((longest, len(rows)), np.int64)
        for column, row in enumerate(rows):
            numbers[: lengths[column], column] = self.texts.text(int(row))
        groups = self.groups(rows if grouped else [])
        if not self.texts.words:
            # Texts without a word: there is none to look up.
            return Words(
                *map(torch.from_numpy, (numbers, lengths, *(np.zeros(0, np.int64) for _ in range(3)), *groups))
            )
        distinct, places = np.unique(numbers, return_inverse=True)
        counts = self._counts[distinct]
        begins = np.cumsum(counts) - counts
        chosen = np.repeat(self._begins[distinct] - begins, counts) + np.arange(counts.sum())
        found = (
            places.reshape(numbers.shape), lengths, self.known[distinct],
            self._pieces[chosen].astype(np.int64), begins, *groups,
        )  # fmt: skip
        return Words(*map(torch.from_numpy, found))

    def groups(self, rows: Sequence[int] | Numbers) -> tuple[NDArray[np.int32], Numbers]:
        """The groups of characters of texts, each once a text, and where those of each text begin."""
        if not self.wide:
            return np.zeros(0, np.int32), np.zeros(len(rows), np.int64)
        texts = (f" {self.between.join(self.texts.parts(int(row)))} ".lower() for row in rows)
        found = [hashed_groups(text, self.wide).astype(np.int32) for text in texts]
        counts = np.array([len(each) for each in found], np.int64)
        return np.concatenate([np.zeros(0, np.int32), *found]), np.cumsum(counts) - counts


def hashed_groups(text: str, buckets: int) -> Numbers:
    """The numbers of the groups of 1 to 4 characters that follow each other in a text, each once, in order."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    found = []
    for length in range(SHORTEST, min(LONGEST, len(points)) + 1):
        mixed = np.full(len(points) - length + 1, length, np.uint64)
        for place in range(length):
            mixed = mixed * _PRIME ^ points[place : len(mixed) + place] * _ODD
        mixed ^= mixed >> np.uint64(29)
        mixed *= _ODD
        found.append(mixed ^ mixed >> np.uint64(32))
    return np.unique(np.concatenate(found) % np.uint64(buckets)).astype(np.int64)
