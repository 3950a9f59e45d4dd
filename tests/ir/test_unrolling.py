from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tests.ir.hard_cells import HARD_CELLS
from unrolled.cells import all_cells, get
from unrolled.ir.unrolling import arrows, unrolling
from unrolled.language import Cell


@pytest.mark.parametrize("cell", [*all_cells().values(), *HARD_CELLS], ids=lambda cell: cell.name)
def test_every_input_and_every_state_has_its_colour_in_all_steps(cell: Cell) -> None:
    text = unrolling(cell.program, steps=3)
    ElementTree.fromstring(text)
    inputs, states = arrows(cell.program)
    for arrow in inputs:
        assert len(re.findall(rf'<path class="{arrow.colour}" ', text)) % (1 + 3) == 0
    if len(inputs) + len(states) <= 7:
        assert len({arrow.colour for arrow in (*inputs, *states)}) == len(inputs) + len(states)
        counted = {arrow.colour: len(re.findall(rf'<path class="{arrow.colour}" ', text)) for arrow in states}
        assert set(counted.values()) == {1 + 3 + 1}  # the loop, an arrow into each step, and out of the last


@pytest.mark.parametrize(
    ("cell", "carried"),
    [
        ("lstm", [("h", "U"), ("c", "")]),
        ("gru", [("h", "U")]),
        ("clockwork", [("h", "U"), ("clock", "")]),
        ("sru", [("h", ""), ("c", "")]),
    ],
)
def test_what_is_carried_is_named_with_the_maps_that_read_it(cell: str, carried: list[tuple[str, str]]) -> None:
    assert [(arrow.name, arrow.maps) for arrow in arrows(get(cell).program)[1]] == carried
