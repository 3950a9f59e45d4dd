"""A drawing by matplotlib as SVG that stands in a page: its colours are the page's, its text is text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A colour that matplotlib writes -> the variable of the style sheet that takes its place, in either scheme.
_VARIABLES = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--line",
    "#040404": "--paper",
    "#050505": "--training",
    "#060606": "--held-out",
    "#070707": "--skipped",
}
COLOURS = {name.removeprefix("--"): colour for colour, name in _VARIABLES.items()}
_STYLE = {
    "axes.edgecolor": COLOURS["line"],
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 12,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 1,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "svg.fonttype": "none",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "xtick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.color": COLOURS["line"],
    "ytick.labelcolor": COLOURS["muted"],
    "ytick.major.size": 0,
}
_POINTS_AN_INCH = 72
WIDE, NARROW = 736, 344
# Room around the axes, the same in every figure, so that one step stands below the other.
LEFT, RIGHT, _TOP, _BOTTOM = 46, 46, 26, 26


def svg(name: str, label: str, draw: Callable[[Axes], None], width: int, height: int) -> str:
    """What `draw` draws, as an element of a page, with a label for those who do not see it.

    Its ids begin with its name, since those of a page share one space. The same drawing makes the same text.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    written = BytesIO()
    across, up = 1 - (LEFT + RIGHT) / width, 1 - (_TOP + _BOTTOM) / height
    # From the defaults, whatever the settings of the user are; its fonts only measure what a browser's draw.
    with style.context(["default", _STYLE, {"svg.hashsalt": name}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=(width / _POINTS_AN_INCH, height / _POINTS_AN_INCH))
        draw(figure.add_axes((LEFT / width, _BOTTOM / height, across, up)))
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inlined(written.getvalue().decode(), name, label, width, height)


def _inlined(svg: str, name: str, label: str, width: int, height: int) -> str:
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    # A style or a metadata element would hold for the whole page, or for nobody.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub("|".join(_VARIABLES), lambda found: f"var({_VARIABLES[found[0]]})", body)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{body.strip()}\n'
