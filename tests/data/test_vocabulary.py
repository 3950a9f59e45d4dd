from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data.units import UNITS, Unit
from unrolled.data.vocabulary import UNKNOWN, Vocabulary
from unrolled.errors import UsageError

CHARACTERS, BYTES, JAMO, WORDS = (UNITS[name] for name in ("characters", "bytes", "jamo", "words"))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters=UNKNOWN)).map(lambda text: normalize("NFC", text))
ALL = pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)


@ALL
@pytest.mark.parametrize("end", [False, True])
@settings(deadline=None)
@given(text=TEXTS)
def test_a_text_comes_back_from_its_numbers(unit: Unit, end: bool, text: str) -> None:
    vocabulary = Vocabulary.of(unit, [text], end)
    numbers = vocabulary.encode(text)
    assert vocabulary.decode(numbers) == text
    assert "".join(map(vocabulary.raw, numbers)) == "".join(unit.split(text))
    assert [vocabulary.raw(number) for number in numbers] == list(unit.split(text))
    assert not vocabulary.missing(text)
    assert {vocabulary.unknown, vocabulary.end}.isdisjoint(numbers.tolist())
    assert numbers.dtype == vocabulary.dtype


@ALL
@settings(deadline=None)
@given(known=TEXTS, text=TEXTS)
def test_a_symbol_that_it_lacks_reads_as_the_unknown_one(unit: Unit, known: str, text: str) -> None:
    vocabulary = Vocabulary.of(unit, [known])
    symbols = unit.split(text)
    missing = vocabulary.missing(text)
    assert missing == [symbol for symbol in dict.fromkeys(symbols) if symbol not in vocabulary.symbols]
    shown = unit.join("".join(UNKNOWN if symbol in missing else symbol for symbol in symbols))
    assert vocabulary.decode(vocabulary.encode(text)) == shown


def test_symbols_are_in_the_order_of_their_frequency_then_of_their_own() -> None:
    vocabulary = Vocabulary.of(CHARACTERS, ["banana", "cab"])
    assert vocabulary.symbols == ["a", "b", "n", "c"]
    assert (vocabulary.unknown, vocabulary.end, len(vocabulary)) == (0, None, 5)
    assert vocabulary.encode("cab!").tolist() == [4, 1, 2, 0]


def test_rare_symbols_are_left_out() -> None:
    vocabulary = Vocabulary.of(WORDS, ["so so it", " so it was"], min_count=2)
    assert vocabulary.symbols == [" it", " so"]
    assert vocabulary.missing("so it was so") == ["so", " was"]


def test_texts_are_counted_one_by_one() -> None:
    alive = 0

    class Text(str):
        def __init__(self, _: str):
            nonlocal alive
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def texts() -> Iterator[str]:
        for _ in range(10):
            assert alive <= 2
            yield Text("a text")

    assert len(Vocabulary.of(CHARACTERS, texts())) == 6


def test_the_end_stands_after_the_unknown_one_and_no_text_encodes_to_it() -> None:
    vocabulary = Vocabulary(CHARACTERS, "ab", end=True)
    assert (vocabulary.unknown, vocabulary.end, len(vocabulary)) == (0, 1, 4)
    assert vocabulary.encode("ab\n").tolist() == [2, 3, 0]
    assert vocabulary.encode("a\nb", newline=vocabulary.end).tolist() == [2, 1, 3]
    assert vocabulary.decode([2, 1, 0, 3]) == f"a{UNKNOWN}b"
    words = Vocabulary(WORDS, ["a", "\n", " b"], end=True)
    assert words.encode("a\n b\n", newline=1).tolist() == [2, 1, 4, 1]


def test_bytes_are_all_there_whatever_occurs() -> None:
    vocabulary = Vocabulary.of(BYTES, ["한"], end=True)
    assert (vocabulary.unknown, vocabulary.end, len(vocabulary), vocabulary.dtype) == (None, 0, 257, np.uint16)
    assert vocabulary.encode("é").tolist() == [1 + 0xC3, 1 + 0xA9]
    assert Vocabulary.of(BYTES, []).dtype == np.uint8
    assert Vocabulary.of(BYTES, []).decode(b"\xed\x95\x9c!") == "한!"


