from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from unrolled.data.corpus import corpus
from unrolled.errors import CellError, ShapeError, UnrolledError, UsageError
from unrolled.options import LanguageModelOptions, TextOptions, WindowOptions, settle
from unrolled.tasks.language_model import LanguageModelTask

TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
SMALL: dict[str, Any] = {"hidden_size": 6, "batch_size": 4, "window": 8, "epochs": 1}


def task_of(texts: list[str] | str = TEXT, **options: Any) -> LanguageModelTask:
    torch.manual_seed(0)
    data = {"text": [texts] if isinstance(texts, str) else texts}
    return LanguageModelTask(corpus(data, column="text"), **settle("language-model", {**SMALL, **options}))


def symbols_read(task: LanguageModelTask) -> list[str]:
    return [task.vocabulary.raw(number) for number in task.train_stream.numbers.tolist()]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_the_held_out_text_is_the_last_share(share: float) -> None:
    task = task_of(TEXT, held_out=share)
    cut = len(TEXT) - round(share * len(TEXT))
    assert task.train_stream.characters == pytest.approx(cut, abs=1)
    cut = task.train_stream.characters
    assert task.vocabulary.decode(task.train_stream.numbers[1:].tolist()) == TEXT[:cut]
    if share:
        assert task.held_out_stream is not None
        assert task.vocabulary.decode(task.held_out_stream.numbers[1:].tolist()) == TEXT[cut:]
    else:
        assert task.held_out_stream is None
        assert task.evaluate() is None


def test_the_held_out_text_of_documents_begins_anew_where_it_is_cut() -> None:
    task = task_of(["abcdefgh", "bcdefgha", "cdefghab"], held_out=0.5)
    assert task.held_out_stream is not None
    assert symbols_read(task) == ["", *"abcdefgh", "", *"bcde", ""]
    assert task.train_stream.starts.tolist() == [0, 9]
    assert task.vocabulary.decode(task.held_out_stream.numbers.tolist()) == "fghacdefghab"
    assert task.held_out_stream.starts.tolist() == [0, 5]


def test_the_vocabulary_is_of_what_is_trained_on() -> None:
    task = task_of(TEXT + "Z" * 30, held_out=0.2)
    assert "Z" not in task.vocabulary.symbols
    assert task.vocabulary.symbols[:2] == [" ", "t"]
    assert task.held_out_stream is not None
    assert task.held_out_stream.unknown == 30
    loss = task.evaluate()
    assert loss is not None
    assert math.isfinite(loss)


@pytest.mark.parametrize(
    ("unit", "least", "lacking"),
    [("words", None, [" once"]), ("words", 1, []), ("characters", None, []), ("characters", 2, ["n", "c"])],
)
def test_symbols_that_are_rarer_than_the_least_count_are_unknown(
    unit: str, least: int | None, lacking: list[str]
) -> None:
    task = task_of(" to be to be to once be to be to", unit=unit, held_out=0, min_count=least)
    assert task.vocabulary.missing(" to be to once be") == lacking
    assert task.train_stream.unknown == len(lacking)


@pytest.mark.parametrize(
    ("end_token", "expected"),
    [
        ("none", ["\n", *"ab\ncd", "\n", *"ef"]),
        ("document", ["", *"ab\ncd", "", *"ef", ""]),
        ("line", ["", *"ab", "", *"cd", "", *"ef", ""]),
    ],
)
def test_the_end_stands_where_the_option_says(end_token: str, expected: list[str]) -> None:
    task = task_of(["ab\ncd", "ef"], end_token=end_token, held_out=0)
    assert symbols_read(task) == expected
    assert (task.vocabulary.end is None) == (end_token == "none")
    # No symbol is learned that never occurs.
    assert set(task.vocabulary.symbols) <= set(expected)


def test_the_end_is_that_of_documents_where_there_are_several_if_not_given() -> None:
    assert task_of(["ab", "cd"], held_out=0).data.end_token == "document"
    assert task_of(["abcd"], held_out=0).data.end_token == "none"


def test_the_windows_of_an_epoch_are_as_many_as_is_said_and_go_on_from_any() -> None:
    for window in (1, 7, 16, 1000):
        task = task_of(window=window)
        windows = list(task.windows(0, 0))
        assert len(windows) == task.steps_per_epoch
        for first in (1, len(windows) - 1):
            left = list(task.windows(1, first))
            assert len(left) == max(0, len(windows) - first)
            assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(left, windows[first:], strict=True))


