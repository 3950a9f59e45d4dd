"""What a training makes of data of every kind, and what of it is shown and kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import unrolled
from tests.tasks.runs import EACH_KIND, TEXT, trained
from unrolled.cells import get
from unrolled.tasks import LanguageModelRun


def test_texts_in_memory_train_alike_whatever_holds_them() -> None:
    texts = [TEXT[:200], TEXT[:100], "a name.txt"]
    first = trained(texts)
    for data in (tuple(texts), np.array(texts), np.array(texts, dtype=object), {"text": texts}):
        assert same_weights(first, trained(data))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_of_a_frame_trains_as_the_list_of_its_texts(library: str) -> None:
    frames = pytest.importorskip(library)
    texts = [TEXT[:200], TEXT[:100]]
    frame = frames.DataFrame({"title": ["one", "two"], "review": texts, "stars": [1, 2]})
    run = trained(frame, text="review")
    assert same_weights(run, trained(texts))
    assert same_weights(run, trained(frame["review"]))
    assert run.evaluate(frame) == run.evaluate(texts, column="")


def same_weights(one: LanguageModelRun, other: LanguageModelRun) -> bool:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return set(ours) == set(theirs) and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_run_without_held_out_text_says_so_and_keeps_its_last_weights() -> None:
    run = trained([TEXT], held_out=0)
    assert run.held_out_loss is None
    assert run.figures() == [("held-out text", "none")]
    assert repr(run) == f"<LanguageModelRun of {run.unit}, lstm, {run.parameters:,} parameters>"
    assert not any(row["event"] == "evaluation" for row in run.metrics)
    assert run.report
    assert run.card()


@pytest.mark.parametrize("kind", ["characters", "jamo", "lines-of-words"])
def test_a_run_describes_itself_in_a_line_a_page_and_a_card(kind: str, runs: dict[str, LanguageModelRun]) -> None:
    run = runs[kind]
    assert repr(run) == (
        f"<LanguageModelRun of {run.unit}, lstm, {run.parameters:,} parameters, held out {run.held_out_loss:.4f} nats>"
    )
    page, card = run.report, run.card()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "What it writes" in page
    assert "temperature 0.5" in page
    assert page._repr_html_().startswith("<iframe srcdoc=")
    assert f"reads {run.vocabulary.unit.name} and predicts" in card
    assert f"{run.held_out_loss:.4f}" in card
    assert "texts given in Python" in card


@EACH_KIND
def test_a_saved_run_opens_with_all_that_it_was(kind: str, runs: dict[str, LanguageModelRun], tmp_path: Path) -> None:
    run = runs[kind]
    run.save(tmp_path / "run")
    opened = unrolled.load(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"report.html", "README.md", "model.safetensors"}
    assert same_weights(run, opened)
    assert opened.generate(length=30, seed=2) == run.generate(length=30, seed=2)
    assert opened.evaluate([TEXT[:60]]) == run.evaluate([TEXT[:60]])
    assert repr(opened) == repr(run)
    assert opened.config == run.config
    assert not opened.model.training


def test_a_tied_model_of_several_layers_saves_and_opens(tmp_path: Path) -> None:
    run = trained([TEXT], cell="gru", embedding_size=8, tied=True, layers=2, dropout_kind="variational", out=tmp_path)
    opened = unrolled.load(tmp_path)
    assert same_weights(run, opened)
    assert opened.predict("the ") == run.predict("the ")


def test_a_run_is_ready_for_use_and_keeps_the_cell_that_it_was_given() -> None:
    run = trained([TEXT], cell="mgu", dropout=0.9)
    assert run.cell == get("mgu")
    assert not run.model.training
    assert run.predict("the ") == run.predict("the ")


def test_training_learns_real_text(data: Path) -> None:
    text = next((data / "tinyshakespeare").glob("*.txt")).read_text(encoding="utf-8")[:30_000]
    run = trained([text], hidden_size=48, batch_size=16, window=32, epochs=3)
    # A character costs 4.8 bits by frequency alone.
    assert run.held_out_loss is not None
    assert run.held_out_loss / math.log(2) < 3.8


def test_korean_text_trains_saves_opens_and_generates(data: Path, tmp_path: Path) -> None:
    rows = next(iter(sorted((data / "nsmc").glob("*test*")))).read_text(encoding="utf-8").splitlines()[1:200]
    source = tmp_path / "영화 평.txt"
    source.write_text("\n".join(row.split("\t")[1] for row in rows), encoding="utf-8")
    out = tmp_path / "실행" / "첫 번째"
    run = trained(source, out=out, cell="mgu", unit="jamo", batch_size=8)
    opened = unrolled.load(out)
    assert opened.generate("영화", length=30, seed=3) == run.generate("영화", length=30, seed=3)
    assert any("가" <= character <= "힣" for character in opened.generate(length=200))
