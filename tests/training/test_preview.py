"""A dry run tells what was understood and leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import unrolled

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
        r"time +(about .* for .* steps|20 minutes, about [\d,]+ steps)",
        r"memory +[\d,]+ MiB",
    ):
        assert re.search(pattern, shown), pattern
    assert not (tmp_path / "run").exists()


def test_a_dry_run_does_not_change_what_training_would_do() -> None:
    torch.set_num_threads(1)
    plain = unrolled.train("language-model", [TEXT], epochs=1, quiet=True, hidden_size=8)
    dry = unrolled.train("language-model", [TEXT], epochs=1, quiet=True, hidden_size=8, dry_run=True)
    again = unrolled.train("language-model", [TEXT], epochs=1, quiet=True, hidden_size=8)
    assert dry.metrics == []
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight)


def test_rows_of_a_dry_run_are_what_the_network_reads(capsys: pytest.CaptureFixture[str]) -> None:
    unrolled.train("language-model", ["가나다라 " * 200], unit="jamo", dry_run=True, batch_size=2)
    assert re.search(r"row 1 +'.가나다라 가나다라", capsys.readouterr().err)
