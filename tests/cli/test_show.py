from __future__ import annotations

import pytest

from unrolled.cells import all_cells, get
from unrolled.cli import main
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
