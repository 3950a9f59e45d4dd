"""Drawings as SVG text: labels whose width is known without a font, rounded wires, colours for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape, unescape

from unrolled.ir.latex import GREEK

Position = tuple[float, float]

SIZE = 15  # of the letters of a label; above and below the line they are smaller
_SMALL = 0.7
_ROUND = 6.0
# Width of a character in parts of the size of its letters: no common font is wider.
_NARROW, _WIDE = "iljftr.,:;'|()[] ", "mwMWΣ+−×÷=<>≤@–…"
_WIDTHS = {**dict.fromkeys(_NARROW, 0.42), **dict.fromkeys(_WIDE, 1.05)}
_OTHER, _CAPITAL = 0.7, 0.9
COLOURS = "abcdefg"  # of what a colour alone tells apart
# Name -> colour on a light page, on a dark one.
_PALETTE = {
    "ink": ("#24292f", "#e6edf3"),
    "layer": ("#fff1c2", "#4b3d12"),
    "operation": ("#fde0dc", "#59302c"),
    "a": ("#0969da", "#58a6ff"),
    "b": ("#bc4c00", "#f0883e"),
    "c": ("#1a7f37", "#3fb950"),
    "d": ("#8250df", "#bc8cff"),
    "e": ("#bf3989", "#f778ba"),
    "f": ("#6e7781", "#8d96a0"),
    "g": ("#0a7f86", "#39c5cf"),
}


def _style() -> str:
    """The style of every drawing: each is a file of its own, so that it holds for that alone."""
    light, dark = ("".join(f"--{name}:{pair[shade]};" for name, pair in _PALETTE.items()) for shade in (0, 1))
    rules = [
        f"svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}",
        f"text{{font:italic {SIZE}px 'STIX Two Text','Times New Roman',Times,serif}}",
        "text{fill:var(--ink);text-anchor:middle}",
        ".upright{font-style:normal}.small{font-size:13px}.begin{text-anchor:start}.end{text-anchor:end}",
        ".code{font:12px ui-monospace,Consolas,monospace;text-anchor:start}",
        "path{fill:none;stroke:var(--ink);stroke-width:1.3}.head{fill:var(--ink);stroke:none}",
        ".beside{stroke-dasharray:4 3}.line{stroke:var(--a);stroke-width:2.6}.line+.head{fill:var(--a)}",
        "rect{stroke:var(--ink);stroke-width:1.1}.layer{fill:var(--layer)}.operation{fill:var(--operation)}",
        *(
            f"path.{each}{{stroke:var(--{each});stroke-width:2}}.{each}+.head,text.{each}{{fill:var(--{each})}}"
            for each in COLOURS
        ),
    ]
    return f"<style>{''.join(rules)}</style>"


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point in common, other than on their edges."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: Box) -> bool:
        """Whether the other lies within this one."""
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


@dataclass(frozen=True)
class Text:
    """A name with what stands above and below its line, such as the time."""

    base: str
    above: str = ""
    below: str = ""
    classes: str = ""

    @property
    def width(self) -> float:
        """No font makes it wider."""
        return width(self.base) + _SMALL * (width(self.above) + width(self.below))

    def at(self, x: float, y: float, anchor: str = "") -> str:
        """The text with its middle, or the end that `anchor` names (begin or end), at x and its middle at y."""
        if not self.base:
            return ""
        parts, line = [escape(self.base)], 0
        for text, offset in ((self.above, -6), (self.below, 4)):
            if text:
                parts.append(f'<tspan dy="{offset - line}" font-size="{_SMALL * SIZE:.3g}">{escape(text)}</tspan>')
                line = offset
        classes = " ".join(filter(None, (self.classes, anchor)))
        return f'<text{_class(classes)} x="{short(x)}" y="{short(y + 4.5)}">{"".join(parts)}</text>'

    def box(self, x: float, y: float, anchor: str = "") -> Box:
        """The room that it takes there."""
        left = {"": x - self.width / 2, "begin": x, "end": x - self.width}[anchor]
        up, down = (13.0 if self.above else 8.0), (11.0 if self.below else 8.0)
        return Box(left, y - up, left + self.width, y + down)


def named(name: str, below: str = "", classes: str = "") -> Text:
    """A name of the equations: what follows its first underscore, or a number in brackets, stands above the line."""
    base, mark, number = name.partition("(")
    base, _, rest = base.partition("_")
    above = " ".join(filter(None, (rest.replace("_", " "), mark + number)))
    return Text(letter(base), above, below, classes)


def letter(name: str) -> str:
    """A Greek letter for its name, any other name as it is."""
    return unescape(f"&{name};") if name in GREEK else name


def width(text: str, size: float = SIZE) -> float:
    """The width of a text in a common font, or less."""
    return size * sum(_WIDTHS.get(each, _CAPITAL if each.isupper() else _OTHER) for each in text)


def wire(points: Sequence[Position], classes: str = "", arrow: bool = True) -> str:
    """A line through points, its corners rounded, with an arrowhead at its end."""
    points = _straightened(points)
    steps = [f"M{_point(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        reach = min(_ROUND, _distance(before, corner) / 2, _distance(corner, after) / 2)
        steps.append(
            f"L{_point(_towards(corner, before, reach))}Q{_point(corner)} {_point(_towards(corner, after, reach))}"
        )
    end = _towards(points[-1], points[-2], 5) if arrow else points[-1]
    steps.append(f"L{_point(end)}")
    drawn = f'<path{_class(classes)} d="{"".join(steps)}"/>'
    return drawn + (_head(points[-2], points[-1]) if arrow else "")


def _head(before: Position, end: Position) -> str:
    x, y = _towards(end, before, 7)
    dx, dy = (end[0] - x) / 2, (end[1] - y) / 2
    return f'<path class="head" d="M{_point(end)}L{_point((x - dy, y + dx))}L{_point((x + dy, y - dx))}z"/>'


def rectangle(box: Box, classes: str, radius: float = 5) -> str:
    """A box with round corners."""
    size = f'width="{short(box.right - box.left)}" height="{short(box.bottom - box.top)}"'
    return f'<rect{_class(classes)} x="{short(box.left)}" y="{short(box.top)}" {size} rx="{short(radius)}"/>'


def document(parts: Iterable[str], wide: float, high: float, label: str) -> str:
    """A file of these parts, with a label for those who do not see it."""
    size = f'width="{short(wide)}" height="{short(high)}" viewBox="0 0 {short(wide)} {short(high)}"'
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">'
    return "\n".join([opened, _style(), *parts, "</svg>"]) + "\n"


def short(value: float) -> str:
    """A number with one digit after the point where it needs one."""
    return f"{value:.1f}".removesuffix(".0")


def _class(classes: str) -> str:
    return f' class="{classes}"' if classes else ""


def _point(place: Position) -> str:
    return f"{short(place[0])} {short(place[1])}"


def _distance(a: Position, b: Position) -> float:
    return float(((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5)


def _towards(start: Position, end: Position, reach: float) -> Position:
    share = reach / (_distance(start, end) or 1)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _straightened(points: Sequence[Position]) -> list[Position]:
    """The points without those that stand on the way between their neighbours."""
    found = [points[0]]
    for place, after in zip(points[1:], [*points[2:], points[-1]], strict=True):
        before = found[-1]
        turned = (place[0] - before[0]) * (after[1] - place[1]) - (place[1] - before[1]) * (after[0] - place[0])
        if place is points[-1] or abs(turned) > 1e-6:
            found.append(place)
    return found if len(found) > 1 else [points[0], points[-1]]
