"""How a text that is labelled is taken apart: into words, characters, subwords, morphemes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from unrolled.data.subwords import SUBWORDS
from unrolled.data.units import UNITS, Unit
from unrolled.errors import MissingExtraError, UsageError, did_you_mean

Splitter = Callable[[str], list[str]]
MORPHEMES = "morphemes"
# Units whose parts are words, which are spelled in their turn.
SPELLED = ("words", MORPHEMES)
KINDS = (*UNITS, *SUBWORDS, MORPHEMES)


def splitter(kind: str, learned: Unit | None = None) -> Splitter:
    """What takes a text apart; white space is no part of it, but where the parts are characters.

    kind      a unit of the language model, or morphemes, those of Korean
    learned   the unit, where it is learned from texts

    Raises   UsageError for a unit that there is not; MissingExtraError without the library that it needs
    """
    if kind == MORPHEMES:
        return _morphemes
    if kind == "words":
        return _words
    if kind not in KINDS:
        raise UsageError(f"there is no unit {kind!r}.{did_you_mean(kind, KINDS)}")
    if kind in SUBWORDS:
        assert learned is not None
        return _parts_of(learned)
    return _parts_of(UNITS[kind])


def _parts_of(unit: Unit) -> Splitter:
    def split(text: str) -> list[str]:
        return list(unit.split(text))

    return split


def _words(text: str) -> list[str]:
    return [word.strip() for word in UNITS["words"].split(text) if not word.isspace()]


def _morphemes(text: str) -> list[str]:
    found: Sequence[Any] = _kiwi().tokenize(text)
    return [token.form for token in found]


@cache
def _kiwi() -> Any:
    try:
        from kiwipiepy import Kiwi
    except ImportError:
        raise MissingExtraError(
            "morphemes of Korean are found by kiwipiepy: pip install 'unrolled[morphemes]'"
        ) from None
    return Kiwi(num_workers=1)
