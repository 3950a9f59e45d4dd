"""Where the parts of a drawing stand, on a lattice: memories on straight lines on top, layers in a row, lines below."""

from __future__ import annotations

from dataclasses import dataclass

from unrolled.ir.diagram.order import Ways
from unrolled.ir.diagram.parts import Drawing, Part


@dataclass(frozen=True)
class Place:
    """A point of the lattice, and how far the part reaches to either side: a layer has a port for each line."""

    x: int
    y: int
    half: int = 0


def span(place: Place) -> range:
    """The columns that a part stands on."""
    return range(place.x - place.half, place.x + place.half + 1)


def places_of(drawing: Drawing, lanes: int) -> dict[Part, Place]:
    """A place for each part.

    lanes   lattice lines from one row or column to the next: room for wires between
    """
    rows = _rows(drawing)
    columns = _columns(drawing, rows)
    lined = {part for memory in drawing.memories for part in memory}
    half = {part: _half(part, part in lined) for part in drawing.parts}
    inputs = drawing.of("input")
    x = lanes // 2 * (1 + len(inputs))
    at: dict[int, int] = {}
    for column in range(1 + max([0, *columns.values()])):
        inside = [part for part in columns if columns[part] == column]
        reach = max([0, *(half[part] for part in inside)])
        at[column] = x + lanes + reach
        x = at[column] + reach
    right = x + lanes
    found: dict[Part, Place] = {}
    for part in drawing.parts:
        entering = [inputs.index(read) for read in part.reads if read in inputs]
        if part in columns:
            across = at[columns[part]]
        elif part.kind in ("input", "join"):
            across = lanes // 2 * (1 + (inputs.index(part) if part in inputs else max([0, *entering])))
        else:
            across = 0 if part.kind == "state" else right
        found[part] = Place(across, lanes * rows[part], half[part])
    return found


def _half(part: Part, on_line: bool) -> int:
    """Room for the wires that come from below: all of a layer's; of an operation's those that its sides have not."""
    if part.kind == "layer":
        return len(part.reads + part.beside) // 2
    return max(0, len(part.reads) - (1 if on_line else 2)) // 2 if part.kind == "operation" else 0


def _rows(drawing: Drawing) -> dict[Part, int]:
    """The row of each part, the memories' on top."""
    found = {part: row for row, memory in enumerate(drawing.memories) for part in memory}
    rise, fall = _levels(drawing, found)
    buses = _buses(drawing, found)
    lines = len(drawing.memories)
    layers = max(1, lines + max([0, *rise.values(), *fall.values()]))
    bottom = layers + 2 + max([-1, *buses.values()])
    found |= {part: layers - level for part, level in rise.items()}
    found |= {part: lines - 1 + level for part, level in fall.items()}
    found |= {part: layers + 1 + bus for part, bus in buses.items()}
    found |= dict.fromkeys(drawing.of("layer"), layers)
    return found | dict.fromkeys(drawing.of("input"), bottom)


def _columns(drawing: Drawing, rows: dict[Part, int]) -> dict[Part, int]:
    """The column of each part that computes: one above the other where a value goes straight up or down."""
    found: dict[Part, int] = {}
    lines = {part: memory for memory in drawing.memories for part in memory}
    column: list[Part] = []
    number = -1
    for part in _order(drawing):
        straight = bool(column) and column[-1].kind != "join" and column[-1] in part.reads and part.kind == "operation"
        # What has other readers needs the room above it for their wires, unless that is where its own way ends.
        free = bool(column) and (part in lines or drawing.readers(column[-1]) == [part])
        if not (straight and free) or rows[part] in [rows[other] for other in column]:
            column, number = [], number + 1
        found[part] = number
        column.append(part)
    return found


def _order(drawing: Drawing) -> list[Part]:
    """The parts that compute from left to right, so that the ways of the values are short."""
    ends = ("input", "state", "next")
    free = [part for part in drawing.parts if part.kind not in ends and not _enters(part)]
    ways = Ways(drawing, free)
    return min((ways.shortened(order) for order in (_from_the_ends(drawing, set(free)), free)), key=ways.length)


def _enters(part: Part) -> bool:
    """Whether a join is one of what enters, and stands where that does."""
    return part.kind == "join" and all(read.kind in ("input", "state") or _enters(read) for read in part.reads)


def _from_the_ends(drawing: Drawing, free: set[Part]) -> list[Part]:
    """In the order in which the memories, then the other new values, need them."""
    found: dict[Part, None] = {}

    def need(part: Part) -> None:
        if part in found:
            return
        line = [other for memory in drawing.memories if part in memory for other in memory]
        for other in sorted((*part.reads, *part.beside), key=lambda other: other not in line):
            need(other)
        if part in free:
            found[part] = None

    for part in [*(memory[-1] for memory in drawing.memories), *drawing.of("next"), *drawing.parts]:
        need(part)
    return list(found)


def _levels(drawing: Drawing, on_line: dict[Part, int]) -> tuple[dict[Part, int], dict[Part, int]]:
    """Rows above the layers for what rises to the memories, rows below the lines for what comes from them."""
    rise: dict[Part, int] = {}
    fall: dict[Part, int] = {}
    for part in drawing.parts:
        if part.kind != "operation" or part in on_line:
            continue
        changed = [read for read in part.reads if read in on_line and read.kind != "state"]
        falls = changed or any(read in fall for read in part.reads) or all(read in on_line for read in part.reads)
        levels = fall if falls else rise
        levels[part] = 1 + max([0, *(levels.get(read, 0) for read in part.reads)])
    return rise, fall


def _buses(drawing: Drawing, on_line: dict[Part, int]) -> dict[Part, int]:
    """Rows below the layers: one for each state that is no memory, at both ends, and for each join that has no such."""
    ends = {part.text: part for part in drawing.of("next") if part not in on_line}
    starts = {part.text: part for part in drawing.of("state") if part not in on_line}
    joins = drawing.of("join")
    rows: dict[Part, int] = {}
    owners: dict[str, Part] = {}
    number = 0
    for join in joins:
        free = [read.text for read in join.reads if read in starts.values() and read.text not in owners]
        if free:
            owners[free[0]] = join
        else:
            rows[join] = number
            number += 1
    for name in dict.fromkeys((*starts, *ends)):
        for part in (starts.get(name), ends.get(name), owners.get(name)):
            if part is not None:
                rows[part] = number
        number += 1
    return rows
