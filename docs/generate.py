"""Writes what is generated: the names of the cells in README.md, and the gallery.

`--check` only says whether it is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gallery
import shown

from unrolled.cells import all_cells
from unrolled.structures import STRUCTURES

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- cells: written by `make docs` -->", "<!-- end of cells -->"


def names() -> str:
    """The names of all cells and structures, each with the way to its place in the gallery."""
    return "\n\n".join(
        f"{len(kind)} {word}: {', '.join(f'[{name}](docs/cells.md#{name})' for name in kind)}."
        for word, kind in (("cells", all_cells()), ("structures", STRUCTURES))
    )


def readme() -> str:
    """README.md with its generated part made anew."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{names()}\n{END}{after}"


def files() -> dict[Path, str]:
    """Every file that is generated, wholly or in part, with its text."""
    return {README: readme(), **gallery.files(), **shown.files()}


def outdated() -> list[Path]:
    """The files that are not what they would be, and drawings that nothing refers to any more."""
    wanted = files()
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return changed + [path for path in gallery.drawings() if path not in wanted]


if __name__ == "__main__":
    late = outdated()
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(path.name for path in late)}: make docs" if late else 0)
    wanted = files()
    for path in late:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
