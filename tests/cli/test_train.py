"""The commands around a run: train, generate and evaluate."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cells.texts import MINE
from tests.cli.processes import MAIN
from unrolled.cli import main

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 12

SMALL = ["--hidden-size", "8", "--batch-size", "4", "--window", "16", "--epochs", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text(TEXT)
    (folder / "mine.py").write_text(MINE)
    cell = str(folder / "mine.py")
    assert (
        main(
            ["train", "language-model", str(folder / "text.txt"), "--out", str(folder / "run"), "--cell", cell, *SMALL]
        )
        == 0
    )
    return folder


def test_training_says_what_to_do_next_and_progress_goes_to_the_error_stream(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "language-model", str(made / "text.txt"), "--out", str(out), *SMALL]) == 0
    shown, progress = capsys.readouterr()
    assert shown == f"written to {out}. Next: unrolled generate {out}\n"
    assert re.search(r"step 9/9: [0-9.]+ bits, held out [0-9.]+ bits, [0-9,]+ characters/s", progress)


def test_a_run_generates_from_a_prompt(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(made / "run"), "--prompt", "the ", "--length", "30"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("the ")
    assert len(out) == len("the ") + 30 + 1
    assert main(["generate", str(made / "run"), "--prompt", "the ", "--top", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_run_is_evaluated_on_files(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(made / "run"), str(made / "text.txt")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("bits  ")
    assert main([*arguments, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"nats", "bits", "perplexity"}


def test_every_option_of_training_is_a_flag_and_a_keyword_of_one_name() -> None:
    from dataclasses import fields

    from unrolled.options import LanguageModelOptions, TrainingOptions

    done = subprocess.run([sys.executable, "-c", MAIN, "train", "--help"], capture_output=True, text=True, check=True)
    flags = set(re.findall(r"--[a-z-]+", done.stdout))
    for option in (*fields(LanguageModelOptions), *fields(TrainingOptions)):
        assert "--" + option.name.replace("_", "-") in flags


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "language-model", "{}/absent.txt", "--out", "{}/new"], "No such file"),
        (["train", "language-model", "{}", "--out", "{}/new"], "Is a directory"),
        (["train", "language-model", "{}/text.txt", "--out", "{}/run"], "is there already"),
        (["train", "language-modle", "{}/text.txt", "--out", "{}/new"], "Did you mean language-model?"),
        (["train", "language-model", "{}/text.txt", "--out", "{}/new", "--cell", "lst"], "Did you mean lstm?"),
        (["train", "language-model", "{}/text.txt", "--out", "{}/new", "--hiden-size", "3"], "--hidden-size"),
        (["train", "language-model", "{}/text.txt", "--out", "{}/new", "--hidden-size", "0"], "must be above 0"),
        (["train", "language-model", "{}/text.txt", "--out", "{}/new", "--learning-rate", "nan"], "must be above 0"),
        (["train", "language-model", "{}/text.txt", "--out", "{}/new", "--dropout", "1"], "below 1"),
        (["train", "language-model", "{}/text.txt"], "--out"),
        (["generate", "{}/nowhere"], "there is no folder"),
        (["generate", "{}"], "is no run"),
        (["generate", "{}/run", "--prompt", "고양이"], "not trained on: 고 양 이"),
        (["generate", "{}/run", "--temperature", "0"], "temperature must be above 0"),
        (["generate", "{}/run", "--length", "-1"], "--length"),
        (["evaluate", "{}/run", "{}/absent.txt"], "No such file"),
        (["evaluate", "{}/run"], "data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_clear_line_with_exit_code_2_and_writes_nothing(
    arguments: list[str], message: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("{}", str(made)) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (made / "new").exists()


def test_ctrl_c_writes_what_was_learned_so_far_and_exits_with_130(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "language-model", str(made / "text.txt"), "--out", str(out), *SMALL, "--minutes", "5"]
    arguments += ["--evaluations", "1000"]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stderr.readline().startswith("step ")
    process.send_signal(signal.SIGINT)
    shown, progress = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown == f"interrupted; written to {out}. Next: unrolled generate {out}\n"
    assert "Traceback" not in progress
    assert main(["generate", str(out), "--length", "5"]) == 0


def at_a_terminal(*arguments: str) -> str:
    """What a command shows in a terminal, its control sequences left out."""
    leader, follower = pty.openpty()
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments], stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    # The end of a terminal is an error to its reader.
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:
        pass
    os.close(leader)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


def test_at_a_terminal_the_progress_bar_fits_a_line_and_ends_with_the_held_out_loss(made: Path, tmp_path: Path) -> None:
    arguments = ["train", "language-model", str(made / "text.txt"), "--out", str(tmp_path / "run"), *SMALL]
    shown = at_a_terminal(*arguments)
    drawn = [line for line in re.split(r"[\r\n]+", shown) if "steps" in line]
    assert all(len(line) <= 80 for line in drawn)
    assert re.search(r"9/9 steps [0-9.]+ bits, held out [0-9.]+ +[0-9,]+ characters/s", drawn[-1])
