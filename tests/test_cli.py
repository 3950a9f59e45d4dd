from __future__ import annotations

import io
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

from unrolled.cells import all_cells, get, resolve
from unrolled.cli import main
from unrolled.errors import CellError, ShapeError, UsageError
from unrolled.ir.plan import groups_of
from unrolled.ir.program import bind
from unrolled.ir.structure import STRUCTURES
from unrolled.ir.summary import ENTRIES, Formula, parameter_formula, summary, typical_plan
from unrolled.language import parse

MINE = """\
@cell(source="nobody")
def mine(x, h):
    h = tanh(W.h @ x + U.h @ h)
    return h
"""
TWO = MINE + MINE.replace("mine", "my_other")
MISFIT = MINE.replace("U.h @ h", "U.h @ x * h")
MANY_STRUCTURES = """\
@cell(axes={"V.q": "slots", "V.k": "slots", "V.m": "hidden", "b.q": "slots"}, structure={
    "U.a": diagonal(), "U.c": block_diagonal(4), "U.d": block_triangular((1, 2, 4)), "U.e": antisymmetric(),
    "U.f": low_rank(2)})
def many(x, h, m: State["slots"], *, slots=6):
    a = U.a @ h + U.c @ h + U.d @ h + U.e @ h + U.f @ h
    m = m * s.decay + V.q @ x + V.k @ h + b.q
    h = tanh(raw(x) + a + V.m @ m + p.h * h)
    return h, m
"""


def in_process(*arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    code = (
        "import sys; from unrolled.cli import main; code = main(sys.argv[1:]); "
        "print(sorted({'torch', 'numpy'} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, env=environment, check=False)


def counted(cell: str, sizes: dict[str, int]) -> int:
    program = bind(resolve(cell).program, sizes)
    total = 0
    for group in groups_of(program):
        axes = [sizes[name] for name in group.shape]
        each = group.structure.count(*axes) if len(axes) == 2 else axes[0] if axes else 1
        total += each * len(group.names)
    return total


@pytest.mark.parametrize("name", all_cells())
@pytest.mark.parametrize("sizes", [(3, 24), (48, 24), (120, 240)], ids=lambda sizes: f"I{sizes[0]}-H{sizes[1]}")
def test_the_formula_counts_the_parameters_of_every_cell(name: str, sizes: tuple[int, int]) -> None:
    program = get(name).program
    at = {**program.axes, "input": sizes[0], "hidden": sizes[1]}
    assert parameter_formula(typical_plan(program)).at(at) == counted(name, at)


@pytest.mark.parametrize("hidden", [12, 24, 60])
def test_the_formula_counts_what_structured_maps_store(hidden: int) -> None:
    program = parse(MANY_STRUCTURES).program
    at = {"slots": 6, "input": 7, "hidden": hidden}
    assert parameter_formula(typical_plan(program)).at(at) == counted(MANY_STRUCTURES, at)


def test_every_structure_has_a_formula() -> None:
    assert set(ENTRIES) == set(STRUCTURES)


@pytest.mark.parametrize(
    ("cell", "formula"),
    [
        ("lstm", "4·hidden·(input + hidden + 1)"),
        ("gru", "hidden·(3·input + 3·hidden + 4)"),
        ("peephole-lstm", "hidden·(4·input + 4·hidden + 7)"),
        (MINE.replace("W.h @ x", "p.h * raw(x)"), "hidden·(input + hidden + 1)"),
        (MINE.replace("W.h @ x", "W.h @ (s.k * x)"), "hidden·(input + hidden) + 1"),
        (
            '@cell(structure={"U.h": antisymmetric()})\ndef anti(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h',
            "hidden·(2·input + hidden - 1)/2",
        ),
    ],
)
def test_formulas_read_as_they_are_written_by_hand(cell: str, formula: str) -> None:
    assert str(parameter_formula(typical_plan(resolve(cell).program))) == formula


def test_an_empty_formula_is_zero() -> None:
    assert str(Formula({})) == "0"


def test_the_summary_tells_what_each_map_reads_and_when() -> None:
    rows = [" ".join(row.split()) for row in summary(get("gru-cho").program).splitlines()]
    assert "U[g] @ (r * h) hidden² stage 2" in rows
    assert "W[r, z, g] @ x 3·hidden·input over all time" in rows
    assert "stages 2" in rows


def test_the_summary_writes_an_operand_by_the_name_that_it_has_there() -> None:
    cell = parse(MINE.replace("    return h", "    h = h + U.k @ h\n    return h"))
    assert "U[h] @ h " in summary(cell.program)
    assert "U[k] @ h " in summary(cell.program)


def test_a_cell_is_resolved_from_itself_its_name_and_its_text() -> None:
    lstm = get("lstm")
    assert resolve(lstm) is lstm
    assert resolve("lstm") == lstm
    assert resolve("peephole_lstm") == get("peephole-lstm")
    assert resolve(lstm.text) == lstm


@pytest.mark.parametrize("ending", ["py", "txt"])
def test_a_cell_is_resolved_from_a_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"mine.{ending}"
    file.write_text("\ufefffrom unrolled.language import U, W, cell, tanh\n" + MINE, encoding="utf-8")
    assert resolve(str(file)).name == "mine"


def test_one_cell_of_a_file_is_picked_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text(TWO, encoding="utf-8")
    assert resolve(f"{file}:mine").name == "mine"
    assert resolve(f"{file}:my-other").name == "my-other"
    assert resolve(f"{file}:my_other").name == "my-other"
    with pytest.raises(UsageError, match=r"has the cells mine, my-other: pick one, as in .*two\.py:mine"):
        resolve(str(file))
    with pytest.raises(UsageError, match=r"has no cell 'mime'. Did you mean mine\?"):
        resolve(f"{file}:mime")


def test_a_file_is_never_executed(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n" + MINE, encoding="utf-8")
    with pytest.raises(CellError, match="nothing else"):
        resolve(str(file))
    assert not (tmp_path / "trace").exists()


def test_what_is_no_cell_is_said_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    (tmp_path / "korean.txt").write_bytes("셀".encode("cp949"))
    (tmp_path / "misfit.py").write_text(MISFIT, encoding="utf-8")
    with pytest.raises(UsageError, match=r"Did you mean lstm\?"):
        resolve("lst")
    with pytest.raises(UsageError, match="no cell is named"):
        resolve(" ")
    with pytest.raises(UsageError, match=r"there is no file .*mime.py'. Did you mean mine.py\?"):
        resolve(str(tmp_path / "mime.py"))
    with pytest.raises(UsageError, match="there is no folder"):
        resolve(str(tmp_path / "nowhere" / "mine.py"))
    with pytest.raises(CellError, match="has no cell"):
        resolve(str(tmp_path / "empty.py"))
    with pytest.raises(UsageError, match="no UTF-8 text"):
        resolve(str(tmp_path / "korean.txt"))
    with pytest.raises(ShapeError, match=r"misfit\.py"):
        resolve(str(tmp_path / "misfit.py"))


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


def test_cells_are_listed_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cells", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["cells"]
    assert [row["name"] for row in rows] == list(all_cells())
    assert rows[[row["name"] for row in rows].index("lstm")]["states"] == ["h", "c"]
    assert main(["cells"]) == 0
    table = capsys.readouterr().out
    assert all(f"{row['name']} " in table and row["parameters"] in table for row in rows)


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


TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 12
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--window", "16", "--epochs", "1"]
MAIN = "import sys; from unrolled.cli import main; sys.exit(main(sys.argv[1:]))"


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_a_failure_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "cells"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "OSError: No space left on device\n"
