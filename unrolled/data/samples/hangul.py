"""Random words in Hangul, and the same in Latin letters, from the names that Unicode has for syllables.

한국 is hangug, and 독립 dogrib: each syllable as it is written, letter by letter. That is not the Revised Romanization
of Korean, which writes what is heard where neighbours change one another: hanguk, dongnip. Nor are these words of
Korean: each is 1 to 5 syllables, drawn by chance from the 2,350 of KS X 1001, which are nearly all that are in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from unicodedata import name

WORDS = 20_000
LONGEST = 5
_SEED = 0


def words() -> Iterator[tuple[str, str]]:
    """The words, all different, and what they are in Latin letters."""
    syllables = [chr(number) for number in range(0xAC00, 0xD7A4) if _is_common(chr(number))]
    # Of a generator, only this is the same in every version of Python.
    chance = Random(_SEED).random
    seen: set[str] = set()
    while len(seen) < WORDS:
        length = 1 + int(chance() * LONGEST)
        word = "".join(syllables[int(chance() * len(syllables))] for _ in range(length))
        if word not in seen:
            seen.add(word)
            yield word, romanised(word)


def romanised(word: str) -> str:
    """The names of its syllables, one after the other."""
    return "".join(name(syllable).removeprefix("HANGUL SYLLABLE ").lower() for syllable in word)


def _is_common(syllable: str) -> bool:
    """Whether it has a place of its own in KS X 1001, where any other is spelled."""
    return len(syllable.encode("euc_kr")) == 2
