"""Writes into README.md what is generated: the table of cells. `--check` only says whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from unrolled.cells import all_cells
from unrolled.ir.summary import parameter_formula, typical_plan

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- cells: written by `make docs` -->", "<!-- end of cells -->"


def cells_table() -> str:
    """Every cell, one row each."""
    rows = ["| cell | states | parameters | stages | equations from |", "|---|---|---|---|---|"]
    for name, cell in all_cells().items():
        plan = typical_plan(cell.program)
        states = ", ".join(state for state, _ in cell.program.states)
        rows.append(f"| `{name}` | {states} | {parameter_formula(plan)} | {len(plan.stages)} | {cell.source} |")
    return "\n".join(rows)


def written(readme: str) -> str:
    """The text with the generated part made anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{cells_table()}\n{END}{after}"


if __name__ == "__main__":
    current = README.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit("README.md is out of date: make docs" if written(current) != current else 0)
    README.write_text(written(current), encoding="utf-8")
