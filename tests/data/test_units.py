from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data.units import UNITS, Unit, unit
from unrolled.errors import UsageError

# What tends to go wrong: Korean, jamo that compose, accents, emoji of several code points, white space, marks.
HARD = "각가ᄀ\u1161\u11a8ㅋe\u0301é\u0301क्ष👨‍👩‍👧❤️🇰🇷 \n\t\u00a0'’-<>_a1.,\ufffd\x00"
TEXTS = st.text(st.one_of(st.sampled_from(HARD), st.characters(codec="utf-8"))).map(lambda text: normalize("NFC", text))
ALL = pytest.mark.parametrize("kind", UNITS.values(), ids=UNITS)


def side_by_side(kind: Unit, text: str) -> str:
    return "".join(kind.split(text))


@ALL
@settings(deadline=None)
@given(text=TEXTS)
def test_a_text_comes_back_from_its_symbols(kind: Unit, text: str) -> None:
    assert kind.join(side_by_side(kind, text)) == text


@ALL
@settings(deadline=None)
@given(text=TEXTS)
def test_what_is_settled_stays_whatever_follows(kind: Unit, text: str) -> None:
    symbols = side_by_side(kind, text)
    shown = kind.join(symbols)
    for count in range(len(symbols) + 1):
        settled = kind.settled(symbols[:count])
        assert settled <= count
        assert shown.startswith(kind.join(symbols[:settled]))
        assert kind.settled(symbols[:settled]) == settled


@ALL
def test_a_whole_text_in_latin_letters_is_settled(kind: Unit) -> None:
    assert kind.settled(side_by_side(kind, "It was.")) == 7
    assert kind.settled("") == 0


def test_a_name_that_is_no_unit_is_said_with_the_nearest() -> None:
    assert unit("jamo").name == "jamo"
    with pytest.raises(UsageError, match=r"there is no unit 'word'\. Did you mean words\?"):
        unit("word")


def test_half_a_character_is_never_given_out() -> None:
    kind = UNITS["bytes"]
    symbols = side_by_side(kind, "a한🐍")
    assert [kind.settled(symbols[:count]) for count in range(9)] == [0, 1, 1, 1, 4, 4, 4, 4, 8]


def test_bytes_that_make_no_character_are_shown_as_the_unknown_one_and_hold_nothing_back() -> None:
    kind = UNITS["bytes"]
    assert kind.join("a\xffb\xe0\x80") == "a\ufffdb\ufffd\ufffd"
    assert kind.settled("a\xff") == 2
    assert kind.settled("\xe0\x80") == 2


def test_the_bytes_that_may_follow_are_those_of_all_characters_that_there_are() -> None:
    may_follow = UNITS["bytes"].may_follow
    assert may_follow is not None
    following: dict[bytes, set[int]] = {}
    for number in range(0x110000):
        if not 0xD800 <= number < 0xE000:
            character = chr(number).encode()
            for count, byte in enumerate(character):
                following.setdefault(character[:count], set()).add(byte)
    for begun, expected in following.items():
        found = may_follow("\xed\x95\x9c" + begun.decode("latin-1"))
        assert {byte for byte in range(256) if chr(byte) in found} == expected, begun


@given(text=TEXTS)
def test_each_byte_of_a_text_may_follow_those_before_it(text: str) -> None:
    kind = UNITS["bytes"]
    assert kind.may_follow is not None
    symbols = side_by_side(kind, text)
    assert all(symbols[at] in kind.may_follow(symbols[:at]) for at in range(len(symbols)))


def test_only_hangul_is_taken_apart_into_jamo() -> None:
    kind = UNITS["jamo"]
    assert list(kind.split("각é가1")) == ["ᄀ", "ᅡ", "ᆨ", "é", "ᄀ", "ᅡ", "1"]


def test_every_syllable_comes_back_from_its_jamo() -> None:
    kind = UNITS["jamo"]
    syllables = "".join(map(chr, range(0xAC00, 0xD7A4)))
    assert kind.join(side_by_side(kind, syllables)) == syllables


@pytest.mark.parametrize(
    ("symbols", "settled"),
    [
        ("ᄀ", 0),
        ("가", 0),
        ("각", 3),
        ("가ᄀ", 2),
        ("가나", 2),
        ("가 ", 3),
        ("ᅡ", 1),
        ("ᄀᄀ", 1),
        ("ᄀ가", 1),
        ("각ᆨ", 4),
    ],
)
def test_a_syllable_is_held_back_while_it_can_change(symbols: str, settled: int) -> None:
    assert UNITS["jamo"].settled(normalize("NFD", symbols)) == settled


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It was, so", ["It", " was", ",", " so"]),
        ("one\ntwo", ["one", "\n", "two"]),
        ("  two  spaces ", [" ", " two", " ", " spaces", " "]),
        ("don't well-known it’s 'tis", ["don't", " well-known", " it’s", " '", "tis"]),
        ("a <unk> <b c>", ["a", " <unk>", " <", "b", " c", ">"]),
        ("오늘은 날씨가 좋다.", ["오늘은", " 날씨가", " 좋다", "."]),
        ("हिन्दी भाषा", ["हिन्दी", " भाषा"]),
        ("I ❤️ it", ["I", " ❤️", " it"]),
        ("\t a\r\n", ["\t", " a", "\r", "\n"]),
        ("", []),
    ],
)
def test_a_word_has_the_space_before_it_and_a_line_break_stands_alone(text: str, words: list[str]) -> None:
    assert list(UNITS["words"].split(text)) == words
