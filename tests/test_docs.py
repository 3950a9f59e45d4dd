"""What the documents say is run."""

import importlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unrolled.cells import all_cells
from unrolled.cli import app
from unrolled.structures import STRUCTURES

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "docs/engine.md",
    "docs/language.md",
    "docs/language-model.md",
    "docs/text.md",
    "docs/cells.md",
    "docs/notes.md",
    "docs/architectures.md",
]


def blocks(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_of_the_documents_runs_as_it_stands(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("It was a dark night, and it was the only one. " * 60, encoding="utf-8")
    namespace = {"__name__": "document"}
    for block in blocks(document, "python"):
        exec(compile(block, document, "exec"), namespace)


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md"])
def test_commands_of_the_documents_exist_with_their_flags(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = [line for block in blocks(document, "") for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", text)
    commands = [line.split("#")[0].split() for line in lines if line.startswith("unrolled ")]
    for _, name, *words in commands:
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, f"{document}: there is no command {name}"
        for flag in (word for word in words if word.startswith("--")):
            assert re.search(rf"{flag}\b", shown.output), f"{document}: {name} has no {flag}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_flags_that_documents_name_exist(document):
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    helps = [CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output for name in commands]
    flags = set(re.findall(r"(--[a-z][a-z-]+)", " ".join(helps))) | {"--version", "--debug"}
    text = re.sub(r"^```.*?^```|`python [^`\n]*`", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.M | re.S)
    for flag in re.findall(r"`[^`\n]*?(--[a-z][a-z-]+)", text):
        assert flag in flags, flag


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_what_is_generated_is_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    generate = importlib.import_module("generate")
    assert [path.name for path in generate.outdated()] == [], "run `make docs`"


def test_every_cell_and_every_structure_has_its_place_and_its_drawings_in_the_gallery(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    drawn = importlib.import_module("structures").DRAWINGS
    page = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    for name in (*all_cells(), *STRUCTURES):
        assert re.search(rf"^#+ {name}$", page, re.M), name
    drawings = re.findall(r"\]\((figures/[^)]+)\)", page)
    assert len(drawings) == 3 * len(all_cells()) + len(drawn)
    assert all((ROOT / "docs" / path).exists() for path in drawings)
    anchors = re.findall(r"\]\(#([^)]+)\)", page)
    assert anchors == [*all_cells(), *STRUCTURES]


def test_the_gallery_has_no_macro_that_github_refuses():
    page = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    assert not re.search(r"\\(operatorname|mbox|phantom|def|newcommand)\b", page)


def test_the_cell_of_the_readme_is_the_one_that_the_demo_trains():
    from unrolled.demo import duet
    from unrolled.language import parse

    assert parse(blocks("README.md", "python")[0]) == duet
