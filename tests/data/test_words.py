"""Texts as numbers of their words, and how words are spelled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unrolled.data.reader import Reader, learn_reader, spelling_of
from unrolled.data.splitting import splitter
from unrolled.data.words import Encoded, Lexicon, Spelling, Texts, ngrams
from unrolled.errors import UsageError


def test_a_batch_holds_each_of_its_words_once_and_where_it_stands() -> None:
    texts = Texts([["a", "b", "a"], [], ["c", "b"]])
    encoded = Encoded(texts, Lexicon(["b"], Spelling()))
    batch = encoded.batch([0, 1, 2])
    assert batch.lengths.tolist() == [3, 0, 2]
    assert batch.places.shape == (3, 3)
    assert batch.known[batch.places[:, 0]].tolist() == [0, 1, 0]
    assert batch.known[batch.places[:2, 2]].tolist() == [0, 1]
    assert len(batch.known) == 3


def test_texts_without_a_word_are_a_batch() -> None:
    batch = Encoded(Texts([[], []]), Lexicon([], Spelling())).batch([0, 1])
    assert batch.places.shape == (0, 2)
    assert batch.lengths.tolist() == [0, 0]


def test_pieces_of_a_batch_are_those_of_its_words() -> None:
    spelling = Spelling("ngrams", buckets=1000)
    encoded = Encoded(Texts([["ab", "c"], ["xyz"]]), Lexicon(["c"], spelling))
    for rows in ([0], [1], [1, 0]):
        batch = encoded.batch(rows)
        ends = [*batch.begins.tolist()[1:], len(batch.pieces)]
        for place, column in enumerate(rows):
            for step, word in enumerate([["ab", "c"], ["xyz"]][column]):
                number = int(batch.places[step, place])
                found = batch.pieces[batch.begins[number] : ends[number]].tolist()
                assert found == spelling.of(word)


def test_ngrams_are_those_of_a_word_with_marked_ends() -> None:
    assert ngrams("ab") == {"<", "a", "b", ">", "<a", "ab", "b>", "<ab", "ab>", "<ab>"}
    assert all(number < 7 for number in Spelling("ngrams", buckets=7).of("anything"))


def test_hashes_are_the_same_in_every_process() -> None:
    assert Spelling("ngrams", buckets=2**17).of("a") == [21938, 80590, 98987, 103178, 114243, 127526]


def test_a_word_without_an_end_is_spelled_by_its_beginning() -> None:
    assert len(Spelling("ngrams", buckets=2**20).of("ab" * 50_000)) < 300
    assert len(Spelling("characters", characters="ab").of("ab" * 50_000)) == 60


def test_a_lexicon_keeps_what_is_frequent_and_comes_back_from_json() -> None:
    texts = Texts([["a", "b", "a"], ["c", "b"], ["d", "d", "d"]])
    lexicon = Lexicon.of(texts.counts([0, 1]), Spelling("characters", characters="ab"), 2)
    assert lexicon.words == ["a", "b"]
    again = Lexicon.from_json(lexicon.to_json())
    assert again.words == lexicon.words
    assert again.spelling.of("abz") == lexicon.spelling.of("abz") == [1, 2, 0]
    assert again.number("d") == 0


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {"words": "ab", "spelling": {}},
        {"words": ["a", "a"], "spelling": {"kind": "none", "characters": [], "buckets": 0}},
        {"words": ["a"], "spelling": {"kind": "magic", "characters": [], "buckets": 0}},
        {"words": ["a"], "spelling": {"kind": "ngrams", "characters": [1], "buckets": 3}},
    ],
)
def test_a_lexicon_that_is_none_is_refused(broken: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
        Lexicon.from_json(broken)


def test_words_are_without_the_blanks_between_them() -> None:
    assert splitter("words")("재미있는 영화, really!\n\n") == ["재미있는", "영화", ",", "really", "!"]
    assert splitter("characters")("a b") == ["a", " ", "b"]


def test_morphemes_are_found_where_the_library_is() -> None:
    pytest.importorskip("kiwipiepy")
    assert splitter("morphemes")("영화가 재미있었다")[:2] == ["영화", "가"]


def test_an_unknown_unit_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="words"):
        splitter("word")


@pytest.mark.parametrize("unit", ["words", "characters", "bytes", "jamo", "bpe", "unigram"])
def test_a_reader_comes_back_from_json_and_reads_the_same(unit: str) -> None:
    texts = [("the film was good",), ("the film was bad, 정말",)] * 5
    reader = learn_reader(unit, texts, longest=12, symbols=300 if unit in ("bpe", "unigram") else None)
    read = Texts(reader.split(*text) for text in texts)
    reader.lexicon = Lexicon.of(read.counts(range(10)), spelling_of("", unit, read.words, 64, "ngrams"))
    again = Reader.from_json(reader.to_json())
    assert again.split("the film, 정말") == reader.split("the film, 정말")
    ours, theirs = (each.encode([each.split("the good film")]) for each in (reader, again))
    assert np.array_equal(ours.known, theirs.known)
    assert torch.equal(ours.batch([0]).pieces, theirs.batch([0]).pieces)


def test_texts_of_several_columns_have_a_mark_between_them_and_long_ones_are_cut_and_counted() -> None:
    reader = Reader.of("words", 4)
    assert reader.split("a b", "c") == ["a", "b", "\x1f", "c"]
    assert reader.cut == 0
    assert reader.split("a b c d e") == ["a", "b", "c", "d"]
    assert reader.cut == 1


def test_only_words_are_spelled() -> None:
    assert spelling_of("", "characters", ["a"], 64, "ngrams").kind == "none"
    with pytest.raises(UsageError, match="no spelling"):
        spelling_of("ngrams", "bytes", ["a"], 64, "ngrams")


def test_few_words_have_few_buckets() -> None:
    assert spelling_of("", "words", ["ab"], 2**17, "ngrams").buckets == 256
