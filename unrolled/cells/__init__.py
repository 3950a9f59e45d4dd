"""The cells of the literature: one paper, one file. Each file holds equations only and is found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import FunctionType

from unrolled.errors import CellError, UsageError, did_you_mean
from unrolled.language import Cell, parse, parse_all
from unrolled.structures import STRUCTURES


@cache
def all_cells() -> dict[str, Cell]:
    """Every cell of the package by name, in alphabetical order."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for value in vars(loaded).values():
            if isinstance(value, Cell):
                found[value.name] = value
    return dict(sorted(found.items()))


def get(name: str) -> Cell:
    """The cell of this name; hyphens and underscores are the same.

    Raises   UsageError, with the nearest name, when there is none, and for a structure
    """
    cells = all_cells()
    wanted = name.replace("_", "-")
    if wanted in STRUCTURES:
        raise UsageError(f"{wanted!r} is no cell but a structure, made of layers: {STRUCTURES[wanted].use}")
    if wanted not in cells:
        raise UsageError(
            f"there is no cell {name!r}.{did_you_mean(wanted, {*cells, *STRUCTURES})} `unrolled cells` lists them all."
        )
    return cells[wanted]


def resolve(cell: str | Cell) -> Cell:
    """The cell that a user means: a cell itself, a name, a file of equations, or the text of the equations.

    A file is a path that ends in .py or .txt; `path.py:name` picks one cell of several. Files and texts are parsed,
    never executed.

    Raises   UsageError when there is no such name or file, CellError when the equations do not make a program
    """
    if isinstance(cell, Cell):
        return cell
    if not isinstance(cell, str):
        raise UsageError(_no_cell(cell))
    if "\n" in cell or cell.lstrip().startswith("@"):
        return parse(cell)
    path, _, name = cell.rpartition(":") if not _is_path(cell) else (cell, "", "")
    if _is_path(path):
        return _from_file(Path(path), name)
    if not cell.strip():
        raise UsageError("no cell is named. `unrolled cells` lists them all.")
    return get(cell)


def _no_cell(given: object) -> str:
    """The message for what is neither a cell nor a text."""
    name = getattr(given, "__name__", type(given).__name__)
    if isinstance(given, FunctionType):
        return f"the function {name} is no cell yet: decorate it with @cell"
    if getattr(given, "__module__", "") == "torch.nn.modules.rnn":
        return f"torch's {name} is no cell: give a cell's name, such as 'lstm', or use unrolled.nn.{name}"
    return f"a cell is a name, such as 'lstm', a Cell, or equations as text or file, not {given!r}"


def _is_path(text: str) -> bool:
    return text.endswith((".py", ".txt"))


def _from_file(path: Path, name: str) -> Cell:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"there is no file {str(path)!r}{_neighbour(path)}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the file {str(path)!r} is no UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"the file {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        cells = {cell.name: cell for cell in parse_all(text)}
    except CellError as error:
        raise type(error)(f"{error}\n  The file is {path}.") from error
    if not cells:
        raise CellError(f"the file {str(path)!r} has no cell: a function under @cell")
    wanted = name.replace("_", "-")
    if wanted and wanted not in cells:
        raise UsageError(f"the file {str(path)!r} has no cell {name!r}.{did_you_mean(wanted, cells)}")
    if not wanted and len(cells) > 1:
        first = next(iter(cells))
        raise UsageError(f"the file {str(path)!r} has the cells {', '.join(cells)}: pick one, as in {path}:{first}")
    return cells[wanted] if wanted else next(iter(cells.values()))


def _neighbour(path: Path) -> str:
    """A hint at the file that was meant: of a like name in the same folder."""
    if not path.parent.is_dir():
        return f": there is no folder {str(path.parent)!r}"
    near = did_you_mean(path.name, (other.name for other in path.parent.iterdir() if _is_path(other.name)))
    return f".{near}" if "mean" in near else ""