def test_an_epoch_reads_every_token_once_in_rows_side_by_side() -> None:
    task = task_of(held_out=0, window=16, batch_size=3)
    inputs = torch.cat([window.inputs for window in task.windows(0, 0)])
    assert inputs.shape[1] == 3
    read = inputs.t().flatten().tolist()
    numbers = task.train_stream.numbers.tolist()
    assert read[: len(numbers) - 1] == numbers[:-1]


def test_the_batch_is_smaller_for_a_short_text_and_that_is_said() -> None:
    task = task_of("abcdefgh" * 5, held_out=0, batch_size=32, window=8)
    assert task.training.batch_size == 5
    assert "the text is short: batch_size 5 instead of 32" in task.notices
    assert task_of("ab", held_out=0, batch_size=32, window=8).training.batch_size == 1
    assert task_of(batch_size=4, window=8).notices == []
    assert task.run([]).config["training"]["batch_size"] == 5


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_what_is_minimised_is_the_mean_over_steps_or_their_sum(reduction: str) -> None:
    task = task_of(reduction=reduction, window=8)
    window = next(task.windows(0, 0))
    found, _ = task.loss(window, None)
    torch.testing.assert_close(found.total, 8 * found.mean)
    assert torch.equal(found.objective, found.total if reduction == "sum" else found.mean)


def test_the_sum_has_the_same_loss_and_a_gradient_as_many_times_as_large_as_a_window_has_steps() -> None:
    plain: dict[str, Any] = {
        "optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip": 1e6, "learning_rate": 1e-6, "dropout": 0.0,
        "decay": "none", "warm_up": 0.0, "evaluations": 1, "quiet": True,
    }  # fmt: skip
    runs = [
        unrolled.train("language-model", [TEXT], reduction=reduction, **SMALL, **plain) for reduction in ("mean", "sum")
    ]
    mean, total = (run.metrics[0] for run in runs)
    assert mean["loss"] == total["loss"]
    assert mean["loss_sum"] == total["loss_sum"] == pytest.approx(8 * mean["loss"], rel=1e-6)
    assert total["gradient_norm"] == pytest.approx(8 * mean["gradient_norm"], rel=1e-4)


def test_the_loss_of_a_window_is_the_mean_over_what_follows_something() -> None:
    # Eight tokens in three rows: the last row is one short.
    task = task_of("abcdefgh", held_out=0, batch_size=3, window=2, dropout=0.0)
    state, costs, mean = None, [], []
    for window in task.windows(0, 0):
        chances = torch.log_softmax(task.model(window.inputs, state, window.resets)[0], -1)
        followed = window.targets >= 0
        cost = -chances[followed].gather(-1, window.targets[followed][:, None])
        found, state = task.loss(window, state)
        torch.testing.assert_close(found.mean, cost.mean())
        costs.append(cost.detach())
        mean.append(found.mean.detach())
    assert len(torch.cat(costs)) == 8
    assert bool(torch.stack(mean).isfinite().all())


@pytest.mark.parametrize("text", ["a", "\n"])
def test_a_text_of_one_character_is_too_short(text: str) -> None:
    with pytest.raises(UsageError, match="the text has 1 characters: too few to learn from"):
        task_of(text)


@pytest.mark.parametrize("unit", ["characters", "bytes", "jamo", "words"])
@pytest.mark.parametrize("end_token", ["none", "line", "document"])
@pytest.mark.parametrize("held_out", [0.0, 0.5])
def test_two_characters_are_enough(unit: str, end_token: str, held_out: float) -> None:
    task = task_of("ab", unit=unit, end_token=end_token, held_out=held_out)
    loss, _ = task.loss(next(task.windows(0, 0)), None)
    assert bool(loss.mean.isfinite())


