"""Learned subwords give every text back, are the same in every run, and come back from a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unrolled
from unrolled.data.subwords import SUBWORDS, learn_subwords, subwords
from unrolled.data.units import Unit
from unrolled.data.vocabulary import Vocabulary
from unrolled.errors import MissingExtraError, UsageError

pytest.importorskip("tokenizers")
# A text with many words, the notes of this project, some of which are Korean.
TEXT = (Path(__file__).parents[2] / "docs" / "notes.md").read_text(encoding="utf-8") + "고양이가 앉았다. " * 50
LEARNED = {kind: learn_subwords(kind, [TEXT], 600) for kind in SUBWORDS}


@pytest.mark.parametrize("unit", LEARNED.values(), ids=LEARNED)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(deadline=None)
def test_every_text_comes_back(unit: Unit, text: str) -> None:
    symbols = unit.split(text)
    assert unit.join("".join(symbols)) == text
    assert set(symbols) <= set(unit.closed)


@pytest.mark.parametrize("kind", SUBWORDS)
def test_frequent_words_are_one_symbol_and_learning_again_gives_the_same(kind: str) -> None:
    unit = LEARNED[kind]
    assert len(unit.split(TEXT)) < len(TEXT.encode()) / 1.5
    assert " the" in unit.closed
    again = learn_subwords(kind, [TEXT], 600)
    assert (again.closed, again.learned) == (unit.closed, unit.learned)


@pytest.mark.parametrize("kind", SUBWORDS)
def test_a_vocabulary_of_subwords_comes_back_from_json(kind: str) -> None:
    vocabulary = Vocabulary.of(LEARNED[kind], [], end=True)
    read = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert read.symbols == vocabulary.symbols
    assert read.encode(TEXT).tolist() == vocabulary.encode(TEXT).tolist()
    assert read.decode(read.encode(TEXT)) == TEXT
    assert read.unknown is None
    assert len(vocabulary.extended(read)) == len(vocabulary)


def test_symbols_are_named_as_they_are_read_or_by_their_bytes() -> None:
    vocabulary = Vocabulary.of(LEARNED["bpe"], [])
    names = {vocabulary.name(number) for number in range(len(vocabulary))}
    assert {"' the'", "'a'", "0x0a", "0xea"} <= names
    assert any("고양이" in name for name in names)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value["symbols"].remove("a"), "a byte is missing among the symbols"),
        (lambda value: value["symbols"].append("a"), "a symbol stands twice in it"),
        (lambda value: value.update(learned=[["a", "nothing"]]), "the bpe of it does not fit its symbols"),
        (lambda value: value.update(learned=3), "the bpe of it does not fit its symbols"),
        (lambda value: value.update(unit="bytes"), "there is no unit 'bytes'"),
    ],
)
def test_a_vocabulary_that_is_damaged_is_said(change: Any, reason: str) -> None:
    value = json.loads(json.dumps(Vocabulary.of(LEARNED["bpe"], []).to_json()))
    change(value)
    with pytest.raises(ValueError, match=reason):
        Vocabulary.from_json(value)


def test_what_cannot_be_learned_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"there are no subwords 'bp'\. Did you mean bpe\?"):
        learn_subwords("bp", [TEXT], 300)
    with pytest.raises(UsageError, match="bpe has a symbol for each of the 256 bytes: give more than 256 symbols"):
        learn_subwords("bpe", [TEXT], 256)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'unrolled\[subwords\]'$"):
        subwords("bpe", [], [])


@pytest.mark.parametrize("kind", SUBWORDS)
def test_a_language_model_reads_and_writes_subwords(kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "unit": kind,
        "symbols": 300,
        "hidden_size": 8,
        "batch_size": 4,
        "window": 8,
        "epochs": 1,
    }
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    run = unrolled.train("language-model", tmp_path / "text.txt", out=tmp_path / "run", quiet=True, **options)
    assert run.unit == "subwords"
    read = unrolled.load(tmp_path / "run")
    assert read.generate("고양이", length=20, seed=1) == run.generate("고양이", length=20, seed=1)
    assert read.evaluate([TEXT])["bits_per_character"] > 0
    further = unrolled.train("language-model", [TEXT + "zebra"], start_from=tmp_path / "run", quiet=True, epochs=1)
    assert further.vocabulary.symbols == run.vocabulary.symbols
    with pytest.raises(UsageError, match="characters are not learned, so that their number cannot be chosen"):
        unrolled.train("language-model", [TEXT], symbols=300, quiet=True)
