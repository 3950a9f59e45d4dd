from __future__ import annotations

from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from tests.ir.hard_cells import HARD_CELLS
from tests.language.random_cells import cell_texts
from unrolled.cells import all_cells, get
from unrolled.errors import CellError
from unrolled.ir.diagram import diagram, drawn_equations, steps
from unrolled.ir.diagram.building import parts_of
from unrolled.ir.diagram.layout import Layout, layout_of
from unrolled.ir.diagram.parts import Part
from unrolled.ir.show import definitions
from unrolled.ir.svg import Box, width
from unrolled.language import Cell, parse

CELLS = list({cell.name: cell for cell in (*HARD_CELLS, *all_cells().values())}.values())
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)


def stretches(layout: Layout) -> list[tuple[Part, Part, Box]]:
    """Source, reader and room of every straight piece of wire."""
    found = []
    for net in layout.nets:
        for reader, way in net.ways.items():
            for (x, y), (to_x, to_y) in pairwise(layout.corners(net.source, reader, way)):
                box = Box(min(x, to_x) - 0.5, min(y, to_y) - 0.5, max(x, to_x) + 0.5, max(y, to_y) + 0.5)
                found.append((net.source, reader, box))
    return found


def reads(cell: str, name: str) -> set[str]:
    """What the layer of this name reads, by name; what comes without a map has a star."""
    drawing = parts_of(get(cell).program)
    layer = next(part for part in drawing.parts if part.name == name)

    def names(part: Part) -> set[str]:
        if part.kind == "join":
            return set().union(*map(names, part.reads))
        return {part.name or (f"old {part.text}" if part.kind == "state" else part.text)}

    return set().union(*map(names, layer.reads), *({f"{each}*" for each in names(part)} for part in layer.beside))


@every_cell
def test_no_label_overlaps_another_or_a_part_that_it_does_not_name(cell: Cell) -> None:
    layout = layout_of(cell.program)
    labels = [(part, label.box) for part, group in layout.labels.items() for label in group]
    for (_, one), (_, other) in combinations(labels, 2):
        assert not one.meets(other)
    for part, label in labels:
        assert Box(0, 0, layout.width, layout.height).holds(label)
        for other, box in layout.boxes.items():
            assert not label.meets(box) or other is part, (part.text, other.text)


@every_cell
def test_what_stands_in_a_part_fits_into_it_and_parts_are_apart(cell: Cell) -> None:
    layout = layout_of(cell.program)
    for part, box in layout.boxes.items():
        if part.kind == "layer":
            assert all(box.holds(label.box) for label in layout.labels[part])
        elif part.kind == "operation":
            sign = layout.labels[part][0].box
            assert box.left <= sign.left
            assert sign.right <= box.right
    for one, other in combinations(layout.boxes.values(), 2):
        assert not one.meets(other)


@every_cell
def test_wires_run_past_labels_and_past_the_parts_that_they_do_not_join(cell: Cell) -> None:
    layout = layout_of(cell.program)
    for source, reader, wire in stretches(layout):
        for part, box in layout.boxes.items():
            assert part in (source, reader) or part.kind == "join" or not wire.meets(box), (source.text, part.text)
            for label in layout.labels[part]:
                outside = part.kind not in ("layer", "operation") or label is not layout.labels[part][0]
                assert part.kind == "layer" or not outside or not wire.meets(label.box), (source.text, part.text)


@every_cell
def test_two_values_never_share_a_piece_of_wire(cell: Cell) -> None:
    owner: dict[frozenset[tuple[int, int]], Part] = {}
    for net in layout_of(cell.program).nets:
        for way in net.ways.values():
            for piece in map(frozenset, pairwise(way)):
                assert owner.setdefault(piece, net.source) is net.source


@every_cell
def test_every_part_gets_all_that_it_reads(cell: Cell) -> None:
    layout = layout_of(cell.program)
    wired = {(net.source, reader) for net in layout.nets for reader in net.ways}
    assert wired == {(read, part) for part in layout.drawing.parts for read in (*part.reads, *part.beside)}


@every_cell
def test_every_named_equation_appears_and_every_state_leaves_and_enters_if_it_is_read(cell: Cell) -> None:
    drawing = parts_of(cell.program)
    nodes = cell.program.nodes
    shown = {part.name.partition("(")[0] for part in drawing.parts} | {part.text for part in drawing.of("next")}
    assert {name for name, node, _ in definitions(cell.program) if node.args} <= shown
    assert [part.text for part in drawing.of("next")] == [name for name, _ in cell.program.states]
    assert {node["name"] for node in nodes if node.op == "state"} <= {part.text for part in drawing.of("state")}


