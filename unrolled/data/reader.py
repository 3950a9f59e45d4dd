"""How a model reads texts: what it takes them apart into, and the numbers of the parts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from unrolled.data.splitting import KINDS, SPELLED, splitter
from unrolled.data.subwords import SUBWORDS, learn_subwords, subwords
from unrolled.data.units import UNITS, Unit
from unrolled.data.words import Encoded, Lexicon, Spelling, Texts, ngrams
from unrolled.errors import UsageError, did_you_mean

# Subwords, if nothing else is said.
SYMBOLS = 8000
# Stands between the texts of several columns.
BETWEEN = "\x1f"


class Reader:
    """Takes texts apart and gives their parts the numbers that a model was trained with.

    unit      the parts: a unit, or "tokens" where texts come as lists of them
    longest   parts of a text that are read
    learned   the unit, where it is learned from texts
    wide      numbers for groups of characters of the text as a whole; 0 where they are not read
    """

    def __init__(self, unit: str, lexicon: Lexicon, longest: int, learned: Unit | None = None, wide: int = 0):
        self.unit, self.lexicon, self.longest, self.learned, self.wide = unit, lexicon, longest, learned, wide
        self._split = splitter(unit, learned)
        # Texts that were cut, of those read so far.
        self.cut = 0

    @classmethod
    def of(cls, unit: str, longest: int) -> Reader:
        """A reader that knows no word yet."""
        return cls(unit, Lexicon([], Spelling()), longest)

    def split(self, *texts: str) -> list[str]:
        """The parts of a text; of several texts with a mark between them."""
        parts: list[str] = []
        for place, text in enumerate(texts):
            parts += [BETWEEN] * (place > 0) + self._split(text)
        self.cut += len(parts) > self.longest
        return parts[: self.longest]

    def encode(self, texts: Texts | Iterable[Sequence[str]]) -> Encoded:
        """The numbers of texts that were taken apart."""
        read = texts if isinstance(texts, Texts) else Texts(texts)
        return Encoded(read, self.lexicon, wide=self.wide, between=" " if self.unit in SPELLED else "")

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        learned = None
        if self.learned is not None:
            learned = {"symbols": list(self.learned.closed), "how": list(self.learned.learned)}
        lexicon = self.lexicon.to_json()
        return {"unit": self.unit, "longest": self.longest, "learned": learned, "wide": self.wide, "lexicon": lexicon}

    @classmethod
    def from_json(cls, value: Any) -> Reader:
        """The reader that `to_json` gave, from a file that anybody may have written.

        Raises   ValueError, with the reason, when it is none
        """
        if not isinstance(value, Mapping) or set(value) != {"unit", "longest", "learned", "wide", "lexicon"}:
            raise ValueError("it must have a unit, longest, learned, wide and a lexicon")
        unit, longest, learned, wide = value["unit"], value["longest"], value["learned"], value["wide"]
        if unit not in KINDS:
            raise ValueError(f"there is no unit {unit!r}.{did_you_mean(str(unit), KINDS)}")
        if type(longest) is not int or longest < 1 or type(wide) is not int or wide < 0:
            raise ValueError("longest must be a whole number above 0, wide one from 0 on")
        known = None
        if unit in SUBWORDS:
            if not isinstance(learned, Mapping) or set(learned) != {"symbols", "how"}:
                raise ValueError("what was learned of subwords has symbols and how")
            symbols, how = learned["symbols"], learned["how"]
            if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
                raise ValueError("the symbols of subwords must be a list of texts")
            known = subwords(unit, symbols, how)
        return cls(unit, Lexicon.from_json(value["lexicon"]), longest, known, wide)


def learn_reader(unit: str, texts: Iterable[Sequence[str]], *, longest: int, symbols: int | None = None) -> Reader:
    """A reader of texts, each one or several columns; subwords are learned of them.

    Raises   UsageError for a number of symbols where nothing is learned; MissingExtraError without a library
    """
    if unit not in SUBWORDS:
        if symbols is not None:
            raise UsageError(f"{unit} are not learned, so that their number cannot be chosen: leave out symbols")
        return Reader.of(unit, longest)
    found = learn_subwords(unit, (text for columns in texts for text in columns), symbols or SYMBOLS)
    return Reader(unit, Lexicon([], Spelling()), longest, found)


def spelling_of(kind: str, unit: str, words: Collection[str], buckets: int, default: str) -> Spelling:
    """The spelling that a model uses of a unit: nothing but words is spelled.

    buckets   of n-grams, at most: few words have fewer n-grams

    Raises   UsageError where another one is asked for
    """
    if unit not in SPELLED:
        if kind not in ("", "none"):
            raise UsageError(f"{unit} have no spelling: leave out spelling, or read words")
        return Spelling()
    kind = kind or default
    characters = sorted({character for word in words for character in word}) if kind == "characters" else ()
    return Spelling(kind, characters=characters, buckets=_buckets(words, buckets) if kind == "ngrams" else 0)


def _buckets(words: Collection[str], most: int) -> int:
    """As many as the words have n-grams, in powers of two, up to the most."""
    groups = {group for word in islice(words, most) for group in ngrams(word)}
    return min(most, 1 << max(8, (len(groups) - 1).bit_length()))


def closed(unit: str) -> bool:
    """Whether no part of a text is ever unknown."""
    return unit in SUBWORDS or (unit in UNITS and bool(UNITS[unit].closed))
