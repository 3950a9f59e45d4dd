"""A drawing measured: the lattice's lines as close as what stands on them allows, so that nothing overlaps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from unrolled.errors import CellError
from unrolled.ir.diagram.building import parts_of
from unrolled.ir.diagram.parts import Drawing, Part
from unrolled.ir.diagram.placement import Place, places_of, span
from unrolled.ir.diagram.routing import Entangled, Net, Point, Way, route
from unrolled.ir.program import Program
from unrolled.ir.svg import Box, Position, Text, named

_LANES = (4, 6, 10, 16)
_GAP = 11.0
_PORT = 8.0
_RADIUS = 9.5
_MARGIN = 8.0
_SIGN = "upright small"


@dataclass(frozen=True)
class Label:
    """A text at its place: its middle there, or the end that `anchor` names."""

    text: Text
    x: float
    y: float
    anchor: str = ""

    @property
    def box(self) -> Box:
        """The room that it takes."""
        return self.text.box(self.x, self.y, self.anchor)


@dataclass(frozen=True)
class Layout:
    """Where everything of a drawing stands.

    boxes    the outlines of layers and operations; of all else a point
    labels   the texts of each part
    nets     the wires, on the lattice; `corners` says where they are in the drawing
    """

    drawing: Drawing
    boxes: dict[Part, Box]
    labels: dict[Part, list[Label]]
    nets: list[Net]
    xs: dict[int, float]
    ys: dict[int, float]
    width: float
    height: float

    def corners(self, source: Part, reader: Part, way: Way, begin: int = 0) -> list[Position]:
        """A way of the lattice in the drawing, from the edge of its source to the edge of its reader.

        begin   the place of the point where it leaves another way: before that there is only enough of it for a curve
        """
        # An end may lie on a line that only the part itself is on; the part's edge takes its place.
        points = [(self.xs.get(x, 0.0), self.ys[y]) for x, y in turns_of(way[begin:])]
        if begin:
            points.insert(0, moved(points[0], way[begin], way[begin - 1]))
        else:
            points[0] = _edge(self.boxes[source], points[0], points[1])
        points[-1] = _edge(self.boxes[reader], points[-1], points[-2])
        return points


@cache
def layout_of(program: Program) -> Layout:
    """The layout of a program's drawing.

    Raises   CellError when it is too entangled to be drawn
    """
    drawing = parts_of(program)
    for lanes in _LANES:
        places = places_of(drawing, lanes)
        try:
            return _measured(drawing, places, route(drawing, places))
        except Entangled:
            continue
    raise CellError(f"cell '{program.name}' is too entangled to be drawn: give it fewer values, or look at --plan")


def _measured(drawing: Drawing, places: dict[Part, Place], nets: list[Net]) -> Layout:
    labels = {part: _labels(part) for part in drawing.parts}
    reach = {part: _reach(part, labels[part]) for part in drawing.parts}
    columns, rows = _columns(places, nets, reach), _rows(places, nets, reach)
    left = min(columns[place.x] + reach[part].left for part, place in places.items()) - _MARGIN
    top = min(rows[place.y] + reach[part].top for part, place in places.items()) - _MARGIN
    xs = {x: position - left for x, position in columns.items()}
    ys = {y: position - top for y, position in rows.items()}
    boxes = {part: _outline(part, place, xs, ys, labels[part], nets) for part, place in places.items()}
    placed: dict[Part, list[Label]] = {}
    for part, at in places.items():
        middle = (boxes[part].left + boxes[part].right) / 2
        placed[part] = [Label(each.text, middle + each.x, ys[at.y] + each.y, each.anchor) for each in labels[part]]
    wide = max(
        [*(box.right for box in boxes.values()), *(each.box.right for group in placed.values() for each in group)]
    )
    high = max([*ys.values(), *(each.box.bottom for group in placed.values() for each in group)])
    return Layout(drawing, boxes, placed, nets, xs, ys, wide + _MARGIN, high + _MARGIN)


def _labels(part: Part) -> list[Label]:
    """The texts of a part, from its middle."""
    if part.kind == "state":
        return [Label(named(part.text, "t−1"), -5, 0, "end")]
    if part.kind == "next":
        return [Label(named(part.text, "t"), 5, 0, "begin")]
    if part.kind == "input":
        name = named(part.text, "" if part.text == "clock" else "t")
        return [Label(name, 0, 18 if name.above else 13)]
    sign, name = Text(part.text, classes=_SIGN), named(part.name)
    if part.kind == "layer":
        return [Label(name, 0, -8), Label(sign, 0, 9)] if part.name else [Label(sign, 0, 0)]
    if part.kind == "operation":
        beside = [Label(name, 0.7 * _half(part) + 3, -_RADIUS - 7, "begin")] if part.name else []
        return [Label(sign, 0, 0), *beside]
    return []


def _half(part: Part) -> float:
    """Half the width of an operation: a circle around one letter, longer around a word."""
    return _RADIUS if len(part.text) == 1 else Text(part.text).width / 2 + 5


def _own(part: Part, labels: list[Label]) -> Box:
    """The outline of a part around its middle."""
    if part.kind == "layer":
        half = max(18.0, max(label.text.width for label in labels) / 2 + 6)
        high = max(14.0, max(max(-label.box.top, label.box.bottom) for label in labels) + 2)
        return Box(-half, -high, half, high)
    if part.kind == "operation":
        half = _half(part)
        return Box(-half, -_RADIUS, half, _RADIUS)
    return Box(0, 0, 0, 0)


def _reach(part: Part, labels: list[Label]) -> Box:
    """What a part takes with its labels, around its middle."""
    boxes = [_own(part, labels), *(label.box for label in labels)]
    return Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )


def _columns(places: dict[Part, Place], nets: list[Net], reach: dict[Part, Box]) -> dict[int, float]:
    """Where each column of the lattice is: what stands in one row keeps its distance."""
    solid = {(x, place.y): part for part, place in places.items() for x in span(place)}
    # Row -> column and part, or None for a wire that passes -> the room that is needed to the left and to the right.
    rows: dict[int, dict[tuple[int, Part | None], tuple[float, float]]] = {}
    for part, place in places.items():
        rows.setdefault(place.y, {})[place.x, part] = (-reach[part].left, reach[part].right)
    for way in (way for net in nets for way in net.ways.values()):
        for point in (point for ends in pairwise(way) if ends[0][0] == ends[1][0] for point in ends):
            room = _PORT if point in solid else 0.0
            rows.setdefault(point[1], {}).setdefault((point[0], solid.get(point)), (room, room))
    used = sorted({x for row in rows.values() for x, _ in row})
    least: dict[int, list[tuple[int, float]]] = {}
    for row in rows.values():
        for (x, owner), (_, right) in row.items():
            for (other, neighbour), (left, _) in row.items():
                if x < other and (owner is None or owner is not neighbour):
                    least.setdefault(other, []).append((x, right + _GAP + left))
    return _spaced(used, least)


def _rows(places: dict[Part, Place], nets: list[Net], reach: dict[Part, Box]) -> dict[int, float]:
    """Where each row of the lattice is: all that stands in it keeps its distance from all in the next."""
    up: dict[int, float] = {}
    down: dict[int, float] = {}
    for part, place in places.items():
        up[place.y] = max(up.get(place.y, 0.0), -reach[part].top)
        down[place.y] = max(down.get(place.y, 0.0), reach[part].bottom)
    for net in nets:
        for way in net.ways.values():
            for _, y in turns_of(way):
                up.setdefault(y, 0.0)
                down.setdefault(y, 0.0)
    used = sorted(up)
    return _spaced(used, {y: [(before, down[before] + _GAP + up[y])] for before, y in pairwise(used)})


def _spaced(used: list[int], least: dict[int, list[tuple[int, float]]]) -> dict[int, float]:
    """The smallest positions at which every line keeps its least distance from those before it."""
    found: dict[int, float] = {}
    for line in used:
        after = max(found.values(), default=-_GAP) + _GAP
        found[line] = max([after, *(found[before] + distance for before, distance in least.get(line, ()))])
    return found


def _outline(
    part: Part, place: Place, xs: dict[int, float], ys: dict[int, float], labels: list[Label], nets: list[Net]
) -> Box:
    """The box of a part; that of a layer reaches as far as its wires need."""
    own, x, y = _own(part, labels), xs[place.x], ys[place.y]
    arriving = [way for net in nets for reader, way in net.ways.items() if reader is part and place.half]
    ports = [xs[end[0]] - x for *_, before, end in arriving if before[0] == end[0]]
    left, right = (
        min([own.left, *(port - _PORT for port in ports)]),
        max([own.right, *(port + _PORT for port in ports)]),
    )
    return Box(x + left, y + own.top, x + right, y + own.bottom)


def turns_of(way: Way) -> Way:
    """The first and last point and those where the way turns."""
    turns = [
        point
        for before, point, after in zip(way, way[1:], way[2:], strict=False)
        if (point[0] - before[0], point[1] - before[1]) != (after[0] - point[0], after[1] - point[1])
    ]
    return [way[0], *turns, way[-1]]


def moved(position: Position, start: Point, end: Point) -> Position:
    """A position moved in the direction from one point of the lattice to the next, as far as a curve reaches."""
    return position[0] + (end[0] - start[0]) * _GAP, position[1] + (end[1] - start[1]) * _GAP


def _edge(box: Box, point: Position, other: Position) -> Position:
    """The point of a box's edge on the way from a point in it to another."""
    if point[1] == other[1]:
        return (box.right if other[0] > point[0] else box.left), point[1]
    return point[0], (box.bottom if other[1] > point[1] else box.top)
