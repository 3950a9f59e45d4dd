from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import unrolled
from unrolled import cells
from unrolled.cli import main

ROOT = Path(__file__).resolve().parent.parent

# File of the package that may have more than 400 lines -> why.
LONG: dict[str, str] = {}

NEW_CELL = '''\
"""A gated cell that nobody has published."""

from unrolled.language import U, W, b, cell, sigmoid


@cell(source="nobody 2026")
def brand_new(x, h):
    """Half old, half new."""
    h = (h + sigmoid(W.h @ x + U.h @ h + b.h)) / 2
    return h
'''


def files() -> Iterator[Path]:
    return (path for path in sorted((ROOT / "unrolled").rglob("*.py")) if "__pycache__" not in path.parts)


def test_a_file_has_at_most_400_lines_or_a_reason() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert {name for name, length in lengths.items() if length > 400} == set(LONG)


def test_every_dependency_is_pinned_to_one_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][a-z0-9.]*", pin) for pin in pins)
    assert pins == sorted(pins)
    pinned = {pin.split("==")[0] for pin in pins}
    declared = [Requirement(text) for text in distribution("unrolled").requires or []]
    wanted = {canonicalize_name(need.name) for need in declared}
    assert wanted <= pinned


@pytest.mark.parametrize(
    "name", ["Makefile", "constraints.txt", ".ci/run", "pyproject.toml", ".pre-commit-config.yaml"]
)
def test_an_installation_names_no_registry_and_no_path_of_a_machine(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://|index-url|find-links|/home/|/root/|/opt/|/work/", text)


def test_decisions_are_numbered_without_a_gap_and_dated() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert re.search(r"^Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE), record
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequence"], record


def test_a_new_file_of_equations_is_a_new_cell_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "brand_new_cell.py").write_text(NEW_CELL, encoding="utf-8")
    monkeypatch.setattr(cells, "__path__", [*cells.__path__, str(tmp_path)])
    cells.all_cells.cache_clear()
    try:
        assert main(["cells"]) == 0
    finally:
        cells.all_cells.cache_clear()
        sys.modules.pop("unrolled.cells.brand_new_cell", None)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "brand-new" in line]
    assert "hidden·(input + hidden + 1)" in row
    assert "nobody 2026" in row


@pytest.mark.parametrize(
    "module", ["unrolled", "unrolled.language", "unrolled.cells", "unrolled.ir.plan", "unrolled.cli"]
)
def test_the_program_side_loads_no_numerical_library(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_loaded_when_they_are_first_used() -> None:
    for name in unrolled.__all__:
        assert getattr(unrolled, name) is not None
        assert name in dir(unrolled)
    with pytest.raises(AttributeError, match="no attribute 'lstn'"):
        _ = unrolled.lstn
