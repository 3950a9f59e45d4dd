"""What every command has in common: exit codes, messages, encodings, and a reader that leaves."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.cells.texts import MINE, MISFIT
from tests.cli.processes import MAIN, in_process
from unrolled.cells import get
from unrolled.cli import main
from unrolled.errors import BackendWarning
from unrolled.language import Cell


def test_an_error_is_the_class_and_the_message_with_its_marks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", MISFIT]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ShapeError in cell 'mine', equation h:\n")
    assert "~" in err
    assert "Traceback" not in err
    assert main(["show", "lst"]) == 2
    assert capsys.readouterr().err.startswith("UsageError: there is no cell 'lst'. Did you mean lstm?")


@pytest.mark.parametrize("arguments", [["--debug", "show", "lst"], ["show", "lst", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "Did you mean lstm?" in err


@pytest.mark.parametrize("arguments", [["--debug"], []], ids=["debug", "plain"])
def test_debug_shows_what_is_logged_and_warnings_are_one_line_always(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def saying(_: str) -> Cell:
        logging.getLogger("unrolled.llvm").debug("forward kernel: compiled in %.3f s", 0.02)
        warnings.warn("backend llvm does not run here", BackendWarning, stacklevel=1)
        return get("elman")

    monkeypatch.setattr("unrolled.cells.resolve", saying)
    for _ in range(2):
        assert main(["show", "elman", *arguments]) == 0
        logged = "unrolled.llvm: forward kernel: compiled in 0.020 s\n" if arguments else ""
        assert capsys.readouterr().err == logged + "BackendWarning: backend llvm does not run here\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["shw"], "show"),
        (["cell"], "cells"),
        (["show", "lstm", "--equation"], "--equations"),
        (["--versoin"], "--version"),
    ],
)
def test_an_unknown_command_or_option_suggests_the_nearest(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert hint in capsys.readouterr().err.split("Error:")[1]


def test_a_failure_exits_with_1_and_an_interruption_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    from unrolled.errors import MissingExtraError

    def failing(_: str) -> None:
        raise MissingExtraError("install unrolled[more]")

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("unrolled.cells.resolve", failing)
    assert main(["show", "lstm"]) == 1
    monkeypatch.setattr("unrolled.cells.resolve", interrupted)
    assert main(["show", "lstm"]) == 130


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import unrolled

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"unrolled {unrolled.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["show", "--help"], ["shw"], ["show", "lst"], ["show", "lstm"], ["cells"]]
)
def test_no_numerical_library_is_loaded_for(arguments: list[str]) -> None:
    assert in_process(*arguments).stderr.decode().splitlines()[-1] == "[]"


@pytest.mark.parametrize("encoding", ["cp949", "cp1252", "ascii"])
def test_output_is_utf8_whatever_the_encoding_of_the_console(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE.replace("nobody", "셀 naïve Γ"), encoding="utf-8")
    done = in_process("show", str(file), encoding=encoding)
    assert done.returncode == 0
    assert "셀 naïve Γ" in done.stdout.decode("utf-8")
    assert "hidden·(input + hidden)" in done.stdout.decode("utf-8")
    assert in_process("cells", encoding=encoding).returncode == 0


def test_a_terminal_shows_a_question_mark_for_what_its_encoding_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    terminal = Terminal(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["show", MINE.replace("nobody", "셀 Müller"), "--equations"]) == 0
    assert "? Müller".encode("cp1252") in terminal.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "import sys; from unrolled.cli import main; sys.exit(main(['show', 'lstm']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_a_failure_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "cells"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "OSError: No space left on device\n"
