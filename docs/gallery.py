"""The gallery of cells and structures, docs/cells.md and its drawings: all of it made from the programs.

Step times are measured by benchmarks/cells.py and read from docs/figures/step_times.json.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from structures import DRAWINGS

import unrolled.cells
from unrolled.cells import all_cells
from unrolled.ir.diagram import diagram, steps
from unrolled.ir.plan import Plan
from unrolled.ir.summary import flop_formula, parameter_formula, typical_plan
from unrolled.ir.unrolling import unrolling
from unrolled.language import Cell
from unrolled.structures import STRUCTURES, Structure

FOLDER = Path(__file__).parent
PAGE, FIGURES = FOLDER / "cells.md", FOLDER / "figures"
TIMES = FIGURES / "step_times.json"
TIMED = {"step": "a step of a stream", "training": "training"}
INTRODUCTION = """\
# Cells and structures

`make docs` writes this page from the programs. Each cell's sentence says what it is and when to choose it.

How to read a diagram: time goes from left to right. A blue line is a memory: a state that is only multiplied and added
to. A square is a layer, a weighted sum of what enters from below and the function of it (σ is the sigmoid, Σ the sum
alone, LN layer normalisation); lines that meet before it are read together. A broken line goes in without a map, unit
by unit, as a peephole does. What is round is done to each unit. In the row of steps, arrows of one colour have the same
weights, and the letters are those of the maps: `W` of an input, `U` of a state, `V` of anything else.

Parameters and operations are counted in the sizes of the axes: two operations for each entry of a map, else one for
each unit. A stage is the work between two products that wait for each other.
"""


def files() -> dict[Path, str]:
    """Every file of the gallery with its text."""
    found = {PAGE: page()}
    for name, cell in unrolled.cells.all_cells().items():
        kinds = {"": diagram, "-unrolled": unrolling, "-steps": steps}
        found |= {FIGURES / "cells" / f"{name}{kind}.svg": draw(cell.program) for kind, draw in kinds.items()}
    return found | {FIGURES / "structures" / f"{name}.svg": draw() for name, draw in DRAWINGS.items()}


def drawings() -> list[Path]:
    """The drawings that are there."""
    return sorted(path for kind in ("cells", "structures") for path in (FIGURES / kind).glob("*.svg"))


def page() -> str:
    """The text of the page."""
    times = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.exists() else {}
    parts = [INTRODUCTION]
    names = [f"[{name}](#{name})" for name in (*unrolled.cells.all_cells(), *STRUCTURES)]
    parts.append(" · ".join(names) + "\n")
    if times:
        parts.append(_measured(times))
    parts.append("## Cells\n")
    for module, cells in families():
        together = len(cells) > 1
        if together:
            parts.append(f"### {_heading(module)}\n\n{_prose(module)}\n")
        for cell in cells:
            remarks = "" if together else _prose(module)
            parts.append(_section(cell, "####" if together else "###", remarks, times))
    parts.append("## Structures\n")
    parts += [_structure(name, structure) for name, structure in STRUCTURES.items()]
    return "\n".join(parts).rstrip() + "\n"


def families() -> list[tuple[ModuleType, list[Cell]]]:
    """The modules of cells, each with its own, in the order of its file."""
    found = []
    for name in sorted(module.name for module in pkgutil.iter_modules(unrolled.cells.__path__)):
        module = importlib.import_module(f"unrolled.cells.{name}")
        found.append((module, [value for value in vars(module).values() if isinstance(value, Cell)]))
    return [(module, cells) for module, cells in found if cells]


def _heading(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2].replace("_", " ")


def _prose(module: ModuleType) -> str:
    """What the file says before its cells: conventions and departures."""
    # What stands between backticks is shown as it is; a name there is that of the cell.
    parts = (module.__doc__ or "").strip().split("`")
    parts[::2] = [part.replace("*", r"\*").replace("_", r"\_") for part in parts[::2]]
    parts[1::2] = [part.replace("_", "-") if part.replace("_", "-") in all_cells() else part for part in parts[1::2]]
    return "`".join(parts)


def _section(cell: Cell, heading: str, remarks: str, times: dict[str, Any]) -> str:
    plan = typical_plan(cell.program)
    figure = f"figures/cells/{cell.name}"
    rows = [f"- {key}: {value}" for key, value in _facts(cell, plan, times).items() if value]
    return "\n".join(
        [
            f"{heading} {cell.name}\n",
            f"**{cell.program.doc}**\n",
            *([f"{remarks}\n"] if remarks else []),
            f"![the step of {cell.name}]({figure}.svg)\n",
            f"```math\n{cell.latex()}\n```\n",
            *rows,
            "",
            f"![{cell.name} folded and unrolled]({figure}-unrolled.svg)\n",
            "<details>\n<summary>Equation by equation</summary>\n",
            f"![the equations of {cell.name}, one picture each]({figure}-steps.svg)\n",
            "</details>\n",
        ]
    )


def _facts(cell: Cell, plan: Plan, times: dict[str, Any]) -> dict[str, str]:
    """What is known of a cell, by name."""
    program = cell.program
    states = [name for name, _ in program.states] + ["a clock"] * program.uses_clock
    begun = [f"`{name}` {value if isinstance(value, str) else f'{value:g}'}" for name, value in _begun(cell).items()]
    measured = times.get("cells", {}).get(cell.name, {})
    ratios = [f"{words} {measured[key]['ratio']:.2f}" for key, words in TIMED.items() if key in measured]
    return {
        "states": ", ".join(states) + (" (linear)" if plan.linear else ""),
        "parameters": str(parameter_formula(plan)),
        "operations a step": str(flop_formula(plan)),
        "stages a step": str(len(plan.stages)),
        "begins with": ", ".join(begun),
        "time, the LSTM's as 1": ", ".join(ratios),
        "source": cell.source,
    }


def _begun(cell: Cell) -> dict[str, float | str]:
    """Where states and symbols begin, if that is not where they always do."""
    return {**cell.program.initial, **cell.program.init}


def _measured(times: dict[str, Any]) -> str:
    about = times["machine"]
    shape = ", ".join(map(str, times["shape"]))
    return (
        f"Times are measured on {about['cpu']}, {about['threads']} threads, beside the LSTM of the same sizes, "
        f"`python benchmarks/cells.py`: one step of a stream of one sequence, and training at {shape} (time, batch, "
        "input, hidden).\n"
    )


def _structure(name: str, structure: Structure) -> str:
    drawing = f"![{name}](figures/structures/{name}.svg)\n\n" if name in DRAWINGS else ""
    rows = f"- written: {structure.use}\n- source: {structure.source}\n"
    return f"### {name}\n\n**{structure.sentence}**\n\n{drawing}{rows}"
