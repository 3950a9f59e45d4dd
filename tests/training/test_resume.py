"""A training that was interrupted and resumed is the one that was not."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import unrolled
from tests.training.interrupting import InterruptAfter
from unrolled.errors import UnrolledError, UsageError
from unrolled.tasks import LanguageModelRun
from unrolled.tasks.base import Learner
from unrolled.training.loop import Event, Stopped

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 30
SMALL: dict[str, Any] = {"hidden_size": 8, "batch_size": 4, "window": 16, "epochs": 3, "dropout": 0.3}
FILES = {"config.toml", "cell.txt", "model.safetensors", "vocabulary.json", "metrics.jsonl", "report.html", "README.md"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def silent(events: Iterator[Event], task: Learner) -> Iterator[Event]:
    return events


def weights_of(run: LanguageModelRun) -> dict[str, Tensor]:
    return dict(run.model.state_dict())


def assert_same(run: LanguageModelRun, other: LanguageModelRun) -> None:
    for name, weight in weights_of(other).items():
        assert torch.equal(weights_of(run)[name], weight), name
    for kind in ("step", "evaluation"):
        rows = [[row for row in each.metrics if row["event"] == kind] for each in (run, other)]
        for row, same in zip(*rows, strict=True):
            assert {**row, "seconds": 0} == {**same, "seconds": 0}


# Before the first evaluation, between two, at the end of an epoch, beyond the point of the best weights.
@pytest.mark.parametrize("points", [[1], [7], [22], [23], [5, 6, 40], [65]], ids=str)
def test_resumed_equals_uninterrupted_bit_for_bit(points: list[int], text: Path, tmp_path: Path) -> None:
    whole = unrolled.train("language-model", text, out=tmp_path / "whole", show=silent, **SMALL)
    assert whole.config["recorded"]["steps"] == 66
    out = tmp_path / "run"
    run = unrolled.train("language-model", text, out=out, show=InterruptAfter(points[0]), **SMALL)
    assert run.reason == "interrupted"
    for point in points[1:]:
        torch.rand(3)
        assert unrolled.train(resume=out, show=InterruptAfter(point)).reason == "interrupted"
    torch.rand(3)
    run = unrolled.train(resume=out, show=silent)
    assert run.reason == "complete"
    assert_same(run, whole)
    assert_same(unrolled.load(out), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"optimiser": "sgd", "learning_rate": 0.5},
        {"recurrent_dropout": 0.2, "dropout_kind": "variational", "embedding_size": 8, "tied": True},
        {"cell": "mgu", "layers": 2, "unit": "words", "end_token": "line", "reduction": "sum"},
        {"checkpoint_every": 4, "held_out": 0.0},
        {"learning_rate": 3.0, "evaluations": 40, "patience": 12},
    ],
    ids=str,
)
def test_resuming_is_exact_for_every_kind_of_training(options: dict[str, Any], text: Path, tmp_path: Path) -> None:
    options = {**SMALL, **options}
    whole = unrolled.train("language-model", text, quiet=True, **options)
    unrolled.train("language-model", text, out=tmp_path / "run", show=InterruptAfter(9), **options)
    assert_same(unrolled.train(resume=tmp_path / "run", quiet=True), whole)


def test_resuming_is_exact_where_documents_begin_anew(tmp_path: Path) -> None:
    texts = [line for line in TEXT.split("\n") if line]
    whole = unrolled.train("language-model", texts, quiet=True, **SMALL)
    unrolled.train("language-model", texts, out=tmp_path / "run", show=InterruptAfter(9), **SMALL)
    with pytest.raises(UsageError, match="was not made from files: give its data again"):
        unrolled.train(resume=tmp_path / "run")
    assert_same(unrolled.train("language-model", texts, resume=tmp_path / "run", quiet=True), whole)


def test_minutes_are_fixed_and_recorded_so_that_resuming_is_exact(text: Path, tmp_path: Path) -> None:
    options = {**SMALL, "minutes": 0.05, "patience": 0}
    run = unrolled.train("language-model", text, out=tmp_path / "run", show=InterruptAfter(20), **options)
    steps = run.config["recorded"]["steps"]
    assert run.reason == "interrupted"
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["recorded"]["steps"] == steps
    resumed = unrolled.train(resume=tmp_path / "run", quiet=True)
    assert resumed.config["recorded"]["steps"] == steps
    assert [row["number"] for row in resumed.metrics if row["event"] == "step"] == list(range(1, steps + 1))


class CopyAtTheEnd:
    """Copies the folder as a process leaves it that is killed after its last checkpoint."""

    def __init__(self, folder: Path, copy: Path):
        self.folder, self.copy = folder, copy

    def __call__(self, events: Iterator[Event], task: Learner) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Stopped):
                shutil.copytree(self.folder, self.copy)
            yield event


@pytest.mark.parametrize(
    "options", [{}, {"held_out": 0.0}, {"learning_rate": 3.0, "evaluations": 40, "patience": 3}], ids=str
)
def test_a_training_killed_between_its_last_step_and_its_end_is_at_its_end(
    options: dict[str, Any], text: Path, tmp_path: Path
) -> None:
    options = {**SMALL, **options}
    show = CopyAtTheEnd(tmp_path / "run", tmp_path / "copy")
    whole = unrolled.train("language-model", text, out=tmp_path / "run", show=show, **options)
    resumed = unrolled.train(resume=tmp_path / "copy", quiet=True)
    assert resumed.reason == whole.reason
    assert_same(resumed, whole)
    assert not (tmp_path / "copy" / "checkpoint.safetensors").exists()


CLOCKED = """\
@cell
def clocked(x, h, c):
    c = where(tick((1, 2, 4, 8)) > 0, tanh(W.c @ x + U.c @ h), c)
    h = 0.5 * h + tanh(c)
    return h, c