def test_lines_of_white_space_alone_are_nothing_to_learn_or_to_evaluate_words_on() -> None:
    lines: dict[str, Any] = {"unit": "words", "end_token": "line"}
    with pytest.raises(UsageError, match="of 36 characters, white space alone, nothing is left to learn from"):
        task_of(" \n" * 20, **lines)
    with pytest.raises(UsageError, match="nothing is left to evaluate on: give another held_out"):
        task_of("the cat sat\n" * 9 + "\n" * 100, **lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be above 0, not 0"),
        ({"hidden_size": 2.5}, "hidden_size must be a whole number"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"dropout": math.nan}, "dropout must be"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout must be at least 0 and below 1"),
        ({"dropout_kind": "variatonal"}, r"there is no dropout_kind 'variatonal'. Did you mean variational\?"),
        ({"layers": 0}, "layers must be above 0"),
        ({"embedding_size": -1}, "embedding_size must be at least 0"),
        ({"tied": True}, "tied needs vectors of the output's size: embedding_size 6, not 0"),
        ({"tied": 1}, "tied must be true or false"),
        ({"held_out": 1}, "held_out must be at least 0 and below 1"),
        ({"held_out": 1e-17}, "leaves nothing of 612 characters to evaluate on"),
        ({"unit": "letters"}, "there is no unit 'letters'"),
        ({"end_token": "lines"}, r"there is no end_token 'lines'. Did you mean line\?"),
        ({"min_count": 0}, "min_count must be above 0"),
        ({"window": -3}, "window must be above 0"),
        ({"reduction": "total"}, "there is no reduction 'total'"),
        ({"unit": "bytes", "min_count": 2}, "no bytes are unknown, however rare: leave out min_count"),
        ({"backend": "warp"}, "there is no backend 'warp'"),
        ({"backend": 3}, "backend must be a text"),
        ({"precision": "fp8"}, "there is no precision 'fp8'. There is: \"\", bf16."),
        ({"precision": "bfloat16"}, r"there is no precision 'bfloat16'. Did you mean bf16\?"),
        ({"cell": "lst"}, r"Did you mean lstm\?"),
        ({"hiden_size": 3}, r"language-model has no option 'hiden_size'. Did you mean hidden_size\?"),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task_of(**options)


def test_a_model_that_no_memory_holds_is_a_failure_in_one_line() -> None:
    with pytest.raises(UnrolledError, match="hidden_size 10000000000 and 1 layers cannot be made") as caught:
        task_of(hidden_size=10**10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("@cell\ndef own(x, h):\n    h = tanh(W.h @ x + U.h @ h + raw(x) * x)\n    return h", "own"),
        (
            "@cell\ndef timed(x, h, dt: Input[()]):\n    h = tanh(W.h @ x + dt * (U.h @ h))\n    return h",
            "reads a further input",
        ),
    ],
    ids=["uses-the-symbol-itself", "reads-a-second-input"],
)
def test_a_cell_that_cannot_read_symbols_is_refused_before_anything_is_made(
    cell: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises((ShapeError, CellError), match=message):
        unrolled.train("language-model", [TEXT], cell=cell, out=tmp_path / "a" / "run", quiet=True, **SMALL)
    assert not (tmp_path / "a").exists()


def test_what_was_understood_of_the_data_is_said_in_words() -> None:
    said = dict(task_of(["the cat sat on the mat", "the dog"] * 20, unit="words").description)
    assert said["text"] == "580 characters in 40 documents"
    assert said["held out"].startswith("the last 58 characters")
    assert said["end"] == "a symbol at the end of each document"
    assert "unknown: " in said["symbols"]
    assert "parameters" in said["model"]
    said = dict(task_of(TEXT, unit="bytes", held_out=0).description)
    assert said["text"] == "612 characters in one document"
    assert said["symbols"] == "256, none can be unknown"
    assert said["end"] == "no symbol for it"
    assert "held out" not in said


def test_rows_are_shown_as_the_network_reads_them() -> None:
    task = task_of(held_out=0, batch_size=2)
    rows = task.shown()
    assert rows[0] == "\ufffd" + TEXT[:63]
    assert len(rows) == 2
    assert rows[1] == TEXT[len(TEXT) // 2 - 1 :][:64]


def test_the_state_of_a_task_is_that_of_its_rows() -> None:
    task = task_of(layers=2)
    _, state = task.loss(next(task.windows(0, 0)), task.state())
    assert len(state) == 2
    assert all(each.h.shape == (4, 6) for each in (*state, *task.state()))


def test_a_sample_is_short_and_leaves_the_model_training() -> None:
    task = task_of(dropout=0.5)
    task.model.train()
    assert task.sample() == task.sample()
    assert 0 < len(task.sample()) <= 200
    assert task.model.training


def test_a_run_says_all_its_options_and_what_was_found() -> None:
    config = task_of(["ab" * 50, "cd" * 50]).run([], steps=7).config
    for table, kind in (("data", TextOptions), ("model", LanguageModelOptions), ("training", WindowOptions)):
        wanted = {option.name for option in fields(kind)} - {"minutes", "symbols"}
        assert set(config[table]) == wanted
    assert config["data"]["end_token"] == "document"
    assert config["data"]["min_count"] == 1
    found = config["recorded"]
    assert found["steps"] == 7
    assert (found["documents"], found["characters"], found["symbols"]) == (2, 200, 6)
    assert (found["tokens"], found["held_out_tokens"], found["held_out_characters"]) == (182, 21, 20)
