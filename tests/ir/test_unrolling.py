from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from tests.ir.hard_cells import HARD_CELLS
from unrolled.cells import all_cells, get
from unrolled.ir.svg import Box, Text
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


@pytest.mark.parametrize("cell", [*all_cells().values(), *HARD_CELLS], ids=lambda cell: cell.name)
def test_no_two_labels_overlap_and_all_are_within_the_drawing(cell: Cell) -> None:
    drawing = ElementTree.fromstring(unrolling(cell.program, steps=3))
    whole = Box(0, 0, float(drawing.attrib["width"]), float(drawing.attrib["height"]))
    labels = [(text, _room(text)) for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert len(labels) > 4
    for (one, room), (other, beside) in combinations(labels, 2):
        assert not room.meets(beside), f"{''.join(one.itertext())} over {''.join(other.itertext())}"
    assert all(whole.holds(room) for _, room in labels)


def _room(text: ElementTree.Element) -> Box:
    """The room of a label that is written."""
    classes = text.get("class", "").split()
    raised = {float(part.attrib["dy"]) < 0: part.text or "" for part in text}
    label = Text(text.text or "", raised.get(True, ""), raised.get(False, ""))
    anchor = next((each for each in classes if each in ("begin", "end")), "")
    return label.box(float(text.attrib["x"]), float(text.attrib["y"]) - 4.5, anchor)


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
