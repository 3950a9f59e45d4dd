from __future__ import annotations

import itertools
import unicodedata
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tasks.chains import TEXTS, Chain, chain, random_chain, vocabulary_of
from unrolled.data.units import UNITS
from unrolled.data.vocabulary import UNKNOWN, Vocabulary
from unrolled.errors import UsageError
from unrolled.models.one_to_many import LanguageModel
from unrolled.models.sampling import Sampler
from unrolled.tasks.language_model.writing import write

EACH_UNIT = pytest.mark.parametrize("unit", UNITS)
WITH_AND_WITHOUT_END = pytest.mark.parametrize("end", [False, True], ids=["endless", "with-end"])
PROMPTS = {
    "characters": ["", "t", "the ", "the cat\n"],
    "bytes": ["", "caf", "café", "한", "🙂", "never seen: Żółć"],
    "jamo": ["", "한글", "닭", "값이", "ㄱ", "한그", "ok "],
    "words": ["", "the", "the cat", "the cat sat on the mat,"],
}


def texts_of(*args: Any, **options: Any) -> list[str]:
    *_, texts = write(*args, **options)
    return [text.shown for text in texts]


def assert_whole_characters(text: str) -> None:
    assert UNKNOWN not in text
    assert text.encode().decode() == text


@WITH_AND_WITHOUT_END
@pytest.mark.parametrize("unit", ["characters", "jamo", "words"])
def test_the_unknown_symbol_is_drawn_only_where_it_is_allowed(unit: str, end: bool) -> None:
    vocabulary = vocabulary_of(unit, end)
    model = random_chain(vocabulary, 0)
    model.table[:, vocabulary.unknown] = 100.0
    for temperature in (0.0, 1.0):
        options: dict[str, Any] = {"length": 40, "rows": 3, "sampler": Sampler(temperature)}
        assert not any(UNKNOWN in text for text in texts_of(model, vocabulary, **options))
        assert texts_of(model, vocabulary, **options, allow_unknown=True) == [UNKNOWN * 40] * 3


@EACH_UNIT
def test_a_text_ends_with_the_end_which_is_not_shown(unit: str) -> None:
    vocabulary = vocabulary_of(unit, end=True)
    first, second, third = vocabulary.symbols[:3] if unit != "bytes" else "abc"
    model = chain(vocabulary, {"": first, first: second, second: third, third: ""})
    assert texts_of(model, vocabulary, length=50) == ["".join((first, second, third))]
    assert texts_of(model, vocabulary, length=2) == ["".join((first, second))]
    *_, (text,) = write(model, vocabulary, length=50)
    assert text.ended
    *_, (text,) = write(model, vocabulary, length=3)
    assert not text.ended


def test_texts_side_by_side_end_each_at_its_own_length_and_stay_as_they_are() -> None:
    vocabulary = vocabulary_of("characters", end=True)
    model = random_chain(vocabulary, 1)
    model.table[:, vocabulary.end] = 1.0
    final: dict[int, str] = {}
    for texts in write(model, vocabulary, "the ", rows=12, length=60):
        for row, text in enumerate(texts):
            if text.ended:
                assert final.setdefault(row, text.shown) == text.shown
    lengths = {row: len(text) - len("the ") for row, text in final.items()}
    assert len(final) == 12
    assert len(set(lengths.values())) > 4
    assert max(lengths.values()) <= 60


def test_writing_stops_when_the_last_text_has_ended() -> None:
    vocabulary = vocabulary_of("characters", end=True)
    model = chain(vocabulary, {"": "t", "t": "h", "h": ""})
    # The prompt, three symbols, and what is held back.
    assert len(list(write(model, vocabulary, rows=2, length=10**9))) == 5


def test_texts_side_by_side_differ_and_depend_on_the_seed_alone() -> None:
    vocabulary = vocabulary_of("characters")
    model = random_chain(vocabulary, 2)
    found = texts_of(model, vocabulary, "the ", rows=4, length=30)
    assert len(set(found)) == 4
    torch.manual_seed(7)
    assert texts_of(model, vocabulary, "the ", rows=4, length=30) == found
    assert texts_of(model, vocabulary, "the ", rows=4, length=30, seed=1) != found


