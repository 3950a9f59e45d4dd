"""The commands that make runs: train and config."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import SMALL, TEXT
from tests.cli.processes import MAIN
from unrolled.cli import main
from unrolled.options import TABLES


def test_training_says_what_was_understood_how_it_went_and_what_to_do_next(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "language-model", str(made / "text.txt"), "--out", str(out), *SMALL]) == 0
    shown, progress = capsys.readouterr()
    assert shown == f"written to {out}. Next: unrolled generate {out}, or look at {out}/report.html\n"
    for pattern in (
        r"^text +612 characters in one document$",
        r"^step 9/9: [0-9.]+ bits, held out [0-9.]+ bits( \(best\))?, [0-9,]+ characters/s$",
        r"^training +complete; 9 steps, 550 characters, [0-9.]+ s$",
        r"^held out +[0-9.]+ nats, [0-9.]+ bits a character, at step [0-9]$",
    ):
        assert re.search(pattern, progress, re.MULTILINE), pattern


def test_quiet_training_says_only_where_the_run_is(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "language-model", str(made / "text.txt"), "--out", f"{tmp_path}/run", "--quiet", *SMALL]) == 0
    shown, progress = capsys.readouterr()
    assert shown.startswith("written to ")
    assert progress == ""


def test_a_run_without_a_name_is_named_after_its_file_and_nothing_is_written_over(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text", "text-2", "text-3"):
        assert main(["train", "language-model", str(made / "text.txt"), "--quiet", *SMALL]) == 0
        assert (tmp_path / "runs" / name / "config.toml").is_file()


def test_a_dry_run_writes_nothing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "language-model", str(made / "text.txt"), "--dry-run", *SMALL]) == 0
    assert list(tmp_path.iterdir()) == []


def test_every_option_of_training_is_a_flag_of_its_name() -> None:
    done = subprocess.run([sys.executable, "-c", MAIN, "train", "--help"], capture_output=True, text=True, check=True)
    flags = set(re.findall(r"--[a-z-]+", done.stdout))
    for kind in TABLES["language-model"].values():
        for option in fields(kind):
            assert "--" + option.name.replace("_", "-") in flags


def test_the_printed_configuration_is_a_file_for_training_and_flags_go_before_it(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "language-model"]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "options.toml"
    path.write_text(printed.replace("hidden_size = 256", "hidden_size = 9").replace("epochs = 10", "epochs = 2"))
    arguments = ["train", "language-model", str(made / "text.txt"), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*arguments, "--config", str(path), "--epochs", "1"]) == 0
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text())
    assert config["model"]["hidden_size"] == 9
    # The flag says what is the default elsewhere; it still goes before the file.
    assert config["training"]["epochs"] == 1


def test_a_flag_that_repeats_the_default_goes_before_a_file(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text("[model]\nhidden_size = 9\nlayers = 2\n[training]\nepochs = 1\n")
    arguments = ["train", "language-model", str(made / "text.txt"), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*arguments, "--config", str(path), "--layers", "1"]) == 0
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["model"]["layers"] == 1


WRONG: list[tuple[list[str], str]] = [
    (["{}/absent.txt"], "there is no file {}/absent.txt"),
    (["{}"], "{} is a folder: name the files in it"),
    (["{}/empty.txt"], "{}/empty.txt is empty"),
    (["{}/one.txt"], "too few to learn from"),
    (["{}/cp949.txt"], "{}/cp949.txt is no UTF-8 text: byte 0xbf at position 0; it may be cp949: --encoding cp949"),
    (["{}/text.txt", "--encoding", "utf-9"], "utf-8"),
    (["{}/text.txt", "--out", "{}/run"], "is there already"),
    (["{}/text.txt", "--cell", "lst"], "Did you mean lstm?"),
    (["{}/text.txt", "--hiden-size", "3"], "--hidden-size"),
    (["{}/text.txt", "--hidden-size", "0"], "must be above 0"),
    (["{}/text.txt", "--learning-rate", "nan"], "must be above 0"),
    (["{}/text.txt", "--dropout", "1"], "below 1"),
    (["{}/text.txt", "--unit", "character"], "Did you mean characters?"),
    (["{}/text.txt", "--tied"], "embedding_size 256"),
    (["{}/text.txt", "--text", "review"], "review"),
    (["{}/text.txt", "--config", "{}/absent.toml"], "No such file"),
    (["{}/text.txt", "--start-from", "{}/absent"], "there is no folder"),
    (["{}/text.txt", "--start-from", "{}/run", "--hidden-size", "99"], "leave out hidden_size"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: " ".join(value) if value else "")
def test_wrong_input_is_one_clear_line_with_exit_code_2_and_writes_nothing(
    arguments: list[str], message: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "empty.txt").write_text("")
    (made / "one.txt").write_text("a")
    (made / "cp949.txt").write_bytes(
        "영화가 정말 재미있었어요. 다시 보고 싶습니다. 배우들의 연기도 좋았고요.\n".encode("cp949")
    )
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    given = [argument.replace("{}", str(made)) for argument in arguments]
    out = [] if "--out" in given else ["--out", str(tmp_path / "new")]
    assert main(["train", "language-model", *given, *out]) == 2
    shown, err = capsys.readouterr()
    assert shown == ""
    assert message.replace("{}", str(made)) in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "new").exists()
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_a_folder_in_the_working_directory_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afolder").mkdir()
    assert main(["train", "language-model", "afolder", "--dry-run"]) == 2
    assert "afolder is a folder: name the files in it" in capsys.readouterr().err


def test_a_training_whose_scores_explode_ends_in_one_line(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["--learning-rate", "1e30", "--clip", "0", "--optimiser", "sgd", "--epochs", "30", "--patience", "0"]
    arguments = ["train", "language-model", str(made / "text.txt"), "--out", str(tmp_path / "run"), *SMALL[:-2], *wild]
    code = main(arguments)
    err = capsys.readouterr().err
    assert code in (0, 1)
    assert "Traceback" not in err
    assert (code == 0) or "training diverged" in err.splitlines()[-1]
    assert (tmp_path / "run" / "report.html").exists()


def test_data_that_are_not_there_any_more_are_asked_for(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_text(TEXT)
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "train", "language-model", str(text), "--out", str(run), *SMALL[:-2], "--epochs",
         "400", "--patience", "0"], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while not process.stderr.readline().startswith("step "):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    text.rename(tmp_path / "moved.txt")
    assert main(["train", "--resume", str(run)]) == 2
    assert f"give them again, as in unrolled train language-model FILE --resume {run}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a task and files"),
        (["language-model"], "give a task and files"),
        (["language-modle", "text.txt"], "Did you mean language-model?"),
        (["--resume", "absent"], "there is no folder absent"),
        (["--resume", "{}/run"], "has no checkpoint"),
        (["--resume", "{}/run", "--epochs", "3"], "leave out epochs"),
    ],
)
def test_a_command_that_lacks_something_says_what(
    arguments: list[str], message: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *(argument.replace("{}", str(made)) for argument in arguments)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_ctrl_c_writes_what_was_learned_so_far_exits_with_130_and_resumes(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "language-model", str(made / "text.txt"), "--out", str(out), *SMALL[:-2], "--epochs", "40"]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments, "--patience", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    while not process.stderr.readline().startswith("step "):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    shown, progress = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown == f"interrupted; what was learned is in {out}. To go on: unrolled train --resume {out}\n"
    assert "stopping after this step" in progress
    assert "Traceback" not in progress
    assert main(["generate", str(out), "--length", "5"]) == 0
    assert main(["train", "--resume", str(out), "--quiet"]) == 0
    assert not (out / "checkpoint.safetensors").exists()


def test_a_request_to_terminate_ends_the_training_like_ctrl_c(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", "language-model", str(made / "text.txt"), "--out", str(out), "--minutes", "5"]
    process = subprocess.Popen([sys.executable, "-c", MAIN, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("step "):
        assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)
    # It ends as the signal ends a process, once the run is written.
    assert process.returncode == -signal.SIGTERM
    assert (out / "checkpoint.safetensors").exists()
    assert (out / "report.html").exists()


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
    drawn = [line for line in re.split(r"[\r\n]+", shown) if re.search(r"\d steps .* bits", line)]
    assert all(len(line) <= 80 for line in drawn)
    assert re.search(r"9/9 steps [0-9.]+ bits, held out [0-9.]+ +[0-9,]+ characters/s", drawn[-1])


@pytest.mark.parametrize("encoding", ["cp949", "cp1252", "ascii"])
def test_korean_trains_where_the_console_has_another_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "한글.txt").write_text("영화가 정말 재미있었어요.\n" * 40, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    arguments = ["train", "language-model", str(tmp_path / "한글.txt"), "--out", str(tmp_path / "run"), *SMALL]
    done = subprocess.run([sys.executable, "-c", MAIN, *arguments], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode()
    arguments = ["generate", str(tmp_path / "run"), "--prompt", "영화", "--length", "3"]
    done = subprocess.run([sys.executable, "-c", MAIN, *arguments], capture_output=True, env=environment, check=False)
    assert done.stdout.decode("utf-8").startswith("영화")


def test_a_text_in_another_encoding_is_read_when_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(("영화가 정말 재미있었어요.\n" * 40).encode("cp949"))
    arguments = ["train", "language-model", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*arguments, "--encoding", "cp949", *SMALL]) == 0
    config = tomllib.loads((tmp_path / "run" / "config.toml").read_text(encoding="utf-8"))
    assert config["data"]["encoding"] == "cp949"
    assert config["recorded"]["characters"] == len("영화가 정말 재미있었어요.\n" * 40)


def test_the_rows_of_a_table_are_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.tsv").write_text("id\treview\n" + "".join(f"{i}\tgood film {i}\n" for i in range(60)))
    arguments = ["train", "language-model", str(tmp_path / "table.tsv"), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--text", "review", *SMALL]) == 0
    assert "characters in 60 documents" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "run"), "--length", "20"]) == 0
    assert TEXT not in capsys.readouterr().out
