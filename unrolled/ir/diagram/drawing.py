"""A layout as SVG: the whole, one equation on top of the others, or one picture for each equation."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import pairwise

from unrolled.ir.diagram.layout import Layout, layout_of, moved
from unrolled.ir.diagram.parts import Part
from unrolled.ir.diagram.routing import Way
from unrolled.ir.program import Program
from unrolled.ir.show import definitions
from unrolled.ir.svg import document, rectangle, short, wire

_CAPTION = 12.0
_LETTER = 7.5  # of the caption, which is of one width
_BETWEEN = 26.0
_WIDEST = 880.0
_FAINT = 0.22


def diagram(program: Program, highlight: str = "") -> str:
    """The diagram of a cell; with `highlight`, the part of the equation of this name stands out.

    Raises   CellError when there is no such equation
    """
    layout = layout_of(program)
    parts = [_all(layout)]
    if highlight:
        parts = [f'<g opacity="{_FAINT}">', *parts, "</g>", _part(layout, layout.drawing.equation(highlight))]
    return document(parts, layout.width, layout.height, f"One step of {_title(program)}")


def steps(program: Program) -> str:
    """One picture for each equation, in which its part stands out, with the equation below it."""
    layout = layout_of(program)
    texts = [line for _, _, line in definitions(program)]
    drawn = drawn_equations(program)
    wide = max([layout.width, *(8 + _LETTER * len(texts[number]) for number in drawn)])
    high = layout.height + 2 * _CAPTION + _BETWEEN
    across = max(1, int((_WIDEST + _BETWEEN) // (wide + _BETWEEN)))
    parts = ["<defs>", f'<g id="all">{_all(layout)}</g>', "</defs>"]
    for place, number in enumerate(drawn):
        x, y = place % across * (wide + _BETWEEN), place // across * high
        caption = f'<text class="code" x="8" y="{short(layout.height + _CAPTION)}">{escape(texts[number])}</text>'
        parts.append(f'<g transform="translate({short(x)} {short(y)})"><use href="#all" opacity="{_FAINT}"/>')
        parts.append(f"{_part(layout, number)}{caption}</g>")
    total = min(across, len(drawn)) * (wide + _BETWEEN) - _BETWEEN
    rows = -(-len(drawn) // across)
    return document(parts, total, rows * high, f"One step of {_title(program)}, equation by equation")


def drawn_equations(program: Program) -> list[int]:
    """The equations that have a part of their own in the drawing, by number."""
    return sorted({part.equation for part in layout_of(program).drawing.parts if part.equation >= 0})


def _all(layout: Layout) -> str:
    """Every wire, then what stands on them."""
    drawn = [
        _stretch(layout, net.source, reader, way, begin) for net in layout.nets for reader, way, begin in _new(net.ways)
    ]
    return "".join([*drawn, *(_outline(layout, part) for part in layout.drawing.parts)])


def _part(layout: Layout, number: int) -> str:
    """What belongs to one equation: its layers and operations, and the ways of all that they read."""
    ways = {(net.source, reader): way for net in layout.nets for reader, way in net.ways.items()}
    parts = [part for part in layout.drawing.parts if part.equation == number]
    drawn: dict[str, None] = {}
    sources: dict[Part, None] = {}

    def read(reader: Part) -> None:
        for source in (*reader.reads, *reader.beside):
            drawn[_stretch(layout, source, reader, ways[source, reader], 0)] = None
            if source.kind == "join":
                read(source)
            elif source not in parts:
                sources[source] = None

    for part in parts:
        read(part)
    outlines = [
        _outline(layout, part) for part in (*parts, *(part for part in sources if part.kind in ("input", "state")))
    ]
    return "".join([*drawn, *outlines])


def _new(ways: dict[Part, Way]) -> Iterable[tuple[Part, Way, int]]:
    """Each way of a value, with the place of the point at which it leaves those before it."""
    seen: set[tuple[int, int]] = set()
    for reader, way in ways.items():
        yield reader, way, next(place for place, point in enumerate(way[1:]) if point not in seen)
        seen |= set(way)


def _stretch(layout: Layout, source: Part, reader: Part, way: Way, begin: int) -> str:
    """The wire of a way from one of its points on, as `begin` says; it leaves and joins others in a curve."""
    points = layout.corners(source, reader, way, begin)
    if reader.kind == "join":
        net = next(net for net in layout.nets if net.source is reader)
        onward = next(iter(net.ways.values()))
        points.append(moved(points[-1], onward[0], onward[1]))
    line = any((source, reader) in pairwise(memory) for memory in layout.drawing.memories)
    arrow = reader.kind != "join" and (not line or reader.kind == "next")
    return wire(points, "line" if line else "beside" if source in reader.beside else "", arrow)


def _outline(layout: Layout, part: Part) -> str:
    """The shape of a part and its texts."""
    shape = part.kind if part.kind in ("layer", "operation") else ""
    box = layout.boxes[part]
    radius = (box.bottom - box.top) / 2 if part.kind == "operation" else 5
    drawn = [rectangle(box, shape, radius)] if shape else []
    return "".join([*drawn, *(label.text.at(label.x, label.y, label.anchor) for label in layout.labels[part])])


def _title(program: Program) -> str:
    return program.name.replace("_", "-")
