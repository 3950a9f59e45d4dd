"""The plans of the hard cells as text. UNROLLED_UPDATE_SNAPSHOTS=1 writes them anew: read the difference then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.ir.hard_cells import HARD_CELLS
from tests.ir.numeric import SIZES
from unrolled.cells import all_cells
from unrolled.ir.plan import make_plan
from unrolled.ir.plan_text import plan_text
from unrolled.ir.program import bind

FOLDER = Path(__file__).parent / "snapshots"
OF_THE_PACKAGE = ("lstm", "gru", "gru-cho", "lstm-fgr", "layer-norm-lstm", "mingru", "mut1", "qrnn")
CELLS = {cell.name: cell for cell in [*HARD_CELLS, *(all_cells()[name] for name in OF_THE_PACKAGE)]}


@pytest.mark.parametrize("name", CELLS)
def test_the_plan_of_a_hard_cell_is_as_it_was_agreed(name):
    program = CELLS[name].program
    text = plan_text(make_plan(bind(program, {**SIZES, **program.axes})))
    file = FOLDER / f"{name}.txt"
    if os.environ.get("UNROLLED_UPDATE_SNAPSHOTS"):
        file.write_text(text, encoding="utf-8")
    assert file.exists(), f"no snapshot of {name}: run once with UNROLLED_UPDATE_SNAPSHOTS=1"
    assert text == file.read_text(encoding="utf-8")


def test_no_snapshot_is_left_of_a_cell_that_is_gone():
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(CELLS)
