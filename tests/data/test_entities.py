"""Entities and their tags are two forms of one thing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data.entities import SCHEMES, Entity, converted, entities, may_follow, misfits, scheme_of, tags_of
from unrolled.data.rows import Row, rows_of
from unrolled.errors import UsageError


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Entity], int]:
    """Entities that do not overlap, and the number of tokens."""
    length = draw(st.integers(0, 8))
    found, place = [], 0
    while place < length:
        stop = draw(st.integers(place + 1, length))
        if draw(st.booleans()):
            found.append(Entity(place, stop, draw(st.sampled_from(["PER", "a-b"]))))
        place = stop
    return found, length


@given(sentences(), st.sampled_from(list(SCHEMES)), st.sampled_from(list(SCHEMES)))
@settings(deadline=None)
def test_tags_of_entities_are_read_as_these_and_convert_both_ways(
    sentence: tuple[list[Entity], int], scheme: str, other: str
) -> None:
    found, length = sentence
    tags = tags_of(found, length, scheme)
    assert entities(tags, scheme) == found
    assert misfits(tags, scheme) == []
    assert converted(converted(tags, scheme, other), other, scheme) == tags


@given(st.lists(st.sampled_from(["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in "xy")]), max_size=6))
@settings(deadline=None)
def test_what_fits_is_what_mending_leaves_as_it_is(tags: list[str]) -> None:
    for scheme, letters in SCHEMES.items():
        if all(tag == "O" or tag[0] in letters for tag in tags):
            assert (misfits(tags, scheme) == []) == (converted(tags, scheme, scheme) == tags)
            assert misfits(converted(tags, scheme, scheme), scheme) == []


@pytest.mark.parametrize(
    ("scheme", "tags", "found", "wrong"),
    [
        ("BIO", "O B-x I-x O", [(1, 3, "x")], []),
        ("BIO", "I-x I-x B-x", [(0, 2, "x"), (2, 3, "x")], [0]),
        ("BIO", "B-x I-y", [(0, 1, "x"), (1, 2, "y")], [1]),
        ("BIOES", "S-x B-x I-x E-x", [(0, 1, "x"), (1, 4, "x")], []),
        ("BIOES", "B-x O E-x", [(0, 1, "x"), (2, 3, "x")], [1, 2]),
        ("BIOES", "B-x", [(0, 1, "x")], [0]),
    ],
)
def test_what_does_not_fit_begins_anew_and_is_pointed_at(
    scheme: str, tags: str, found: list[tuple[int, int, str]], wrong: list[int]
) -> None:
    assert entities(tags.split(), scheme) == found
    assert misfits(tags.split(), scheme) == wrong


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("O B-x I-x", "BIO"), ("O S-x", "BIOES"), ("B-x E-x", "BIOES"), ("O", ""), ("", ""), ("NOUN VERB O", ""),
        ("B-x NOUN", ""), ("X-y", ""), ("B-", ""),
    ],
)  # fmt: skip
def test_the_scheme_is_known_from_the_tags(tags: str, scheme: str) -> None:
    assert scheme_of(tags.split()) == scheme


def test_a_tag_that_a_scheme_does_not_have_is_said() -> None:
    with pytest.raises(UsageError, match=r"'S-x' is no tag of BIO: these are O and B-…, I-…$"):
        entities(["O", "S-x"], "BIO")
    with pytest.raises(UsageError, match="'NOUN' is no tag of BIOES"):
        may_follow("O", "NOUN", "BIOES")


def test_entities_of_real_posts_are_read_and_none_is_lost(data: object) -> None:
    path = f"{data}/wnut17/wnut17train.conll"
    sentences = [row.values["2"] for row in rows_of(path, "utf-8").rows() if isinstance(row, Row)]
    scheme = scheme_of(tag for tags in sentences for tag in tags)
    assert scheme == "BIO"
    assert sum(len(entities(tags, scheme)) for tags in sentences) == 1975
    assert all(converted(converted(tags, "BIO", "BIOES"), "BIOES", "BIO") == tags for tags in sentences)
