"""A trained tagger: what it learns, gives, measures and keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from tests.tasks.tagging import SMALL, neighbours, train, travels
from tests.training.interrupting import InterruptAfter
from unrolled.data.entities import misfits
from unrolled.errors import UsageError
from unrolled.tasks import TagRun
from unrolled.tasks.tag import Tagged
from unrolled.tasks.tag.pages import coloured

CRF: dict[str, Any] = {"crf": True, "scheme": "BIOES", "intent": "intent", "spelling": "characters"}


@pytest.fixture(scope="module")
def run() -> TagRun:
    """Entities and intents, by a chain."""
    torch.set_num_threads(1)
    return train(travels(), epochs=3, **CRF)


@pytest.fixture(scope="module")
def plain() -> TagRun:
    """Labels that the words around say."""
    torch.set_num_threads(1)
    return train(neighbours(), epochs=5, learning_rate=0.04)


def test_labels_that_need_what_stands_around_are_learned_and_words_alone_are_not_enough(plain: TagRun) -> None:
    found = plain.assessment
    assert found is not None
    assert list(found["methods"]) == ["lstm", "most frequent label of each word"]
    assert found["methods"]["lstm"]["accuracy"] > 0.97
    assert found["methods"]["most frequent label of each word"]["accuracy"] < 0.6
    assert plain.predict(list("abca")).labels == ("B", "C", "A", "C")


def test_what_reads_forward_only_stands_beside_what_reads_both_ways(tmp_path: Path) -> None:
    both = train(neighbours(), forward_too=True, epochs=8)
    alone = train(neighbours(), bidirectional=False, epochs=8)
    assert both.assessment is not None
    assert alone.assessment is not None
    figures = both.assessment["methods"]
    assert list(figures) == ["lstm", "lstm, forward only", "most frequent label of each word"]
    assert figures["lstm"]["accuracy"] > 0.95 > 0.7 > figures["lstm, forward only"]["accuracy"]
    # It learns as much as by itself.
    assert figures["lstm, forward only"]["accuracy"] == pytest.approx(
        alone.assessment["methods"]["lstm"]["accuracy"], abs=0.1
    )
    both.save(tmp_path / "run")
    rows = neighbours(30, seed=1)
    assert unrolled.load(tmp_path / "run").evaluate(rows)["methods"] == both.evaluate(rows)["methods"]
    with pytest.raises(UsageError, match="leave out forward_too"):
        train(neighbours(), forward_too=True, bidirectional=False)


@pytest.mark.parametrize("spelling", ["none", "characters", "ngrams"])
def test_every_spelling_and_structure_learns_a_step(spelling: str) -> None:
    made = train(travels(30), spelling=spelling, layers=2, structure="residual", cell="gru", epochs=1, evaluations=1)
    assert made.reason == "complete"
    assert made.reader.lexicon.spelling.kind == spelling


def test_entities_and_intents_are_learned_by_one_model(run: TagRun) -> None:
    assert run.tags.scheme == "BIO"
    assert run.tags.inner == "BIOES"
    found = run.predict(["does", "Ada", "Lovelace", "fly", "to", "New", "York"])
    assert found.labels == ("O", "B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC")
    assert found.intent == "Ask"
    assert found.tokens[1] == "Ada"
    assert 0.5 < found.intent_probability <= 1
    assert all(0 < p <= 1 + 1e-9 for p in found.probabilities)
    assert run.predict([list(found.tokens)], fallback=1.01)[0][3:] == ("", found.intent_probability)


def test_the_figures_come_with_the_one_that_decides_first(run: TagRun, plain: TagRun) -> None:
    assert run.assessment is not None
    assert plain.assessment is not None
    assert list(run.assessment["methods"]["lstm"]) == [
        "entity_f1", "entity_precision", "entity_recall", "accuracy", "macro_f1", "intent_accuracy"
    ]  # fmt: skip
    for each, names in (run, ["entity_f1", "accuracy", "intent_accuracy"]), (plain, ["accuracy"]):
        rows = [row for row in each.metrics if row["event"] == "evaluation"]
        assert rows
        assert all(list(row["figures"]) == names for row in rows)


def test_a_sentence_is_a_text_a_list_of_tokens_or_one_of_many(run: TagRun) -> None:
    tokens = ["Kim", "fly", "to", "Rome", "!"]
    one = run.predict("Kim fly to Rome!")
    assert isinstance(one, Tagged)
    assert one.tokens == tuple(tokens)
    assert run.predict(tokens) == one
    several = run.predict([tokens, ["Bo"], []])
    assert several[0].labels == one.labels
    assert several[0].probabilities == pytest.approx(one.probabilities, rel=1e-5)
    assert several[1].labels == ("B-PER",)
    assert several[2][:3] == ((), (), ())
    assert run.predict([]) == []
    assert run.predict("")[:3] == ((), (), ())
    assert [labels for labels, _ in run.n_best("")] == [()]
    for wrong in (3, [["a"], "b"], [["a", 1]], {"a": 1}):
        with pytest.raises(UsageError, match="a sentence is a text or a list of tokens, not "):
            run.predict(wrong)  # type: ignore[arg-type]


def test_characters_that_can_be_written_in_several_ways_are_the_same_word(run: TagRun) -> None:
    assert run.predict(["Ade\u0301"]).labels == run.predict(["Ad\u00e9"]).labels
    assert run.predict(["Ade\u0301"]).tokens == ("Ade\u0301",)


def test_a_chain_gives_the_likeliest_sequences_in_their_order(run: TagRun, plain: TagRun) -> None:
    found = run.n_best("Kim fly to Rome", 4)
    assert found[0][0] == run.predict("Kim fly to Rome").labels
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert sum(p for _, p in found) <= 1 + 1e-6
    assert len({labels for labels, _ in found}) == len(found) == 4
    assert not any(misfits(labels, "BIO") for labels, _ in found)
    # Of one token there are as many as may stand alone: none, a person, a place.
    assert len(run.n_best(["Kim"], 50)) == 3
    with pytest.raises(UsageError, match="each label is scored by itself: train with crf"):
        plain.n_best("a b")
    with pytest.raises(UsageError, match="the sentence has 1,001 tokens; 1,000 are read at once"):
        run.n_best(["a"] * 1001)


def test_an_evaluation_measures_what_the_end_of_the_training_did(run: TagRun) -> None:
    found = run.evaluate(travels(40, 1))
    assert found["sentences"] == 40
    assert found["tokens"] == sum(count for count, *_ in found["by_label"].values())
    assert found["methods"]["lstm"]["entity_f1"] > 0.9
    assert found["methods"]["lstm"]["intent_accuracy"] > 0.9
    assert set(found["by_entity"]) == {"PER", "LOC"}
    assert 0 < found["known_again"] <= 40
    json.dumps(found)
    names = [name for name, _ in run.told(found)]
    assert {"entity F1", "accuracy of intents", "entities LOC"} <= set(names)


def test_sentences_that_were_seen_are_told_apart_and_unknown_words_too(run: TagRun) -> None:
    seen = travels(40)
    new = [{"tokens": ["Zoe", "fly", "to", "Oslo"], "tags": ["B-PER", "O", "O", "B-LOC"], "intent": "Tell"}]
    found = run.evaluate(seen + new)
    assert found["known_again"] == 40
    assert found["unknown_tokens"] == 2
    assert "unknown_accuracy" in found["methods"]["lstm"]
    alone = run.evaluate(new)["methods"]["lstm"]
    assert found["without_known"]["lstm"] == alone


def test_sentences_of_a_file_are_read_without_their_labels(run: TagRun, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"tokens": row["tokens"], "n": 1}) + "\n" for row in travels(3)))
    found = [row["tokens"] for row in run.rows(path)]
    assert found == [row["tokens"] for row in travels(3)]
    assert len(run.predict(found)) == 3
    assert list(run.rows({"words": [["a"]]}, column="words")) == [{"words": ["a"]}]


def test_what_an_evaluation_cannot_use_is_said(run: TagRun, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [*travels(2), {"tokens": ["x"], "tags": ["B-ORG"], "intent": "Ask"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=r"a\.jsonl, line 3 has the label 'B-ORG', which no sentence had in training"):
        run.evaluate(path)
    assert run.evaluate(path, skip_bad=True)["skipped"] == 1
    rows[2] = {"tokens": ["x"], "tags": ["O"], "intent": "Sing"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=r"a\.jsonl, line 3 has the label 'Sing'"):
        run.evaluate(path)


def test_a_sentence_that_is_too_long_is_labelled_in_pieces() -> None:
    made = train(neighbours(60), longest=5, epochs=1, evaluations=1)
    assert any("have more than 5 tokens: the first are learned, all are labelled" in note for note in notices(made))
    tokens = list("abcabcabcabc")
    found = made.predict(tokens)
    pieces = made.predict([tokens[:5], tokens[5:10], tokens[10:]])
    assert found.labels == tuple(label for piece in pieces for label in piece.labels)
    assert made.evaluate(neighbours(60))["tokens"] == sum(len(row["tokens"]) for row in neighbours(60))


def notices(run: TagRun) -> list[str]:
    from unrolled.options import settle
    from unrolled.tasks import task_of

    options = {name: value for table in ("data", "model", "training") for name, value in run.config[table].items()}
    return task_of("tag", neighbours(60), settle("tag", options)).notices


@pytest.mark.parametrize("name", ["run", "plain"])
def test_an_opened_run_gives_the_same(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made: TagRun = request.getfixturevalue(name)
    made.save(tmp_path / "run")
    opened = unrolled.load(tmp_path / "run")
    assert isinstance(opened, TagRun)
    texts = [["Kim", "fly", "to", "Rome"], ["never", "seen"], ["a"]]
    assert opened.predict(texts) == made.predict(texts)
    assert opened.vocabulary_json() == made.vocabulary_json()
    assert opened.report == made.report
    assert opened.card() == made.card()
    assert repr(opened) == repr(made)


def test_report_and_card_show_what_was_measured(run: TagRun, plain: TagRun) -> None:
    page = run.report
    for shown in (
        "Held-out sentences",
        "Entities, kind by kind",
        "most frequent label of each word",
        "accuracy of intents",
    ):
        assert shown in page
    assert "token-classification" in run.card()
    assert "entity F1, lstm" in run.card()
    assert "Label by label" in plain.report
    empty = train(neighbours(20), held_out=0.0, epochs=1)
    assert "None were assessed." in empty.report
    assert "held-out sentences | none" in empty.card()


def test_what_is_wrong_with_a_sentence_stands_above_it() -> None:
    each = {
        "tokens": ["in", "New", "York", "now"], "labels": ["O", "B-LOC", "I-LOC", "O"],
        "given": ["O", "B-LOC", "O", "O"], "probabilities": [0.9, 0.8, 0.7, 0.6],
    }  # fmt: skip
    caption, parts = coloured(each)
    assert caption == "missed: New York, LOC; given: New, LOC"
    assert parts == [("in ", 0.0), ("New ", 0.0), ("York ", -0.7), ("now ", 0.0)]
    caption, _ = coloured({**each, "labels": list("NNNN"), "given": list("NVNV")})
    assert caption == "New: N, given V; now: N, given V"


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [({}, "it must have a reader, tags and intents"), ({"tags": {}}, "tags have names")],
)
def test_a_damaged_vocabulary_is_said(vocabulary: dict[str, Any], message: str, plain: TagRun, tmp_path: Path) -> None:
    plain.save(tmp_path / "run")
    whole = plain.vocabulary_json()
    broken = {**whole, **vocabulary} if vocabulary else {}
    (tmp_path / "run" / "vocabulary.json").write_text(json.dumps(broken))
    with pytest.raises(UsageError, match=rf"vocabulary\.json is damaged: {message}"):
        unrolled.load(tmp_path / "run")


@pytest.mark.parametrize("options", [{}, CRF], ids=["plain", "crf"])
def test_resumed_equals_uninterrupted_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in travels(40)))
    more = {**SMALL, **options, "epochs": 2, "dropout": 0.3, "word_dropout": 0.2, "label_smoothing": 0.1}
    whole = unrolled.train("tag", path, **more)
    out = tmp_path / "run"
    more.pop("quiet")
    begun = unrolled.train("tag", path, out=out, show=InterruptAfter(23), **more)
    assert begun.reason == "interrupted"
    # As one that is killed while its end is written leaves it.
    with (out / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"event": "assessment", "sentences": 0}) + "\n")
    torch.rand(3)
    resumed = unrolled.train(resume=out, quiet=True)
    assert resumed.reason == "complete"
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
    assert resumed.assessment == whole.assessment
    assert [row["event"] for row in resumed.metrics].count("assessment") == 1
    assert unrolled.load(out).predict(["Kim", "fly"]) == whole.predict(["Kim", "fly"])


@pytest.mark.slow
def test_parts_of_speech_of_real_sentences_are_learned(data: Path) -> None:
    folder = data / "ud_english_ewt"
    small = {"hidden_size": 64, "layers": 1, "epochs": 5, "patience": 0, "dropout": 0.3, "word_dropout": 0.1}
    made = unrolled.train("tag", folder / "en_ewt-ud-dev.conllu", quiet=True, **small)
    assert made.assessment is not None
    model, usual = made.assessment["methods"].values()
    assert model["accuracy"] > usual["accuracy"] + 0.02
    found = made.evaluate(folder / "en_ewt-ud-test.conllu")
    assert found["methods"]["lstm"]["accuracy"] > 0.85
    assert found["methods"]["lstm"]["unknown_accuracy"] > 0.5
    assert made.predict("The cat was here.").labels[-1] == "PUNCT"