"""


def test_a_cell_with_a_clock_and_two_states_resumes_exactly(text: Path, tmp_path: Path) -> None:
    options = {**SMALL, "cell": CLOCKED}
    whole = unrolled.train("language-model", text, quiet=True, **options)
    unrolled.train("language-model", text, out=tmp_path / "run", show=InterruptAfter(9), **options)
    assert_same(unrolled.train(resume=tmp_path / "run", quiet=True), whole)


@pytest.mark.parametrize("wait", [0.0, 0.3, 0.8])
def test_a_killed_training_resumes_from_its_last_checkpoint_to_the_same_weights(
    wait: float, text: Path, tmp_path: Path
) -> None:
    options = {**SMALL, "epochs": 60, "patience": 0}
    whole = unrolled.train("language-model", text, quiet=True, **options)
    code = (
        "import sys, torch, unrolled; torch.set_num_threads(1); "
        f"unrolled.train('language-model', sys.argv[1], out=sys.argv[2], quiet=True, checkpoint_every=3, **{options!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(text), str(tmp_path / "run")])
    while not (tmp_path / "run" / "checkpoint.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(wait)
    process.kill()
    process.wait()
    assert {"config.toml", "model.safetensors"} <= {path.name for path in (tmp_path / "run").iterdir()}
    unrolled.load(tmp_path / "run")
    assert_same(unrolled.train(resume=tmp_path / "run", quiet=True), whole)


def test_a_complete_run_has_all_its_files_and_no_checkpoint(text: Path, tmp_path: Path) -> None:
    unrolled.train("language-model", text, out=tmp_path / "run", quiet=True, **SMALL)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    with pytest.raises(UsageError, match=r"has no checkpoint: .* --start-from"):
        unrolled.train(resume=tmp_path / "run")


def test_an_interrupted_run_can_be_used_and_has_a_checkpoint(text: Path, tmp_path: Path) -> None:
    run = unrolled.train("language-model", text, out=tmp_path / "run", show=InterruptAfter(3), **SMALL)
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {"checkpoint.safetensors"}
    assert unrolled.load(tmp_path / "run").generate("the ", length=20) == run.generate("the ", length=20)


def test_an_interruption_returns_a_run_where_nothing_is_written(text: Path) -> None:
    run = unrolled.train("language-model", text, show=InterruptAfter(3), **SMALL)
    assert run.reason == "interrupted"
    assert run.generate("the ", length=5).startswith("the ")


def test_after_training_ctrl_c_is_what_it_was_before(text: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    unrolled.train("language-model", text, quiet=True, **SMALL)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "text.txt").write_text(TEXT)
    unrolled.train("language-model", folder / "text.txt", out=folder / "run", show=InterruptAfter(5), **SMALL)
    return folder


@pytest.fixture
def folder(interrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted / "run", tmp_path / "copied"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 9}, "resume goes on with the options of the run: leave out hidden_size"),
        ({"out": "elsewhere", "epochs": 3}, "leave out out, epochs"),
        ({"start_from": "elsewhere"}, "leave out start_from"),
        ({"dry_run": True}, "leave out dry_run"),
        ({"task": "classify"}, "is a run of language-model, not of classify"),
        ({"data": [TEXT + "!"]}, "the data of .* have changed since"),
    ],
    ids=str,
)
def test_what_resuming_cannot_change_is_said(options: dict[str, Any], message: str, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match=message):
        unrolled.train(resume=folder, **options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_data_that_are_gone_can_be_given_again(folder: Path, interrupted: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.txt"
    moved.write_text(TEXT)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace(str(interrupted / "text.txt"), str(tmp_path / "gone.txt")))
    with pytest.raises(UsageError, match=r"gone\.txt"):
        unrolled.train(resume=folder)
    assert unrolled.train("language-model", moved, resume=folder, quiet=True).reason == "complete"


@pytest.mark.parametrize("keep", [0, 8, 200, -1])
def test_a_damaged_checkpoint_is_named_and_the_run_stays_as_it_is(keep: int, folder: Path) -> None:
    path = folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match=r"checkpoint\.safetensors is damaged"):
        unrolled.train(resume=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    unrolled.load(folder)


def test_a_last_row_of_metrics_that_was_cut_is_left_out(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    whole = len(unrolled.load(folder).metrics)
    path.write_bytes(path.read_bytes()[:-5])
    assert len(unrolled.load(folder).metrics) == whole - 1
    assert unrolled.train(resume=folder, quiet=True).reason == "complete"


def test_a_training_that_diverges_says_so_and_keeps_what_was_learned_before(text: Path, tmp_path: Path) -> None:
    options = {**SMALL, "learning_rate": 1e38, "clip": 1e30, "epochs": 10, "batch_size": 2}
    with pytest.raises(UnrolledError, match=r"diverged: 11 steps in a row .* lower learning_rate .* is in .*run"):
        unrolled.train("language-model", text, out=tmp_path / "run", quiet=True, **options)
    run = unrolled.load(tmp_path / "run")
    assert run.reason == "diverged"
    assert all(bool(weight.isfinite().all()) for weight in weights_of(run).values())