@every_cell
def test_a_memory_is_a_straight_line_above_the_layers(cell: Cell) -> None:
    layout = layout_of(cell.program)
    layers = [layout.boxes[part].top for part in layout.drawing.of("layer")]
    for memory in layout.drawing.memories:
        boxes = [layout.boxes[part] for part in memory]
        assert len({(box.top + box.bottom) / 2 for box in boxes}) == 1
        assert all(before.right < after.left for before, after in pairwise(boxes))
        assert all(box.bottom <= top for box in boxes for top in layers)
        for source, reader in pairwise(memory):
            (net,) = (net for net in layout.nets if net.source is source)
            assert len({y for _, y in net.ways[reader]}) == 1


@every_cell
def test_drawings_are_well_formed(cell: Cell) -> None:
    for text in (diagram(cell.program), steps(cell.program)):
        ElementTree.fromstring(text)


@pytest.mark.parametrize("name", ["lstm", "gru-cho", "lstm-fgr"])
def test_a_drawing_is_the_same_each_time(name: str) -> None:
    first = diagram(get(name).program)
    layout_of.cache_clear()
    assert diagram(get(name).program) == first


@settings(max_examples=4, derandomize=True, deadline=None)
@given(cell_texts())
def test_cells_made_at_random_are_drawn_without_overlap(text: str) -> None:
    layout = layout_of(parse(text).program)
    labels = [(part, label.box) for part, group in layout.labels.items() for label in group]
    assert not any(one.meets(other) for (_, one), (_, other) in combinations(labels, 2))
    assert not any(
        label.meets(box) and other is not part for part, label in labels for other, box in layout.boxes.items()
    )


@pytest.mark.parametrize(
    ("cell", "name", "expected"),
    [
        ("lstm", "f", {"x", "old h"}),
        ("peephole-lstm", "i", {"x", "old h", "old c*"}),
        ("peephole-lstm", "g", {"x", "old h"}),
        ("peephole-lstm", "o", {"x", "old h", "+*"}),  # the new memory
        ("gru-cho", "g", {"x", "×"}),
        ("gru", "g", {"x", "×*"}),
        ("mut1", "z", {"x"}),
    ],
)
def test_a_layer_reads_what_its_equation_reads(cell: str, name: str, expected: set[str]) -> None:
    assert reads(cell, name) == expected


@pytest.mark.parametrize(
    ("cell", "lines"),
    [("lstm", [["×", "+"]]), ("gru", [["×", "+"]]), ("elman", []), ("lstm-1997", [["+"]]), ("clockwork", [["due"]])],
)
def test_a_memory_is_a_state_that_is_only_multiplied_and_added_to(cell: str, lines: list[list[str]]) -> None:
    assert [[part.text for part in memory[1:-1]] for memory in parts_of(get(cell).program).memories] == lines


def test_the_lstm_has_four_layers_and_no_way_crosses_another() -> None:
    layout = layout_of(get("lstm").program)
    assert {(part.name, part.text) for part in layout.drawing.of("layer")} == {
        ("i", "σ"),
        ("f", "σ"),
        ("g", "tanh"),
        ("o", "σ"),
    }
    for (source, reader, one), (other, end, wire) in combinations(stretches(layout), 2):
        meeting = "join" in (source.kind, other.kind, reader.kind, end.kind)
        assert source is other or meeting or not one.meets(wire)


def test_one_equation_stands_out_and_an_unknown_one_names_the_nearest() -> None:
    program = get("lstm").program
    assert 'opacity="0.22"' in diagram(program, "c")
    assert "opacity" not in diagram(program)
    with pytest.raises(CellError, match=r"the drawing has no equation 'gg'. Did you mean g\?"):
        diagram(program, "gg")


def test_there_is_a_picture_for_each_equation_with_its_text_below() -> None:
    program = get("gru-cho").program
    text = steps(program)
    assert text.count("<use ") == len(drawn_equations(program)) == len(program.equations)
    assert all(f">{line}</text>" in text for _, _, line in definitions(program))


def test_a_returned_expression_has_a_picture_of_its_own() -> None:
    cell = parse("@cell\ndef m(x, h):\n    q = tanh(W.h @ x)\n    return q * h")
    assert drawn_equations(cell.program) == [0, 1]
    assert ">h = q * h</text>" in steps(cell.program)


@pytest.mark.parametrize("style", ["normal", "italic"])
def test_no_text_is_wider_than_it_is_taken_for(style: str) -> None:
    font = FontProperties(family="DejaVu Serif", style=style, size=15)  # wider than what browsers usually take
    for text in ("i", "mix", "W", "below", "t−1", "σ", "tanh", "×α", "LN", "1−", "softmax", "f_up(2)", "Σ", "relu"):
        real, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
        assert real <= width(text), text
