"""classify: labelled texts in, a label out."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unrolled
from tests.training.interrupting import InterruptAfter
from unrolled.errors import UsageError
from unrolled.options import ClassifyOptions
from unrolled.tasks import ClassifyRun
from unrolled.tasks.classify.figures import worst

SMALL: dict[str, Any] = {
    "hidden_size": 8, "embedding_size": 8, "epochs": 6, "learning_rate": 0.02, "dropout": 0.1, "word_dropout": 0.0,
    "evaluations": 3, "quiet": True, "wide": 64, "buckets": 64, "piece_dropout": 0.0,
}  # fmt: skip
# For what has no n-grams: what would have no effect is refused.
UNSPELLED = {"buckets": ClassifyOptions.buckets, "piece_dropout": ClassifyOptions.piece_dropout}
GOOD, BAD = ["good", "great", "fine", "lovely"], ["bad", "poor", "awful", "dull"]


def reviews(count: int = 200, seed: int = 0) -> dict[str, list[str]]:
    """Texts whose label is that of one word among others."""
    draw = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        label = draw.choice(["good", "bad"])
        words = [f"w{draw.randrange(30)}" for _ in range(draw.randrange(2, 7))]
        words.insert(draw.randrange(len(words)), draw.choice(GOOD if label == "good" else BAD))
        texts.append(" ".join(words))
        labels.append(label)
    return {"text": texts, "label": labels}


def trained(data: Any = None, **options: Any) -> ClassifyRun:
    run = unrolled.train("classify", reviews() if data is None else data, **{**SMALL, **options})
    assert isinstance(run, ClassifyRun)
    return run


@pytest.fixture(scope="module")
def run() -> ClassifyRun:
    return trained()


def write(path: Path, data: dict[str, list[str]]) -> Path:
    rows = zip(data["text"], data["label"], strict=True)
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return path


def test_a_text_gets_its_label_with_how_likely_each_is(run: ClassifyRun) -> None:
    found = run.predict("w1 w2 lovely w3")
    assert found.label == "good"
    assert found.probability == found.probabilities["good"] > 0.5
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert [each.label for each in run.predict(["an awful w3", "w3 great w3"])] == ["bad", "good"]


def test_predictions_do_not_depend_on_the_texts_beside_them(run: ClassifyRun) -> None:
    texts = reviews(40, seed=3)["text"]
    together = run.probabilities(texts)
    alone = np.concatenate([run.probabilities([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-6


def test_no_texts_and_texts_without_a_word_are_read(run: ClassifyRun) -> None:
    assert run.predict([]) == []
    assert run.predict("").label in ("good", "bad")


def test_unknown_words_are_read_by_their_spelling(run: ClassifyRun) -> None:
    assert run.predict("loveliest").probabilities["good"] > run.predict("awfuller").probabilities["good"]


def test_a_run_says_the_same_after_it_was_written_and_loaded(run: ClassifyRun, tmp_path: Path) -> None:
    run.save(tmp_path / "run")
    again = unrolled.load(tmp_path / "run")
    texts = reviews(20, seed=5)["text"]
    assert np.array_equal(again.probabilities(texts), run.probabilities(texts))
    assert again.assessment == run.assessment
    assert "The worst errors" in (tmp_path / "run" / "report.html").read_text() or not run.assessment["worst"]
    assert "accuracy, recurrent" in (tmp_path / "run" / "README.md").read_text()


def test_the_assessment_has_the_model_and_simple_methods_on_the_same_texts(run: ClassifyRun) -> None:
    found = run.assessment
    assert found is not None
    methods = found["methods"]
    assert list(methods) == [
        "recurrent", "always the most frequent", "TF-IDF of words", "TF-IDF of characters, 1 to 4"
    ]  # fmt: skip
    assert methods["recurrent"]["accuracy"] > methods["always the most frequent"]["accuracy"] + 0.2
    assert sum(map(sum, found["confusion"])) == found["texts"] == 20


@pytest.mark.parametrize(
    "options",
    [
        {"model": "bag-of-words", "wide": 2**21}, {"model": "mlp", "wide": 2**21},
        {"model": "window-mlp", "words": 2, "wide": 2**21}, {"cell": "gru"},
        {"pooling": "last"}, {"pooling": "mean"}, {"pooling": "attention"}, {"bidirectional": False},
        {"layers": 2, "structure": "sliced", "parts": 2}, {"layers": 2, "structure": "residual"},
        {"layers": 3, "structure": "tied"},
        {"spelling": "characters", **UNSPELLED},
        {"spelling": "none", "epochs": 12, **UNSPELLED},
        {"unit": "characters", "epochs": 12, "hidden_size": 16, **UNSPELLED},
        {"unit": "bpe", "symbols": 280, **UNSPELLED}, {"class_weights": "balanced"}, {"label_smoothing": 0.1},
        {"cell": "grid-block", "bidirectional": False, "layers": 2}, {"zoneout": 0.1}, {"chrono": 5},
        {"members": 2}, {"wide": 0},
    ],
    ids=str,
)  # fmt: skip
def test_each_option_trains_a_model_that_learns_and_loads(options: dict[str, Any], tmp_path: Path) -> None:
    run = trained(**options, baselines=False)
    assert run.assessment is not None
    assert run.assessment["methods"][str(options.get("model", "recurrent"))]["accuracy"] > 0.6
    run.save(tmp_path / "run")
    texts = reviews(10, seed=5)["text"]
    assert np.array_equal(unrolled.load(tmp_path / "run").probabilities(texts), run.probabilities(texts))


def test_more_than_two_labels() -> None:
    draw = random.Random(1)
    labels = [str(draw.randrange(12)) for _ in range(300)]
    run = trained({"text": [f"w{draw.randrange(9)} key{label}" for label in labels], "label": labels}, epochs=10)
    assert run.labels.names == [str(number) for number in range(12)]
    found = run.predict("w3 key11")
    assert (found.label, len(found.probabilities)) == ("11", 12)


def test_texts_with_several_labels_or_none() -> None:
    draw = random.Random(2)
    marks = [[name for name in ("red", "blue", "round") if draw.random() < 0.4] for _ in range(300)]
    texts = [" ".join(draw.sample([*mark, "w1", "w2"], len(mark) + 2)) for mark in marks]
    run = trained({"text": texts, "label": ["|".join(mark) for mark in marks]}, separator="|", label="label", epochs=10)
    assert set(run.predict("w1 red round").label.split("|")) == {"red", "round"}
    assert run.predict("w1 w2").label == ""
    assert run.assessment is not None
    assert run.assessment["methods"]["recurrent"]["micro_f1"] > 0.9
    assert "Label by label" in str(run.report)


def test_texts_of_several_columns(tmp_path: Path) -> None:
    data = reviews()
    rows = [{"title": "w1", "body": text, "label": label} for text, label in zip(*data.values(), strict=True)]
    run = trained(rows, text="title,body", label="label")
    assert run.predict([("w2", "a lovely w1")])[0].label == "good"
    with pytest.raises(UsageError, match="2 columns"):
        run.predict("one text")


def test_the_odds_fall_without_the_word_that_decides(run: ClassifyRun) -> None:
    found = run.explain("w1 w2 awful w3")
    assert max(found, key=lambda each: each.nats).part == "awful"
    assert [each.nats for each in run.explain("w1 w2 awful w3", "good")] == pytest.approx(
        [-each.nats for each in found], abs=1e-5
    )


def test_held_out_texts_of_a_file_of_their_own_and_texts_that_were_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = reviews(), reviews(40, seed=9)
    other["text"][:10], other["label"][:10] = data["text"][:10], data["label"][:10]
    write(tmp_path / "b.tsv", other)
    monkeypatch.chdir(tmp_path)
    run = trained(write(tmp_path / "a.tsv", data), held_out_data="b.tsv")
    assert run.assessment is not None
    assert run.assessment["texts"] == 40
    assert run.assessment["known_again"] == 10
    measured = run.evaluate(tmp_path / "b.tsv")
    assert measured["methods"]["recurrent"] == pytest.approx(run.assessment["methods"]["recurrent"])
    assert measured["known_again"] == 10
    # Resumed from another folder, it finds them all the same.
    assert Path(run.config["data"]["held_out_data"]).is_absolute()
    assert "recurrent" in measured["without_known"]


def test_labels_and_texts_that_a_model_cannot_use_are_said_with_their_line(run: ClassifyRun, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\nfine\tgood\nso so\tmiddling\n\tbad\n")
    with pytest.raises(UsageError, match=r"line 3 has the label 'middling', which no text had in training"):
        run.evaluate(path)
    measured = run.evaluate(path, skip_bad=True)
    assert (measured["texts"], measured["skipped"]) == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "mlp", "cell": "gru"}, "has no cell of its own"),
        ({"model": "mlp", "wide": 2**21, "layers": 2}, "leave out layers"),
        ({"words": 3}, "leave out words"),
        ({"unit": "bytes", "min_count": 3}, "leave out min_count"),
        ({"spelling": "ngrams", "unit": "characters"}, "have no spelling"),
        ({"symbols": 300}, "leave out symbols"),
        ({"label": "nothing"}, "no column 'nothing'"),
        ({"structure": "residual"}, "2 layers or more"),
        ({"structure": "sliced"}, "2 layers or more"),
        ({"structure": "sliced", "layers": 2, "pooling": "mean"}, "leave out pooling"),
        ({"parts": 3}, "leave out parts"),
        ({"structure": "sliced", "layers": 9, "parts": 10}, "100,000,000 slices, more than the 1,000 steps"),
        ({"cell": "grid-block"}, "reads forward"),
        ({"class_weights": "balanced", "separator": "|"}, "one label each"),
        ({"vectors": "nowhere.vec"}, "nowhere.vec"),
        ({"held_out_data": "nowhere.tsv"}, r"there is no file .*nowhere\.tsv"),
        ({"spelling": "characters"}, "leave out buckets"),
        ({"hiden_size": 3}, "hidden_size"),
        ({"pooling": "lust"}, "last"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_a_line(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        unrolled.train("classify", reviews(30), out=tmp_path / "run", **{**SMALL, **options})
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_one_label_is_nothing_to_tell_apart() -> None:
    with pytest.raises(UsageError, match="all texts have the label 'good'"):
        trained({"text": ["a", "b", "c"], "label": ["good"] * 3})


def test_a_file_of_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("text\tlabel\n정말 재미있다\t1\n별로였다\t0\n".encode("cp949") * 5)
    with pytest.raises(UsageError, match=r"a\.tsv"):
        trained(path)


def test_vectors_of_a_file_are_begun_with(tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    path.write_text("2 8\ngood 1 1 1 1 1 1 1 1\nw1 2 2 2 2 2 2 2 2\n")
    run = trained(vectors=str(path), epochs=1, learning_rate=1e-9, baselines=False)
    number = run.reader.lexicon.number("w1")
    assert torch.allclose(run.model.vectors.own.weight[number], torch.tensor(2.0), atol=1e-3)


def test_among_weights_that_are_as_often_right_those_of_the_lowest_loss_are_kept() -> None:
    draw = random.Random(4)
    labels = ["rare" if draw.random() < 0.06 else "usual" for _ in range(400)]
    run = trained({"text": [f"w{draw.randrange(50)} {label}" for label in labels], "label": labels}, patience=3)
    kept = [row for row in run.metrics if row["event"] == "evaluation" and row["best"]]
    assert len(kept) > 1
    assert run.assessment is not None
    assert run.assessment["methods"]["recurrent"]["macro_f1"] > 0.9


def test_texts_are_read_in_one_form_wherever_they_come_from(run: ClassifyRun) -> None:
    import unicodedata

    for text in ("café good", "정말 good"):
        assert run.predict(unicodedata.normalize("NFD", text)) == run.predict(text)
    assert run.predict("good\r\nw1") == run.predict("good\nw1")
    assert run.predict("\ud83d good").label == "good"
    for none in (None, 3.5, [float("nan")]):
        with pytest.raises(UsageError, match="is no text"):
            run.predict(none)


def test_every_member_begins_with_the_vectors_of_a_file_and_learns_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.vec"
    path.write_text("1 8\nw1 2 2 2 2 2 2 2 2\n")
    run = trained(vectors=str(path), epochs=1, learning_rate=1e-9, members=2, baselines=False)
    number = run.reader.lexicon.number("w1")
    for member in run.model.each():
        assert torch.allclose(member.vectors.own.weight[number], torch.tensor(2.0), atol=1e-3)


def test_texts_that_may_have_one_label_or_none() -> None:
    data = reviews(120)
    run = trained({**data, "label": [label if label == "good" else "" for label in data["label"]]}, separator="|",
                  label="label", epochs=10)  # fmt: skip
    assert run.predict("w1 lovely").label == "good"
    assert run.predict("w1 awful").label == ""


def test_many_labels_have_fewer_weights_each() -> None:
    labels = [f"l{place % 60}" for place in range(240)]
    run = trained({"text": [f"w{label}" for label in labels], "label": labels}, wide=2**21, epochs=1, baselines=False)
    assert run.reader.wide <= 2**13


def test_what_is_most_wrong_is_wrong() -> None:
    one = np.array([[0.4, 0.3, 0.3], [0.1, 0.8, 0.1]])
    assert worst(one, np.eye(3, dtype=bool)[[0, 0]], False, 5) == [1]
    several = np.array([[0.1, 0.1], [0.9, 0.1], [0.2, 0.9]])
    assert worst(several, np.array([[False, False], [True, False], [True, False]]), True, 5) == [2]


@pytest.mark.parametrize("point", [3, 130])
def test_resumed_equals_uninterrupted_bit_for_bit(point: int, tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", reviews())
    options = {**SMALL, "quiet": False, "epochs": 4}
    whole = unrolled.train("classify", file, **options, show=lambda events, task: events)
    begun = unrolled.train("classify", file, out=tmp_path / "run", **options, show=InterruptAfter(point))
    assert (begun.reason, begun.assessment) == ("interrupted", None)
    resumed = unrolled.train(resume=tmp_path / "run", quiet=True)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
    assert resumed.assessment == whole.assessment


def test_two_trainings_with_one_seed_are_the_same() -> None:
    one, two = (trained(epochs=2, baselines=False).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_linear_model_is_learned_before_the_first_step_and_weighed_on_what_is_held_out(run: ClassifyRun) -> None:
    model = run.model
    assert model.bag is not None
    assert bool(model.bag.weight.any())
    assert model.weights.tolist() != [0.5, 0.5]
    assert bool((model.weights >= 0).all())
    texts = reviews(50, seed=3)["text"]
    words = run.reader.encode([run.reader.split(text) for text in texts]).batch(range(50))
    parts = model.parts(words)
    expected = model.weights[0] * model.apart(words).mean(0) + model.weights[1] * model.bag(words.groups, words.starts)
    torch.testing.assert_close(model(words), expected)
    torch.testing.assert_close(parts[:, 0], model.apart(words).mean(0))
    # Nothing held out, nothing to weigh by.
    assert trained(held_out=0.0, baselines=False, epochs=1).model.weights.tolist() == [0.5, 0.5]


def test_the_report_says_what_was_understood_of_the_data(run: ClassifyRun, tmp_path: Path) -> None:
    run.save(tmp_path / "run")
    page = unrolled.load(tmp_path / "run").report
    assert page == run.report
    assert "The data, as they were understood" in page
    assert re.search(r"180 to train on, 20 to evaluate on", page)
    assert re.search(r"2: &#39;(good|bad)&#39; \d+, &#39;(good|bad)&#39; \d+", page)
    assert re.search(r"\d+ to \d+ words, half of them up to \d+", page)
    assert re.search(r"unknown: [0-9.]+% of what is trained on, [0-9.]+% of what is held out", page)


def test_what_was_trained_can_be_trained_on_by_any_optimiser(run: ClassifyRun) -> None:
    model = copy.deepcopy(run.model).train()
    words = run.reader.encode([run.reader.split("w1 lovely w2")]).batch([0])
    optimiser = torch.optim.AdamW(model.parameters(), 0.1)
    before = model(words).item()
    model.apart(words).sum().backward()
    optimiser.step()
    assert model(words).item() != before
