"""A training that begins with another run's weights and symbols."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from unrolled.errors import UsageError

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 40
SMALL: dict[str, Any] = {"hidden_size": 24, "batch_size": 4, "window": 16, "epochs": 4, "learning_rate": 0.02}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("begun") / "run"
    unrolled.train("language-model", [TEXT], out=folder, quiet=True, **SMALL)
    return folder


def first_loss(run: Any) -> float:
    return float(next(row["loss"] for row in run.metrics if row["event"] == "step"))


def test_a_second_text_begins_with_a_lower_loss_than_from_scratch_and_stays_ahead(begun: Path) -> None:
    second = [TEXT.replace("log", "rug").replace("cat", "cow")]
    options = {**SMALL, "epochs": 1, "evaluations": 10, "patience": 0}
    scratch = unrolled.train("language-model", second, quiet=True, **options)
    started = unrolled.train(
        "language-model",
        second,
        start_from=begun,
        quiet=True,
        **options,
    )
    assert first_loss(started) < 0.6 * first_loss(scratch)
    losses = [[row["loss"] for row in run.metrics if row["event"] == "evaluation"] for run in (started, scratch)]
    assert all(ahead < behind for ahead, behind in zip(*losses, strict=True))


def test_new_symbols_are_appended_counted_and_said(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = unrolled.load(begun)
    run = unrolled.train("language-model", ["ZebrÄ 곰" * 20 + TEXT], start_from=begun, epochs=1)
    known = len(before.vocabulary)
    assert run.vocabulary.symbols[: len(before.vocabulary.symbols)] == before.vocabulary.symbols
    assert set(run.vocabulary.symbols[len(before.vocabulary.symbols) :]) == set("ZbrÄ곰")
    assert len(run.vocabulary) == known + 5
    assert "5 symbols are new to the run that this starts from: " in capsys.readouterr().err
    assert run.model.symbols == known + 5


def test_before_a_step_the_model_predicts_old_text_as_the_earlier_run_did(begun: Path) -> None:
    before = unrolled.load(begun)
    start = unrolled.train("language-model", ["ZebrÄ 곰" * 20 + TEXT], start_from=begun, dry_run=True, quiet=True)
    old, new = before.predict("the ", top=8), dict(start.predict("the ", top=99))
    share = sum(probability for symbol, probability in new.items() if symbol in before.vocabulary.symbols)
    assert share > 0.9
    for symbol, probability in old:
        if symbol in new and probability > 0.01:
            assert new[symbol] / share == pytest.approx(probability, rel=0.05)


@pytest.mark.parametrize(
    "options", [{"embedding_size": 24}, {"embedding_size": 24, "tied": True}, {"layers": 2}], ids=str
)
def test_every_kind_of_model_can_be_started_from(options: dict[str, Any], tmp_path: Path) -> None:
    unrolled.train("language-model", [TEXT], out=tmp_path / "run", quiet=True, **{**SMALL, **options})
    run = unrolled.train("language-model", ["new Ä" * 30 + TEXT], start_from=tmp_path / "run", quiet=True, epochs=1)
    assert first_loss(run) < 1.5
    assert run.config["model"]["layers"] == options.get("layers", 1)


def test_the_run_that_is_started_from_stays_as_it_is(begun: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in begun.iterdir()}
    unrolled.train("language-model", ["!?" * 30 + TEXT], start_from=begun, out=tmp_path / "run", quiet=True, epochs=1)
    assert {path.name: path.read_bytes() for path in begun.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 25}, "the run to start from has hidden_size 24: leave out hidden_size"),
        ({"unit": "words"}, "the run to start from has unit characters: leave out unit"),
        ({"cell": "gru"}, "the run to start from has cell lstm: leave out cell"),
        ({"tied": True}, "the run to start from has tied False: leave out tied"),
    ],
    ids=str,
)
def test_what_the_weights_are_made_for_cannot_be_changed(options: dict[str, Any], message: str, begun: Path) -> None:
    with pytest.raises(UsageError, match=message):
        unrolled.train("language-model", [TEXT], start_from=begun, **options)


def test_what_the_weights_are_made_for_may_be_said_again(begun: Path) -> None:
    run = unrolled.train("language-model", [TEXT], start_from=begun, cell="lstm", hidden_size=24, epochs=1, quiet=True)
    assert run.config["model"]["hidden_size"] == 24


@pytest.mark.parametrize("cell", ["gru-cho", "peephole-lstm", "mgu"])
def test_old_symbols_keep_their_weights_whatever_the_cell(cell: str, tmp_path: Path) -> None:
    before = unrolled.train("language-model", [TEXT], cell=cell, out=tmp_path / "run", quiet=True, **SMALL)
    start = unrolled.train("language-model", ["ZÄ" * 90 + TEXT], start_from=tmp_path / "run", dry_run=True, quiet=True)
    old, new = dict(before.predict("the ", top=99)), dict(start.predict("the ", top=99))
    share = sum(new[symbol] for symbol in old)
    for symbol, probability in old.items():
        assert new[symbol] / share == pytest.approx(probability, rel=1e-3, abs=1e-6)


STRUCTURED = """\
@cell(structure={"W.h": low_rank(3)})
def mine(x, h):
    h = tanh(W.h @ x + U.h @ h)
    return h
"""


def test_a_map_that_new_symbols_cannot_be_added_to_is_said(tmp_path: Path) -> None:
    unrolled.train("language-model", [TEXT], cell=STRUCTURED, out=tmp_path / "run", quiet=True, **SMALL)
    with pytest.raises(UsageError, match=r"2 symbols are new .* cannot be added to: only a run with an embedding_size"):
        unrolled.train("language-model", ["ZÄ" * 90 + TEXT], start_from=tmp_path / "run", quiet=True)
    run = unrolled.train("language-model", [TEXT], start_from=tmp_path / "run", quiet=True, epochs=1)
    assert first_loss(run) < 1.5


def test_with_learned_vectors_any_cell_takes_new_symbols(tmp_path: Path) -> None:
    options = {**SMALL, "embedding_size": 6}
    unrolled.train("language-model", [TEXT], cell=STRUCTURED, out=tmp_path / "run", quiet=True, **options)
    run = unrolled.train("language-model", ["ZÄ" * 90 + TEXT], start_from=tmp_path / "run", quiet=True, epochs=1)
    assert first_loss(run) < 2.5
