from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.cells.texts import MINE
from tests.cli.processes import in_process
from unrolled.backends.llvm import machine
from unrolled.backends.llvm.machine import unavailable
from unrolled.cells import all_cells, get
from unrolled.cli import main
from unrolled.ir.show import definitions
from unrolled.language import parse


@pytest.mark.parametrize("name", all_cells())
def test_every_cell_shows_at_every_stage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--equations", "--latex", "--ir", "--gradient", "--plan"):
        assert main(["show", name, option]) == 0
    assert main(["show", name]) == 0
    assert "parameters" in capsys.readouterr().out


def test_shown_equations_parse_back_to_the_cell(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "lstm", "--equations"])
    assert parse(capsys.readouterr().out) == get("lstm")


def test_notation_chooses_the_letters_of_the_typeset_equations(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "lstm", "--latex", "--notation", "lecture"])
    assert r"\Gamma_{f,t}" in capsys.readouterr().out
    assert main(["show", "lstm", "--latex", "--notation", "lectures"]) == 2
    assert "Did you mean lecture?" in capsys.readouterr().err


def test_several_stages_are_printed_in_the_order_of_the_arrow(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "lstm", "--plan", "--equations"])
    out = capsys.readouterr().out
    assert out.index("def lstm") < out.index("stage 1")


def test_a_step_is_shown_in_numbers_that_follow_the_equations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "lstm", "--step"]) == 0
    shown = capsys.readouterr().out
    parts = [part.splitlines()[1:] for part in shown.split("\n\n")[1:]]
    old, new, after = ({row.split()[0]: [float(each) for each in row.split()[-2:]] for row in part} for part in parts)
    assert list(old) == ["x", "h", "c"]
    assert list(new) == ["i", "f", "g", "o", "c", "h"]
    assert after == {"h": new["h"], "c": new["c"]}
    for unit in range(2):
        c = new["f"][unit] * old["c"][unit] + new["i"][unit] * new["g"][unit]
        assert c == pytest.approx(new["c"][unit], abs=2e-3)
        assert new["o"][unit] * math.tanh(c) == pytest.approx(new["h"][unit], abs=2e-3)
    main(["show", "lstm", "--step"])
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("name", all_cells())
def test_every_cell_shows_a_step_with_all_its_equations(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name, "--step"]) == 0
    shown = capsys.readouterr().out
    assert "nan" not in shown
    for _, node, line in definitions(get(name).program):
        assert not node.args or f"  {line}" in shown


def test_names_that_are_given_twice_are_shown_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = MINE.replace("    return h", "    h = 0 * h\n    return h")
    (tmp_path / "mine.txt").write_text(twice, encoding="utf-8")
    assert main(["show", str(tmp_path / "mine.txt"), "--step"]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  h = "))
    assert set(second.split()[-2:]) <= {"0.000", "-0.000"}
    assert set(first.split()[-2:]).isdisjoint({"0.000", "-0.000"})


def test_a_diagram_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "gru", "--diagram"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("<svg ")
    file = tmp_path / "gru.svg"
    assert main(["show", "gru", str(file), "--diagram"]) == 0
    assert file.read_text(encoding="utf-8") == printed
    assert capsys.readouterr().out == f"written to {file}\n"
    assert main(["show", "gru", "--diagram", "--highlight", "z"]) == 0
    assert capsys.readouterr().out != printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--diagram", "--highlight", "zz"], "the drawing has no equation 'zz'. Did you mean z?"),
        (["--highlight", "z"], "--highlight goes with --diagram"),
        (["gru.svg"], "a file goes with --diagram"),
    ],
)
def test_what_a_diagram_cannot_show_is_said(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "gru", *given]) == 2
    assert message in capsys.readouterr().err


needs_code = pytest.mark.skipif(unavailable() != "", reason=unavailable())


@needs_code
@pytest.mark.parametrize("name", all_cells())
def test_every_cell_shows_its_code(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name, "--llvm"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("; the forward kernel of inference: float32")
    assert "; a tile of" in out
    assert "the backward kernel" not in out
    assert main(["show", name, "--llvm", "--train"]) == 0
    out = capsys.readouterr().out
    assert out.index("; the forward kernel of training") < out.index("; the backward kernel")


@needs_code
def test_the_code_has_the_names_of_the_equations(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "lstm", "--llvm"])
    out = capsys.readouterr().out
    for name in ("i", "f", "g", "o", "c", "h", '"size hidden"', "b.f"):
        assert f"%{name} = " in out, name


@needs_code
def test_assembly_says_what_the_words_of_a_call_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "lstm", "--asm"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(("# the forward kernel of inference", "// the forward kernel of inference"))
    assert "  size hidden\n" in out
    assert "kernel:" in out


@needs_code
def test_code_is_shown_of_a_file_of_equations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text(MINE, encoding="utf-8")
    assert main(["show", str(tmp_path / "mine.txt"), "--asm"]) == 0
    assert "kernel:" in capsys.readouterr().out


@needs_code
def test_code_is_shown_without_torch() -> None:
    shown = in_process("show", "lstm", "--llvm")
    assert shown.returncode == 0
    assert b"torch" not in shown.stderr


def test_where_there_is_no_code_the_reason_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "_unavailable", lambda: "llvmlite cannot be loaded (there is none)")
    assert main(["show", "lstm", "--llvm"]) == 1
    assert capsys.readouterr().err == (
        "UnrolledError: there is no code to show: llvmlite cannot be loaded (there is none)\n"
    )


def test_train_says_which_code_and_goes_with_code_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "lstm", "--train"]) == 2
    assert "--llvm or --asm" in capsys.readouterr().err
