"""The commands that use runs: generate and evaluate."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

import unrolled
from tests.cli.conftest import TEXT
from unrolled.cli import main


def test_a_run_writes_on_from_a_prompt(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(made / "run"), "--prompt", "the ", "--length", "30"]) == 0
    out = capsys.readouterr().out
    assert out == unrolled.load(made / "run").generate("the ", length=30, temperature=0.8) + "\n"
    assert len(out) == len("the ") + 30 + 1


def test_several_texts_are_told_apart(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["generate", str(made / "run"), "--length", "9", "--samples", "3", "--top-k", "4", "--top-p", ".9"]) == 0
    )
    assert re.findall(r"^--- (\d) of 3$", capsys.readouterr().out, re.MULTILINE) == ["1", "2", "3"]


def test_the_distribution_of_the_next_symbol_is_shown(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(made / "run"), "--prompt", "the ", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"'.+' +\d+\.\d%", line) for line in lines)


def test_a_run_is_evaluated_on_files(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(made / "run"), str(made / "text.txt")]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name in ("nats per token", "bits per character", "perplexity per token", "among the 5 likeliest"):
        assert name in shown
    assert "612 characters" in shown
    assert main([*arguments, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured == unrolled.load(made / "run").evaluate([TEXT])
    assert measured["bits"] == pytest.approx(measured["nats"] / math.log(2))
    assert measured["top_1"] <= measured["top_3"] <= measured["top_5"]


def test_dynamic_evaluation_is_reported_apart(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(made / "run"), str(made / "text.txt"), "--dynamic"]
    assert main(arguments) == 0
    static, moving = capsys.readouterr().out.split("read in one piece, while it goes on learning:")
    assert "nats per token" in static
    assert "nats per token" in moving
    assert main([*arguments, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["dynamic"]["nats"] < measured["nats"]


def test_a_sentence_is_scored_token_by_token(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(made / "run"), "--text", "the cat"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["'t'", "'h'", "'e'"]
    assert len(lines) == 8
    values = [float(line.split()[-1]) for line in lines]
    assert values[-1] == pytest.approx(sum(values[:-1]), abs=1e-3)
    assert main(["evaluate", str(made / "run"), "--text", "the cat", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nats"] == pytest.approx(-values[-1], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "{}/nowhere"], "there is no folder"),
        (["generate", "{}"], "is no run"),
        (["generate", "{}/run", "--prompt", "고양이"], "not trained on '고' '양' '이'"),
        (["generate", "{}/run", "--temperature", "-1"], "temperature must be at least 0"),
        (["generate", "{}/run", "--length", "-1"], "length must be at least 0"),
        (["generate", "{}/run", "--samples", "0"], "samples must be above 0"),
        (["generate", "{}/run", "--top-p", "2"], "top_p is a share"),
        (["evaluate", "{}/run", "{}/absent.txt"], "there is no file"),
        (["evaluate", "{}/run"], "give files to evaluate on, or --text"),
        (["evaluate", "{}/run", "{}"], "is a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_clear_line_with_exit_code_2(
    arguments: list[str], message: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("{}", str(made)) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