@WITH_AND_WITHOUT_END
@pytest.mark.parametrize("seed", range(12))
def test_bytes_never_give_half_a_character(seed: int, end: bool) -> None:
    vocabulary = vocabulary_of("bytes", end)
    model = random_chain(vocabulary, seed, scale=float(1 + seed % 4))
    for length in (0, 1, 2, 3, 37):
        for text in texts_of(model, vocabulary, "né", rows=3, length=length, seed=seed):
            assert_whole_characters(text)
            written = text.removeprefix("né")
            # What exceeds the length does so to finish the last character.
            assert len(written[:-1].encode()) < max(1, length)
            assert end or len(written.encode()) >= length


# What no text begins a character with, and what is half of something.
@pytest.mark.parametrize(
    "wanted", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\x80", b"\xf0"]
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_bytes_make_characters_though_the_scores_want_what_is_none(wanted: bytes, temperature: float) -> None:
    vocabulary = vocabulary_of("bytes", end=True)

    class Stubborn(Chain):
        """Likes the wanted bytes best, and the end after each of them."""

        def forward(self, x: Tensor, state: Any = None, resets: Tensor | None = None) -> tuple[Tensor, Any]:
            scores = torch.zeros(*x.shape, len(vocabulary))
            for rank, byte in enumerate(wanted):
                scores[..., byte + 1] = 200.0 + rank
            scores[..., vocabulary.end] = 150.0 * (x > 0x80)
            return scores, None

    model = Stubborn(torch.zeros(len(vocabulary), 1))
    for seed in range(5):
        for text in texts_of(model, vocabulary, length=30, seed=seed, sampler=Sampler(temperature)):
            assert_whole_characters(text)


def test_bytes_of_a_network_with_random_weights_decode() -> None:
    vocabulary = vocabulary_of("bytes", end=True)
    for seed in range(5):
        torch.manual_seed(seed)
        model = LanguageModel("gru", len(vocabulary), 8)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(8.0)
        for text in texts_of(model, vocabulary, rows=4, length=40, seed=seed, sampler=Sampler(top_p=0.9, top_k=50)):
            assert_whole_characters(text)


def test_every_byte_that_can_stand_next_can_be_drawn() -> None:
    vocabulary = vocabulary_of("bytes")
    model = Chain(torch.zeros(256, 256))
    written = "".join(texts_of(model, vocabulary, rows=40, length=400)).encode()
    # All but what no UTF-8 text holds.
    assert set(written) == set(range(256)) - {0xC0, 0xC1} - set(range(0xF5, 0x100))


def test_jamo_are_put_together_to_syllables() -> None:
    vocabulary = vocabulary_of("jamo", end=True)
    letters = unicodedata.normalize("NFD", "한글")
    model = chain(vocabulary, dict(itertools.pairwise(["", *letters])))
    assert texts_of(model, vocabulary, length=6) == ["한글"]
    assert texts_of(model, vocabulary, length=5) == ["한그"]
    assert texts_of(model, vocabulary, length=4) == ["한\u1100"]
    # Six symbols are drawn; the prompt's last syllable is gone on with.
    assert texts_of(model, vocabulary, "하", length=1) == ["한"]
    assert texts_of(model, vocabulary, "한그", length=1) == ["한글"]


@pytest.mark.parametrize("seed", range(10))
def test_jamo_in_any_order_give_a_text_in_form_nfc(seed: int) -> None:
    vocabulary = vocabulary_of("jamo")
    for text in texts_of(random_chain(vocabulary, seed), vocabulary, rows=3, length=60, seed=seed):
        assert unicodedata.normalize("NFC", text) == text
        assert len(UNITS["jamo"].split(text)) == 60


@EACH_UNIT
@WITH_AND_WITHOUT_END
@pytest.mark.parametrize("seed", range(4))
def test_what_was_shown_is_never_taken_back(unit: str, end: bool, seed: int) -> None:
    vocabulary = vocabulary_of(unit, end)
    for prompt in PROMPTS[unit]:
        before = [""] * 3
        options: dict[str, Any] = {"rows": 3, "length": 25, "seed": seed, "allow_unknown": True}
        for texts in write(random_chain(vocabulary, seed), vocabulary, prompt, **options):
            for text, earlier in zip(texts, before, strict=True):
                assert text.shown.startswith(earlier)
            before = [text.shown for text in texts]


@EACH_UNIT
@WITH_AND_WITHOUT_END
@pytest.mark.parametrize("length", [0, 1, 9])
def test_the_prompt_is_the_beginning_of_the_text(unit: str, end: bool, length: int) -> None:
    vocabulary = vocabulary_of(unit, end)
    split = UNITS[unit].split
    for prompt in PROMPTS[unit]:
        (text,) = texts_of(random_chain(vocabulary, 5), vocabulary, prompt, length=length, allow_unknown=True)
        # Words that follow without a space, and jamo of a begun syllable, go on with the prompt's last.
        assert "".join(split(text)).startswith("".join(split(prompt)))
        if unit != "jamo":
            assert text.startswith(prompt)
        if length == 0:
            assert text == prompt


def test_a_prompt_is_read_in_form_nfc() -> None:
    vocabulary = vocabulary_of("characters", text="é\n")
    assert texts_of(random_chain(vocabulary, 0), vocabulary, "e\u0301", length=0) == ["é"]


@WITH_AND_WITHOUT_END
@EACH_UNIT
def test_an_empty_prompt_begins_as_a_document_does(unit: str, end: bool) -> None:
    vocabulary = vocabulary_of(unit, end)
    first = "x" if unit == "bytes" else vocabulary.symbols[1]
    model = chain(vocabulary, {"" if end else "\n": first})
    assert texts_of(model, vocabulary, length=1) == [first]


def test_a_prompt_goes_on_after_its_last_symbol() -> None:
    vocabulary = vocabulary_of("words", end=True)
    model = chain(vocabulary, {" dog": " sat", " cat": " on", " sat": "."})
    assert texts_of(model, vocabulary, "the dog", length=2) == ["the dog sat."]
    assert texts_of(model, vocabulary, "the cat", length=1) == ["the cat on"]


@pytest.mark.parametrize(
    ("unit", "prompt", "shown"),
    [
        ("characters", "the Zoo", "'Z'"),
        ("characters", "Zebra XYZ", "'Z' 'b' 'r' 'X' 'Y';"),
        ("jamo", "한텔", "'\u1110' '\u1166'"),
        ("words", "the zebra", "' zebra'"),
        ("characters", "ABCDEFGHIJKLMNOP", "'A' 'B' 'C' 'D' 'E' 'F' 'G' 'H' 'I' 'J';"),
    ],
)
def test_a_prompt_with_unknown_symbols_is_refused_by_their_names(unit: str, prompt: str, shown: str) -> None:
    vocabulary = vocabulary_of(unit)
    model = random_chain(vocabulary, 0)
    with pytest.raises(UsageError, match=f"the model was not trained on {shown}") as caught:
        texts_of(model, vocabulary, prompt, length=1)
    assert "allow_unknown" in str(caught.value)
    (text,) = texts_of(model, vocabulary, prompt, length=3, allow_unknown=True)
    assert text.startswith(prompt)


def test_an_unknown_symbol_of_the_prompt_is_read_as_unknown_and_shown_as_it_is() -> None:
    vocabulary = vocabulary_of("characters")
    model = chain(vocabulary, {UNKNOWN: "d", "d": "o"})
    assert texts_of(model, vocabulary, "the Z", length=2, allow_unknown=True) == ["the Zdo"]


def test_where_ends_stand_for_line_breaks_those_of_the_prompt_are_read_as_ends() -> None:
    vocabulary = vocabulary_of("characters", end=True, text="the cat")
    model = chain(vocabulary, {"": "c", "c": "a", "a": "t", "t": ""})
    assert texts_of(model, vocabulary, "the\n", lines=True) == ["the\ncat"]
    assert texts_of(model, vocabulary, "the\nc", lines=True) == ["the\ncat"]
    with pytest.raises(UsageError, match=r"not trained on '\\n'"):
        texts_of(model, vocabulary, "the\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": -1}, "length must be at least 0, not -1"),
        ({"length": 2.5}, "length must be a whole number, not 2.5"),
        ({"rows": 0}, "samples must be above 0, not 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**63}, "seed must be at least 0 and below"),
        ({"seed": 1.5}, "seed must be a whole number"),
    ],
    ids=str,
)
def test_a_number_that_makes_no_sense_is_named(options: dict[str, Any], message: str) -> None:
    vocabulary = vocabulary_of("characters")
    with pytest.raises(UsageError, match=message):
        texts_of(random_chain(vocabulary, 0), vocabulary, **options)


def test_the_largest_seed_is_one() -> None:
    vocabulary: Vocabulary = vocabulary_of("characters")
    assert len(texts_of(random_chain(vocabulary, 0), vocabulary, length=5, seed=2**63 - 1)[0]) == 5
    assert set(TEXTS["characters"]) == set(vocabulary.symbols)
