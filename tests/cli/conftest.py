from __future__ import annotations

from pathlib import Path

import pytest

from tests.cells.texts import MINE
from unrolled.cli import main

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 12
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--window", "16", "--epochs", "1"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "text.txt").write_text(TEXT)
    (folder / "mine.py").write_text(MINE)
    cell = str(folder / "mine.py")
    out = str(folder / "run")
    assert main(["train", "language-model", str(folder / "text.txt"), "--out", out, "--cell", cell, *SMALL]) == 0
    return folder
