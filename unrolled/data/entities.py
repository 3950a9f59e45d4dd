"""Entities as tags of tokens, BIO or BIOES: checked, mended, turned into one another, and read.

In BIO an entity begins with B-TYPE and goes on with I-TYPE; in BIOES it ends with E-TYPE besides, and one of a single
token is S-TYPE. O is no entity. BIO is what is called IOB2 too (Tjong Kim Sang & Veenstra 1999); BIOES: Ratinov & Roth
2009.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from unrolled.errors import UsageError

OUTSIDE = "O"
SCHEMES = {"BIO": "BI", "BIOES": "BIES"}


class Entity(NamedTuple):
    """The tokens from `start` to before `stop`, and what they are."""

    start: int
    stop: int
    kind: str


def scheme_of(tags: Iterable[str]) -> str:
    """BIO or BIOES, from all tags that there are; "" where they are no tags of entities."""
    found = set(tags) - {OUTSIDE}
    letters = {tag[0] for tag in found if len(tag) > 2 and tag[1] == "-"}
    if not found or not all(len(tag) > 2 and tag[1] == "-" for tag in found) or not letters <= set("BIES"):
        return ""
    return "BIOES" if letters & set("ES") else "BIO"


def entities(tags: Sequence[str], scheme: str) -> list[Entity]:
    """The entities of a sentence. One that goes on without having begun, or as another kind, begins there.

    Raises   UsageError for a tag that the scheme does not have
    """
    found: list[Entity] = []
    begun: Entity | None = None
    for place, tag in enumerate(tags):
        letter, kind = _parts(tag, scheme)
        goes_on = begun is not None and letter in "IE" and kind == begun.kind
        if begun is not None and not goes_on:
            found.append(begun)
            begun = None
        if letter == OUTSIDE:
            continue
        begun = Entity(begun.start if begun is not None else place, place + 1, kind)
        if letter in "ES":
            found.append(begun)
            begun = None
    return found if begun is None else [*found, begun]


def tags_of(found: Iterable[Entity], length: int, scheme: str) -> list[str]:
    """The tags of so many tokens with these entities."""
    tags = [OUTSIDE] * length
    for start, stop, kind in found:
        tags[start:stop] = [f"I-{kind}"] * (stop - start)
        tags[start] = f"B-{kind}"
        if scheme == "BIOES":
            tags[stop - 1] = f"E-{kind}" if stop - start > 1 else f"S-{kind}"
    return tags


def converted(tags: Sequence[str], scheme: str, wanted: str) -> list[str]:
    """The same entities in another scheme; in the same one, with what does not fit mended.

    Raises   UsageError for a tag that the scheme does not have
    """
    return tags_of(entities(tags, scheme), len(tags), wanted)


def misfits(tags: Sequence[str], scheme: str) -> list[int]:
    """Where a tag does not fit the one before it, or, at the end, asks for one that does not come."""
    around = [OUTSIDE, *tags, OUTSIDE]
    pairs = itertools.pairwise(around)
    found = [min(place, len(tags) - 1) for place, pair in enumerate(pairs) if not may_follow(*pair, scheme)]
    return list(dict.fromkeys(found))


def may_follow(tag: str, following: str, scheme: str) -> bool:
    """Whether a tag may stand after another; before the first token, and after the last, stands an O.

    Raises   UsageError for a tag that the scheme does not have
    """
    (letter, kind), (next_letter, next_kind) = _parts(tag, scheme), _parts(following, scheme)
    may_go_on = letter in "BI"
    goes_on = next_letter in "IE"
    if scheme == "BIOES":
        # What has begun must go on to its end.
        return may_go_on == goes_on and (not goes_on or kind == next_kind)
    return not goes_on or (may_go_on and kind == next_kind)


def _parts(tag: str, scheme: str) -> tuple[str, str]:
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, dash, kind = tag[:1], tag[1:2], tag[2:]
    if dash != "-" or not kind or letter not in SCHEMES[scheme]:
        raise UsageError(
            f"{tag!r} is no tag of {scheme}: these are O and {', '.join(f'{x}-…' for x in SCHEMES[scheme])}"
        )
    return letter, kind
