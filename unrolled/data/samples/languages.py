"""Names in many languages, from the Unicode Common Locale Data Repository (CLDR) that babel brings.

The names are those of territories, languages, scripts, currencies, units, time zones, months, weekdays and quarters.
What two languages write the same, but for capitals, belongs to none of them and is left out: that is most of what
nobody has translated, too, as it is English still. Left out are names with digits, brackets or slashes, such as those
of former currencies; languages with fewer than `FEWEST` names, and those without a name in English. Of a language that
has more than `MOST`, so many are taken by chance.

A language is one without a script or a country of its own choice: Serbian as it is written by default, in Cyrillic.
What it shares with the one it is derived from in the CLDR, as Nynorsk from Norwegian, counts as that one's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from unrolled.data.samples.chance import order
from unrolled.errors import MissingExtraError

if TYPE_CHECKING:
    from babel import Locale

FEWEST, MOST = 50, 300
# Attributes of a locale.
KINDS = (
    "territories", "languages", "scripts", "currencies", "unit_display_names", "meta_zones", "months", "days",
    "quarters",
)  # fmt: skip
_ABBREVIATED = {"abbreviated", "narrow", "short"}
_NO_NAME = re.compile(r"[\d()\[\]{}（）/]")
_LETTER = re.compile(r"[^\W\d_]")
_DIRECTION_MARKS = str.maketrans("", "", "\u200e\u200f")


def names() -> Iterator[tuple[str, str]]:
    """The names, and the language of each, in English.

    Raises   MissingExtraError without babel
    """
    try:
        from babel import Locale
        from babel.core import get_global
        from babel.localedata import locale_identifiers
    except ImportError:
        raise MissingExtraError("the names are those of babel: pip install 'unrolled[samples]'") from None
    parents = get_global("parent_exceptions")
    # Language -> its names by what they are in lower case.
    found: dict[str, dict[str, str]] = {}
    languages_of: dict[str, int] = defaultdict(int)
    for code in sorted(code for code in locale_identifiers() if "_" not in code):
        own = _names(Locale.parse(code))
        if code in parents:
            own = dict(own.items() - _names(Locale.parse(parents[code])).items())
        shown = sorted(filter(None, map(_shown, own.values())))
        found[code] = {name.casefold(): name for name in shown}
        for key in found[code]:
            languages_of[key] += 1
    english = Locale.parse("en").languages
    for code, by_key in found.items():
        alone = [name for key, name in by_key.items() if languages_of[key] == 1]
        if len(alone) >= FEWEST and code in english:
            yield from ((name, english[code]) for name in sorted(alone, key=order)[:MOST])


def _names(locale: Locale) -> dict[tuple[Any, ...], str]:
    """What a locale calls each thing, where that is not the thing's own code."""
    return {
        place: name for kind in KINDS for place, name in _leaves(getattr(locale, kind), (kind,)) if name != place[-1]
    }


def _leaves(names: Mapping[Any, Any], place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    for key in names:
        below = names[key]
        if isinstance(below, str):
            yield (*place, key), below
        elif key not in _ABBREVIATED:
            yield from _leaves(below, (*place, key))


def _shown(name: str) -> str:
    """The name on one line, in Unicode form NFC; "" if it has a digit, a bracket or a slash in it, or no letter."""
    if _NO_NAME.search(name) or not _LETTER.search(name):
        return ""
    return " ".join(normalize("NFC", name.translate(_DIRECTION_MARKS)).split())
