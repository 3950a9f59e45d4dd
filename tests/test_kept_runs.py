"""Runs of earlier versions, kept for ever: what they predicted then, they predict now. They are never made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import unrolled

RUNS = Path(__file__).parent / "runs"


@pytest.mark.parametrize("folder", sorted(path for path in RUNS.iterdir() if path.is_dir()), ids=lambda path: path.name)
def test_a_kept_run_opens_and_predicts_as_it_did(folder: Path) -> None:
    run = unrolled.load(folder)
    expected = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))
    for prompt, likeliest in expected["predict"].items():
        assert [name for name, _ in run.predict(prompt, top=4)] == [name for name, _ in likeliest]
        assert [p for _, p in run.predict(prompt, top=4)] == pytest.approx([p for _, p in likeliest], rel=1e-4)
    for text, tokens in expected["log_probabilities"].items():
        found = run.log_probabilities(text)
        assert [name for name, _ in found] == [name for name, _ in tokens]
        assert [value for _, value in found] == pytest.approx([value for _, value in tokens], rel=1e-4, abs=1e-6)
    assert run.generate("", length=60, temperature=0.0) == expected["generate"][0]
    assert run.generate("한", length=20, temperature=0.0) == expected["generate"][1]
    assert run.metrics
    assert "<html" in run.report
