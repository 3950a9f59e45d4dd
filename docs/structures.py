"""The ways to combine layers, each with a drawing: time to the right, depth upwards, equal weights in one colour."""

from __future__ import annotations

from collections.abc import Callable

from unrolled.ir.svg import Box, Position, Text, document, named, rectangle, wire

HALF, ACROSS, UP, MARGIN = 15.0, 74.0, 68.0, 36.0
STEPS = 4
ASIDE = 17.0  # what goes past a box


class Canvas:
    """Boxes on a grid of steps and layers, row 0 the lowest, and arrows between them."""

    def __init__(self, columns: int, rows: int, label: str):
        self.columns, self.rows, self.label = columns, rows, label
        self.parts: list[str] = []

    def at(self, column: float, row: float) -> Position:
        """A place in the drawing."""
        return MARGIN + column * ACROSS, MARGIN + (self.rows - 1 - row) * UP

    def box(self, column: float, row: float) -> None:
        """One step of a layer."""
        x, y = self.at(column, row)
        self.parts.append(rectangle(Box(x - HALF, y - HALF, x + HALF, y + HALF), "layer"))

    def value(self, name: str, below: str, column: float, row: float) -> None:
        """What enters or leaves."""
        self.parts.append(named(name, below).at(*self.at(column, row)))

    def sideways(self, column: float, to: float, row: float, colour: str) -> None:
        """From one step to another, forward or backward."""
        (x, y), (end, _) = self.at(column, row), self.at(to, row)
        toward = HALF if end > x else -HALF
        self.parts.append(wire([(x + toward, y), (end - toward, y)], colour))

    def upward(self, column: float, row: float, to: float, to_row: float, colour: str = "") -> None:
        """From one layer to another above it, with a step to the side halfway where it needs one."""
        (x, y), (end, top) = self.at(column, row), self.at(to, to_row)
        middle = top + HALF + (y - top - 2 * HALF) / 2
        self.parts.append(wire([(x, y - HALF), (x, middle), (end, middle), (end, top + HALF)], colour))

    def past(self, column: float, row: float) -> None:
        """From below a box to a sum above it."""
        x, y = self.at(column, row)
        low, high = y + HALF + 9, y - HALF - 11
        points = [(x, low), (x + ASIDE + 6, low), (x + ASIDE + 6, high), (x + 8, high)]
        self.parts.append(wire(points))
        self.parts.append(rectangle(Box(x - 8, high - 8, x + 8, high + 8), "operation", 8))
        self.parts.append(Text("+", classes="upright small").at(x, high))

    def text(self) -> str:
        """The file."""
        return document(
            self.parts,
            2 * MARGIN + (self.columns - 1) * ACROSS,
            2 * MARGIN + (self.rows - 1) * UP,
            self.label,
        )


def _deep(label: str, colours: tuple[str, str, str, str], past: bool = False) -> str:
    """Two layers; the colours of the ways up into each and of each one's way through time."""
    canvas = Canvas(STEPS, 4, label)
    for step in range(STEPS):
        canvas.value("x", str(step + 1), step, 0)
        for layer in (1, 2):
            canvas.upward(step, layer - 1, step, layer, colours[layer - 1])
        canvas.upward(step, 2, step, 3)
        for layer in (1, 2):
            if past:
                canvas.past(step, layer)
            canvas.box(step, layer)
            if step:
                canvas.sideways(step - 1, step, layer, colours[layer + 1])
        canvas.value("y", str(step + 1), step, 3)
    return canvas.text()


def _bidirectional() -> str:
    canvas = Canvas(STEPS, 4, "bidirectional")
    aside = ASIDE / ACROSS
    for step in range(STEPS):
        canvas.value("x", str(step + 1), step, 0)
        canvas.upward(step - aside, 0, step - aside, 1, "a")
        canvas.upward(step + aside, 0, step + aside, 2, "b")
        canvas.upward(step - aside, 1, step - aside, 3)
        canvas.upward(step + aside, 2, step + aside, 3)
        canvas.box(step - aside, 1)
        canvas.box(step + aside, 2)
        if step:
            canvas.sideways(step - 1 - aside, step - aside, 1, "c")
            canvas.sideways(step + aside, step - 1 + aside, 2, "d")
        canvas.value("y", str(step + 1), step, 3)
    return canvas.text()


def _sliced() -> str:
    """Eight steps in slices of two, on three levels."""
    canvas = Canvas(8, 5, "sliced")
    ends = [float(step) for step in range(8)]
    for step in range(8):
        canvas.value("x", str(step + 1), step, 0)
    for level, colours in enumerate(("ad", "be", "cg"), 1):
        for place, end in enumerate(ends):
            canvas.upward(end, level - 1, end, level, colours[1])
            canvas.box(end, level)
            if place % 2:
                canvas.sideways(ends[place - 1], end, level, colours[0])
        ends = ends[1::2]
    canvas.upward(ends[0], 3, ends[0], 4)
    canvas.value("y", "", ends[0], 4)
    return canvas.text()


def _grid() -> str:
    canvas = Canvas(STEPS, 5, "grid")
    for step in range(STEPS):
        canvas.value("x", str(step + 1), step, 0)
        for layer in (1, 2, 3):
            canvas.upward(step, layer - 1, step, layer, "b")
            canvas.box(step, layer)
            if step:
                canvas.sideways(step - 1, step, layer, "a")
        canvas.upward(step, 3, step, 4, "b")
        canvas.value("y", str(step + 1), step, 4)
    return canvas.text()


def _tree() -> str:
    canvas = Canvas(4, 5, "tree")
    nodes = [float(leaf) for leaf in range(4)]
    for leaf, place in enumerate(nodes):
        canvas.value("x", str(leaf + 1), place, 0)
        canvas.upward(place, 0, place, 1, "c")
        canvas.box(place, 1)
    for level in (2, 3):
        parents = [(left + right) / 2 for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
        for place, parent in enumerate(parents):
            canvas.upward(nodes[2 * place], level - 1, parent - 0.1, level, "a")
            canvas.upward(nodes[2 * place + 1], level - 1, parent + 0.1, level, "b")
            canvas.box(parent, level)
        nodes = parents
    canvas.upward(nodes[0], 3, nodes[0], 4)
    canvas.value("y", "", nodes[0], 4)
    return canvas.text()


DRAWINGS: dict[str, Callable[[], str]] = {
    "deep": lambda: _deep("deep", ("a", "b", "c", "d")),
    "residual": lambda: _deep("residual", ("a", "b", "c", "d"), past=True),
    "tied": lambda: _deep("tied", ("a", "a", "c", "c")),
    "bidirectional": _bidirectional,
    "sliced": _sliced,
    "grid-lstm": _grid,
    "tree-lstm": _tree,
}
