"""What a demonstration gives: tables and drawings, and how they are printed and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that are told apart by everyone and read on white and on dark grey (Wong 2011).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#9a6324")
_POINTS_AN_INCH = 72


@dataclass(frozen=True)
class Settings:
    """How thoroughly the demonstrations are run.

    seeds   how many a row, where a row has several; None for each part's own number
    quick   a few steps of everything, to see that it works: the figures mean nothing
    data    the folder of the real data
    """

    seeds: int | None = None
    quick: bool = False
    data: Path = Path("../shared/data")

    def seeds_of(self, usual: int) -> range:
        """The seeds of a row."""
        return range(1 if self.quick else self.seeds or usual)

    def steps_of(self, usual: int) -> int:
        """How many steps of training."""
        return min(usual, 3) if self.quick else usual


@dataclass
class Table:
    """Rows under named columns.

    columns   heading -> how a value is written, such as ".3f" or "" for text; None is written as a dash
    """

    name: str
    caption: str
    columns: dict[str, str]
    rows: list[Sequence[Any]] = field(default_factory=list)

    def add(self, *values: Any) -> None:
        """One more row."""
        assert len(values) == len(self.columns)
        self.rows.append(values)

    def texts(self) -> list[list[str]]:
        """The rows as they are read."""
        formats = list(self.columns.values())
        return [[_text(value, form) for value, form in zip(row, formats, strict=True)] for row in self.rows]


@dataclass(frozen=True)
class Drawing:
    """A figure of matplotlib, with a sentence for those who do not see it."""

    name: str
    label: str
    draw: Callable[[Figure], None]
    size: tuple[int, int] = (736, 320)


Shown = Table | Drawing


def _text(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


def show(console: Console, table: Table) -> None:
    """Print a table."""
    grid = Grid(box=box.SIMPLE_HEAD, title=table.caption, title_justify="left", title_style="")
    for heading, form in table.columns.items():
        grid.add_column(heading, justify="right" if form else "left", no_wrap=not form and len(heading) < 20)
    for row in table.texts():
        grid.add_row(*row)
    console.print(grid)


def write(folder: Path, part: str, about: dict[str, Any], tables: list[Table], drawings: list[Drawing]) -> None:
    """Write a part's tables as JSON and its drawings as SVG; whatever else lies in the folder stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in drawings:
        (folder / f"{part}-{drawing.name}.svg").write_text(_svg(drawing), encoding="utf-8")
    content = {
        **about,
        "tables": {table.name: asdict(table) for table in tables},
        "drawings": {drawing.name: drawing.label for drawing in drawings},
    }
    (folder / f"{part}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _svg(drawing: Drawing) -> str:
    from matplotlib import style
    from matplotlib.figure import Figure

    settings = {
        "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "figure.constrained_layout.use": True,
        "figure.facecolor": "white",
        "font.size": 10,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": drawing.name,
    }
    written = BytesIO()
    with style.context(["default", settings]):
        width, height = drawing.size
        figure = Figure(figsize=(width / _POINTS_AN_INCH, height / _POINTS_AN_INCH))
        drawing.draw(figure)
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return written.getvalue().decode()
