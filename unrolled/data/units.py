"""What a language model reads as one symbol: a character, a byte, a jamo or a word."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from unicodedata import category, normalize

from unrolled.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Unit:
    """A way to take a text apart into symbols and to put it together again.

    `join` after `"".join` after `split` gives every text in Unicode form NFC back.
    """

    name: str
    about: str
    split: Callable[[str], Sequence[str]]
    # From the symbols set side by side to the text that is shown.
    join: Callable[[str], str]
    # How much of the symbols set side by side can be shown, whatever follows.
    settled: Callable[[str], int]
    # Every symbol that there can be, when that is known beforehand.
    closed: tuple[str, ...] = ()
    # The symbols that may stand next after those set side by side; None if all may.
    may_follow: Callable[[str], Container[str]] | None = None
    # How the symbols were learned, where they were.
    learned: tuple[Any, ...] = ()
    # What its symbols are called, if not by its name.
    noun: str = ""

    @property
    def symbols(self) -> str:
        """What its symbols are called, many of them."""
        return self.noun or self.name


def unit(name: str) -> Unit:
    """The unit of a name.

    Raises   UsageError when there is none
    """
    if name not in UNITS:
        raise UsageError(f"there is no unit {name!r}.{did_you_mean(str(name), UNITS)}")
    return UNITS[name]


def _same(text: str) -> str:
    return text


_BYTES = tuple(map(chr, range(256)))


def _to_bytes(text: str) -> str:
    """The UTF-8 bytes of a text, each as the character of the same number; half a character becomes '?'."""
    return text.encode("utf-8", "replace").decode("latin-1")


def from_bytes(symbols: str) -> str:
    """The text of UTF-8 bytes, each the character of the same number; half a character becomes U+FFFD."""
    return symbols.encode("latin-1").decode("utf-8", "replace")


def _begun(symbols: str) -> bytes:
    """The bytes of a last character that wants further ones."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(symbols[-3:].encode("latin-1"))
    return decoder.getstate()[0]


def whole_characters(symbols: str) -> int:
    """How many of these bytes are whole characters."""
    return len(symbols) - len(_begun(symbols))


def _span(first: int, last: int) -> frozenset[str]:
    return frozenset(_BYTES[first : last + 1])


_FIRST = _span(0x00, 0x7F) | _span(0xC2, 0xF4)
_FURTHER = _span(0x80, 0xBF)
# Neither what a shorter form writes, nor surrogates, nor what lies beyond the last code point.
_SECOND = {
    b"\xe0": _span(0xA0, 0xBF),
    b"\xed": _span(0x80, 0x9F),
    b"\xf0": _span(0x90, 0xBF),
    b"\xf4": _span(0x80, 0x8F),
}


def _next_bytes(symbols: str) -> frozenset[str]:
    begun = _begun(symbols)
    return _SECOND.get(begun, _FURTHER) if begun else _FIRST


_SYLLABLE = re.compile("[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?")
_OPEN_SYLLABLE = re.compile("[\u1100-\u1112][\u1161-\u1175]?\\Z")


@cache
def _jamo() -> dict[int, str]:
    return {number: normalize("NFD", chr(number)) for number in range(0xAC00, 0xD7A4)}


def _to_jamo(text: str) -> str:
    return text.translate(_jamo())


def _from_jamo(symbols: str) -> str:
    return _SYLLABLE.sub(lambda syllable: normalize("NFC", syllable.group()), symbols)


def _whole_syllables(symbols: str) -> int:
    """Without a last syllable that a vowel or a final consonant could still change."""
    still_open = _OPEN_SYLLABLE.search(symbols, max(0, len(symbols) - 2))
    return still_open.start() if still_open else len(symbols)


@cache
def _words() -> re.Pattern[str]:
    """Words, marks and white space; one space before a word or a mark belongs to it."""
    # Vowel signs and accents, which for `re` are no part of a word.
    accents = "".join(chr(number) for number in range(0x300, 0x10000) if category(chr(number))[0] == "M")
    word = rf"[\w{accents}]+"
    return re.compile(rf" ?(?:<\w+>|{word}(?:['’-]{word})*|[^\w\s][{accents}]*)|\s")


def _to_words(text: str) -> list[str]:
    return _words().findall(text)


UNITS: Mapping[str, Unit] = {
    kind.name: kind
    for kind in (
        Unit("characters", "Each character is a symbol.", _same, _same, len),
        Unit(
            "bytes",
            "Each byte of the UTF-8 text is a symbol: 256 for every language, and none is ever unknown.",
            _to_bytes,
            from_bytes,
            whole_characters,
            _BYTES,
            _next_bytes,
        ),
        Unit(
            "jamo",
            "Each letter of a Korean syllable is a symbol, and each other character.",
            _to_jamo,
            _from_jamo,
            _whole_syllables,
        ),
        Unit("words", "Each word, mark and line break is a symbol.", _to_words, _same, len),
    )
}