def test_a_text_with_the_character_for_unknown_ones_has_no_symbol_of_it() -> None:
    vocabulary = Vocabulary.of(CHARACTERS, [f"a{UNKNOWN}"])
    assert vocabulary.symbols == ["a"]
    assert vocabulary.encode(f"a{UNKNOWN}").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("symbols", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, np.uint32)]
)
def test_numbers_are_of_the_smallest_type(symbols: int, dtype: type) -> None:
    vocabulary = Vocabulary(CHARACTERS, map(chr, range(0x10000, 0x10000 + symbols)))
    assert vocabulary.encode("a").dtype == dtype
    assert vocabulary.encode("").shape == (0,)
    if symbols:
        assert vocabulary.encode(chr(0x10000 + symbols - 1)).tolist() == [symbols]


def test_half_a_character_in_a_prompt_is_unknown_and_no_error() -> None:
    assert Vocabulary(CHARACTERS, "a").encode("a\ud800").tolist() == [1, 0]
    assert Vocabulary.of(BYTES, []).decode(Vocabulary.of(BYTES, []).encode("a\ud800")) == "a?"


@pytest.mark.parametrize(
    ("unit", "symbols", "names"),
    [
        (CHARACTERS, "a\n한", ["<unknown>", "<end>", "'a'", r"'\n'", "'한'"]),
        (WORDS, [" was"], ["<unknown>", "<end>", "' was'"]),
        (JAMO, "ᄀ", ["<unknown>", "<end>", "'ᄀ'"]),
    ],
)
def test_a_table_names_symbols_as_they_are_read(unit: Unit, symbols: Any, names: list[str]) -> None:
    vocabulary = Vocabulary(unit, symbols, end=True)
    assert [vocabulary.name(number) for number in range(len(vocabulary))] == names


def test_a_table_names_bytes_that_cannot_be_shown_by_their_value() -> None:
    vocabulary = Vocabulary.of(BYTES, [])
    assert [vocabulary.name(number) for number in (0x41, 0x0A, 0xEC, 0x20)] == ["'A'", "0x0a", "0xec", "' '"]


def test_a_vocabulary_is_extended_by_what_it_lacks_and_keeps_its_numbers() -> None:
    one, other = Vocabulary(CHARACTERS, "ab", end=True), Vocabulary(CHARACTERS, "bca")
    both = one.extended(other)
    assert both.symbols == ["a", "b", "c"]
    assert both.end == 1
    assert one.symbols == ["a", "b"]
    with pytest.raises(UsageError, match="of characters cannot be extended by one of words"):
        one.extended(Vocabulary(WORDS, []))


@ALL
@pytest.mark.parametrize("end", [False, True])
@settings(deadline=None)
@given(text=TEXTS)
def test_a_vocabulary_comes_back_from_json(unit: Unit, end: bool, text: str) -> None:
    vocabulary = Vocabulary.of(unit, [text], end)
    read = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert (read.unit, read.symbols, read.end) == (unit, vocabulary.symbols, vocabulary.end)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ([], "must have the keys"),
        ({"more": 1}, "must have the keys"),
        ({"unit": "word"}, "there is no unit 'word'. Did you mean words"),
        ({"unit": 3}, "there is no unit 3"),
        ({"unit": ["words"]}, "there is no unit"),
        ({"end": 1}, "end must be true or false, not 1"),
        ({"symbols": "ab"}, "must be a list of texts"),
        ({"symbols": ["a", 1]}, "must be a list of texts"),
        ({"symbols": ["a", "b", "a"]}, "'a' stands in it twice"),
        ({"symbols": [""]}, "'' is not one symbol"),
        ({"symbols": ["ab"]}, "'ab' is not one symbol of the unit characters"),
        ({"symbols": [UNKNOWN]}, "stands for what is unknown"),
        ({"symbols": ["\ud800"]}, "half a character"),
        ({"unit": "jamo", "symbols": ["가"]}, "is not one symbol of the unit jamo"),
        ({"unit": "words", "symbols": ["two words"]}, "is not one symbol of the unit words"),
        ({"unit": "bytes", "symbols": ["a"]}, "the symbols of bytes are all 256"),
    ],
)
def test_json_that_is_no_vocabulary_is_refused_with_the_reason(changed: Any, reason: str) -> None:
    value = {"unit": "characters", "end": False, "symbols": ["a"]}
    with pytest.raises(ValueError, match=reason):
        Vocabulary.from_json({**value, **changed} if isinstance(changed, dict) else changed)
    with pytest.raises(ValueError, match="must have the keys"):
        Vocabulary.from_json({"unit": "characters", "symbols": []})
