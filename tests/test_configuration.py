from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import unrolled
from unrolled.configuration import commented, read_configuration
from unrolled.errors import UsageError
from unrolled.options import TABLES, settle

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 12


@pytest.mark.parametrize("task", TABLES)
def test_the_commented_file_has_every_option_with_its_default(task: str, tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text(commented(task), encoding="utf-8")
    assert settle(task, read_configuration(path, task)) == settle(task, {})
    written = tomllib.loads(commented(task))
    for table, kind in TABLES[task].items():
        for option in fields(kind):
            assert option.name in written[table] or f"# {option.name} = …" in commented(task)
            assert option.metadata["about"].split()[0] in commented(task)


def test_options_of_a_file_take_effect_and_keywords_go_before_them(tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text("[model]\nhidden_size = 7\nlayers = 2\n[training]\nepochs = 1\n")
    run = unrolled.train("language-model", [TEXT], config=path, layers=1, quiet=True)
    assert run.config["model"]["hidden_size"] == 7
    assert run.config["model"]["layers"] == 1
    assert run.config["training"]["epochs"] == 1


def test_the_configuration_of_a_run_makes_the_same_run_again(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("@cell\ndef mine(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h\n")
    options: dict[str, Any] = {"hidden_size": 6, "epochs": 1, "batch_size": 3}
    first = unrolled.train(
        "language-model", [TEXT], out=tmp_path / "run", cell=f"{tmp_path}/mine.txt", quiet=True, **options
    )
    (tmp_path / "mine.txt").unlink()
    again = unrolled.train("language-model", [TEXT], config=tmp_path / "run" / "config.toml", quiet=True)
    assert again.cell == first.cell
    assert again.held_out_loss == first.held_out_loss


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[model]\nhiden_size = 3", r"has 'hiden_size' in \[model\], .* Did you mean hidden_size\?"),
        ("[model]\nepochs = 3", r"has 'epochs' in \[model\], .* It stands in \[training\]"),
        ("hidden_size = 3", r"has 'hidden_size', .* It stands in \[model\]"),
        ("[modle]\nlayers = 1", r"has 'modle', .* Did you mean model\?"),
        ("model = 3", r"must be a table: \[model\]"),
        ('task = "classify"', "is for the task 'classify', not for language-model"),
        ("= 3", "is no TOML file"),
        ("[model]\nhidden_size = 0", "hidden_size must be above 0"),
        ('[data]\nunit = "word"', r"there is no unit 'word'. Did you mean words\?"),
    ],
)
def test_what_a_file_has_wrong_is_said(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        unrolled.train("language-model", [TEXT], config=path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml: No such file"):
        unrolled.train("language-model", [TEXT], config=tmp_path / "absent.toml")
    (tmp_path / "cp949.toml").write_bytes("[model]\n# 한글".encode("cp949"))
    with pytest.raises(UsageError, match=r"cp949\.toml is no TOML file"):
        unrolled.train("language-model", [TEXT], config=tmp_path / "cp949.toml")
