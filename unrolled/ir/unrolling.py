"""A cell folded and unrolled over time: what is carried from step to step, arrows of equal weights in one colour."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from unrolled.ir.graph import Node
from unrolled.ir.program import Program
from unrolled.ir.svg import COLOURS, Box, Text, document, named, rectangle, width, wire

_WIDE = 60.0
_TALL = 24.0  # of the box, for each state
_LENGTH = 58.0  # of an arrow between two steps
_UP = 46.0  # of an arrow from below or to above
_MARGIN = 10.0
_GAP = 8.0  # between two labels


@dataclass(frozen=True)
class Arrow:
    """What goes into every step: an input or a state, its colour, and the families of the maps that it meets first."""

    name: str
    colour: str
    maps: str


def arrows(program: Program) -> tuple[list[Arrow], list[Arrow]]:
    """The arrows of the inputs and of the states, the clock among these where there is one."""
    names = [name for name, _ in program.inputs]
    carried = [name for name, _ in program.states] + ["clock"] * program.uses_clock
    maps: dict[str, set[str]] = {name: set() for name in (*names, *carried)}
    for node in program.nodes:
        if node.op == "product":
            for leaf in _before_maps(node.args[1]):
                maps[leaf["name"]].add(node.args[0]["family"])
    found = [
        Arrow(name, COLOURS[place % len(COLOURS)], " ".join(sorted(maps[name])))
        for place, name in enumerate((*names, *carried))
    ]
    return found[: len(names)], found[len(names) :]


def _before_maps(operand: Node) -> set[Node]:
    """The inputs and states that an operand is made of without another map between."""
    found, open_, seen = set[Node](), [operand], set[Node]()
    while open_:
        node = open_.pop()
        if node in seen or node.op == "product":
            continue
        seen.add(node)
        open_ += node.args
        if node.op in ("sequence", "state"):
            found.add(node)
    return found


def unrolling(program: Program, steps: int = 3) -> str:
    """The cell with its loop, and the same over some steps."""
    inputs, states = arrows(program)
    output = program.states[0][0]
    title = program.name.replace("_", "-")
    wide = max(_WIDE, width(title, 13) + 16, _apart(inputs, str(steps)) * (len(inputs) + 1))
    top = _MARGIN + 22 + _UP
    tall = max(48.0, _TALL * len(states) + 12)
    rows = [top + tall * (place + 0.5) / len(states) for place in range(len(states))]
    left = _MARGIN + 10
    box = Box(left, top, left + wide, top + tall)
    parts = _step(box, title, inputs, output, "t")
    loop = box.right + 30
    for arrow, y in zip(states, rows, strict=True):
        parts.append(wire([(box.right, y - 6), (loop, y - 6), (loop, y + 6), (box.right, y + 6)], arrow.colour))
        name = named(arrow.name)
        parts += [name.at(loop + 6, y, "begin"), _maps(arrow).at(loop + 14 + name.width, y, "begin")]
    x = loop + 22 + max(named(arrow.name).width + _maps(arrow).width for arrow in states)
    parts.append(Text("=", classes="upright").at(x + 12, top + tall / 2))
    x += 38 + max(named(arrow.name, "0").width for arrow in states)
    for step in range(1, steps + 1):
        for arrow, y in zip(states, rows, strict=True):
            if step == 1:
                parts.append(named(arrow.name, "0").at(x - 6, y, "end"))
            parts.append(wire([(x, y), (x + _LENGTH, y)], arrow.colour))
            parts.append(_maps(arrow).at(x + _LENGTH / 2 - 4, y - 9))
        x += _LENGTH
        parts += _step(Box(x, top, x + wide, top + tall), title, inputs, output, str(step))
        x += wide
    for arrow, y in zip(states, rows, strict=True):
        parts.append(wire([(x, y), (x + _LENGTH, y)], arrow.colour))
        parts.append(named(arrow.name, str(steps)).at(x + _LENGTH + 5, y, "begin"))
    right = x + _LENGTH + 5 + max(named(arrow.name, str(steps)).width for arrow in states) + _MARGIN
    return document(parts, right, top + tall + _UP + 34, f"{title} folded and unrolled")


def _apart(inputs: list[Arrow], time: str) -> float:
    """How far the arrows of two inputs are apart, so that their labels are."""
    wide = [named(arrow.name, time).width for arrow in inputs]
    return max(((left + right) / 2 + _GAP for left, right in pairwise(wide)), default=0.0)


def _step(box: Box, title: str, inputs: list[Arrow], output: str, time: str) -> list[str]:
    """One box with what enters it from below and what leaves it above."""
    middle = (box.left + box.right) / 2
    parts = [rectangle(box, "layer"), Text(title, classes="upright small").at(middle, (box.top + box.bottom) / 2)]
    parts += [wire([(middle, box.top), (middle, box.top - _UP)]), named(output, time).at(middle, box.top - _UP - 12)]
    for place, arrow in enumerate(inputs, 1):
        x = box.left + (box.right - box.left) * place / (len(inputs) + 1)
        parts.append(wire([(x, box.bottom + _UP), (x, box.bottom)], arrow.colour))
        parts.append(named(arrow.name, time).at(x, box.bottom + _UP + 13))
        parts.append(_maps(arrow).at(x + 5, box.bottom + _UP / 2 + 4, "begin"))
    return parts


def _maps(arrow: Arrow) -> Text:
    return Text(arrow.maps, classes=f"small {arrow.colour}")
