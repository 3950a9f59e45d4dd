"""What is understood of labelled sentences before they are learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tasks.tagging import SMALL, neighbours, train, travels
from unrolled.errors import UsageError
from unrolled.options import settle
from unrolled.tasks import TagTask, task_of
from unrolled.tasks.tag.baseline import MostFrequent


def task(data: Any, **options: Any) -> TagTask:
    torch.manual_seed(0)
    given = {name: value for name, value in {**SMALL, **options}.items() if name != "quiet"}
    made = task_of("tag", data, settle("tag", given))
    assert isinstance(made, TagTask)
    return made


def written(path: Path, rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_what_was_understood_is_described() -> None:
    made = task(travels(), crf=True, scheme="BIOES", intent="intent", spelling="")
    found = dict(made.description)
    assert found["sentences"] == "72 to train on, 8 to evaluate on"
    assert found["scheme"] == "BIO, BIOES in the model"
    assert found["intents"].startswith("2: ")
    assert found["labels"].startswith("5: 'O' ")
    assert "spelling: characters; unknown: 0.00%" in found["words"]
    assert found["model"].startswith("lstm, CRF, ")
    assert "duplicates" in found
    assert made.shown()[0].count("/") == len(made.wanted[made.train[0]])


def test_targets_stand_where_their_words_do() -> None:
    made = task(neighbours(30))
    for window in made.windows(0, 0):
        targets = made._targets(window.rows)
        assert targets.shape == window.words.places.shape
        for column, row in enumerate(window.rows):
            length = int(window.words.lengths[column])
            assert targets[:length, column].tolist() == made.wanted[row].tolist()


def test_what_was_read_is_counted_in_tokens() -> None:
    made = task(neighbours(30))
    lengths = [int(window.words.lengths.sum()) for window in made.windows(0, 0)]
    assert made.units(3) == sum(lengths[:3])
    assert made.units(made.steps_per_epoch) == sum(lengths)
    assert made.units(made.steps_per_epoch + 1) == sum(lengths) + int(next(made.windows(1, 0)).words.lengths.sum())


def test_the_loss_is_the_mean_over_tokens_and_that_of_intents_comes_besides() -> None:
    made = task(travels(30), intent="intent", label_smoothing=0.1)
    made.model.eval()
    window = next(made.windows(0, 0))
    loss, _ = made.loss(window, None)
    tokens = int(window.words.lengths.sum())
    assert loss.mean.item() == pytest.approx(loss.total.item() / tokens)
    assert loss.objective.item() > loss.mean.item()
    alone = task(travels(30))
    alone.model.eval()
    loss, _ = alone.loss(next(alone.windows(0, 0)), None)
    assert loss.objective.item() == loss.mean.item()


def test_the_held_out_loss_is_that_of_a_token_without_smoothing() -> None:
    made = task(neighbours(60), label_smoothing=0.3)
    loss = made.evaluate()
    made.model.eval()
    total = tokens = 0.0
    for row in made.held_out:
        words = made.encoded.batch([row])
        scores = made.model(words)
        wanted = torch.from_numpy(made.wanted[row])[:, None]
        total += float(made.model.loss(scores.labels, wanted, words.lengths).detach())
        tokens += len(wanted)
    assert loss == pytest.approx(total / tokens)
    assert list(made.figures()) == ["accuracy"]


def test_tags_that_do_not_fit_are_counted_mended_and_said() -> None:
    rows = [*travels(20), {"tokens": ["in", "Oslo", "Bay"], "tags": ["O", "I-LOC", "I-LOC"], "intent": "Tell"}]
    made = task(rows, crf=True, held_out=0.0)
    assert "1 tags of 1 sentences do not fit those beside them in BIO: mended" in "".join(made.notices)
    assert made.tags.labels(made.wanted[20].tolist()) == ["O", "B-LOC", "I-LOC"]


def test_sentences_to_evaluate_on_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    other = written(tmp_path / "dev.jsonl", travels(12, 3))
    made = task(travels(30), intent="intent", held_out_data=other)
    assert (len(made.train), len(made.held_out)) == (30, 12)
    assert [list(made.encoded.texts.parts(int(row))) for row in made.held_out] == [
        row["tokens"] for row in travels(12, 3)
    ]
    assert made.digest != task(travels(30), intent="intent").digest
    bad = written(tmp_path / "bad.jsonl", [*travels(3), {"tokens": ["x"], "tags": ["B-ORG"], "intent": "Tell"}])
    with pytest.raises(UsageError, match=r"bad\.jsonl, line 4 has the label 'B-ORG', which no sentence had in"):
        task(travels(30), intent="intent", held_out_data=bad)
    made = task(travels(30), intent="intent", held_out_data=bad, skip_bad=True)
    assert len(made.held_out) == 3
    assert any("1 rows left out" in notice for notice in made.notices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "bpe"}, "unit"),
        ({"symbols": 300}, "no subwords learned: leave out unit, symbols"),
        ({"intent": "intnt"}, "has no column 'intnt'. Did you mean intent"),
        ({"scheme": "BILOU"}, "there is no scheme 'BILOU'"),
        ({"label": "intent"}, "has 4 tokens, but 1 labels|has 5 tokens, but 1 labels|has 6 tokens|has 7 tokens"),
        ({"structure": "tied"}, "a tied stack has 2 layers or more"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(travels(10), **options)


def test_a_word_has_its_most_frequent_label_and_an_unknown_one_that_of_all() -> None:
    usual = MostFrequent([(["a", "b", "a"], ["X", "Y", "Z"], "i"), (["a", "b"], ["Z", "Y"], "j")])
    assert usual.labels(["a", "b", "c"]) == ["Z", "Y", "Y"]
    assert usual.intent == "i"


def test_without_a_column_of_intents_there_are_none() -> None:
    made = train(travels(20), epochs=1, evaluations=1)
    assert made.intents is None
    assert made.predict(["Kim"])[3:] == ("", 0.0)
    assert made.assessment is not None
    assert "intent_accuracy" not in made.assessment["methods"]["lstm"]


def test_vectors_of_a_file_are_begun_with(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("Kim " + " ".join(["0.5"] * 8) + "\n")
    made = task(travels(20), vectors=str(path))
    own = made.model.vectors.own.weight.detach().numpy()
    assert np.allclose(own[made.reader.lexicon.number("Kim")], 0.5)
    assert any("of the words begin with vectors of" in notice for notice in made.notices)
