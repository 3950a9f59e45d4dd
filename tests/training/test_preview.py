"""A dry run tells what was understood and leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import unrolled
from unrolled.data.corpus import corpus
from unrolled.options import settle
from unrolled.tasks import LanguageModelTask
from unrolled.training.loop import Training
from unrolled.training.preview import trial

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 40


@pytest.mark.parametrize("options", [{}, {"minutes": 20.0}, {"unit": "words", "end_token": "line"}], ids=str)
def test_a_dry_run_shows_rows_symbols_parameters_memory_and_time(
    options: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unrolled.train("language-model", [TEXT], out=tmp_path / "run", dry_run=True, batch_size=6, window=8, **options)
    shown = capsys.readouterr().err
    for pattern in (
        r"text +2,040 characters in one document",
        r"held out +the last 204 characters",
        r"symbols +\d+, unknown: 0.00% of what is trained on",
        r"model +lstm, [\d,]+ parameters",
        r"row 1 +'",
        r"row 5 +'",
        r"pace +[\d.]+ ms a step",
        r"time +(about .* for .* steps|20 minutes, about [\d,]+ steps, [\d.]+ epochs)",
        r"memory +[\d,]+ MiB",
    ):
        assert re.search(pattern, shown), pattern
    assert not (tmp_path / "run").exists()


def test_a_trial_puts_everything_back() -> None:
    torch.set_num_threads(1)
    data, model, training = settle("language-model", {"held_out": 0.2, "hidden_size": 8, "batch_size": 4}).values()
    task = LanguageModelTask(corpus([TEXT]), data, model, training)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    random = torch.get_rng_state()
    trial(task, Training(task, task.training))
    assert all(torch.equal(task.model.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_text_of_one_window_can_be_tried() -> None:
    run = unrolled.train("language-model", ["abcabcabc"], held_out=0.0, epochs=1, hidden_size=4, dry_run=True)
    assert run.metrics == []
    assert not run.model.training


def test_training_and_loading_leave_the_random_numbers_of_the_caller_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    unrolled.train("language-model", [TEXT], epochs=1, hidden_size=4, quiet=True, out=tmp_path / "run")
    unrolled.load(tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_rows_of_a_dry_run_are_what_the_network_reads(capsys: pytest.CaptureFixture[str]) -> None:
    unrolled.train("language-model", ["가나다라 " * 200], unit="jamo", dry_run=True, batch_size=2)
    assert re.search(r"row 1 +'.가나다라 가나다라", capsys.readouterr().err)
