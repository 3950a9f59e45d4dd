"""The commands that look at cells."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from unrolled.errors import UsageError


def show(
    cell: Annotated[
        str,
        typer.Argument(
            help="A name; a .py or .txt file of equations, FILE:NAME for one of several; or the equations as text.",
            show_default=False,
        ),
    ],
    equations: Annotated[bool, typer.Option("--equations", help="The cell in its own language.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="The equations typeset.")] = False,
    ir: Annotated[bool, typer.Option("--ir", help="The program: one operation a line.")] = False,
    gradient: Annotated[bool, typer.Option("--gradient", help="The backward step as equations.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="What leaves the time loop, products, stages.")] = False,
    llvm: Annotated[bool, typer.Option("--llvm", help="The CPU engine's code, as LLVM has it.")] = False,
    asm: Annotated[bool, typer.Option("--asm", help="The CPU engine's code, as this processor has it.")] = False,
    train: Annotated[
        bool, typer.Option("--train", help="--llvm and --asm of training, forward and backward, not of inference.")
    ] = False,
    notation: Annotated[
        str, typer.Option("--notation", help="The letters of --latex: unrolled or lecture.", show_default=False)
    ] = "",
) -> None:
    """Print a cell, in short or at any of its stages."""
    from unrolled.cells import resolve
    from unrolled.ir.gradient import gradient_text
    from unrolled.ir.graph import listing
    from unrolled.ir.plan_text import plan_text
    from unrolled.ir.show import display_names
    from unrolled.ir.summary import summary, typical_plan

    if train and not (llvm or asm):
        raise UsageError("--train says which code is printed; it goes with --llvm or --asm")
    chosen = resolve(cell)
    program = chosen.program
    parts = []
    if equations:
        parts.append(chosen.text)
    if latex or notation:
        parts.append(chosen.latex(notation or "unrolled"))
    if ir:
        parts.append(listing(program.nodes, display_names(program)))
    if gradient:
        parts.append(gradient_text(program))
    if plan:
        parts.append(plan_text(typical_plan(program)))
    if llvm or asm:
        from unrolled.backends.llvm.show import code_text

        made = typical_plan(program)
        parts += [code_text(made, assembly=form, train=train) for form, asked in ((False, llvm), (True, asm)) if asked]
    parts = parts or [chosen.text, summary(program)]
    print("\n\n".join(part.strip("\n") for part in parts))


def cells(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List the cells and what each of them costs."""
    from unrolled.cells import all_cells
    from unrolled.ir.summary import parameter_formula, typical_plan

    rows: list[dict[str, Any]] = []
    for name, cell in all_cells().items():
        plan = typical_plan(cell.program)
        rows.append(
            {
                "name": name,
                "states": [state for state, _ in cell.program.states],
                "parameters": str(parameter_formula(plan)),
                "stages": len(plan.stages),
                "source": cell.source,
                "description": cell.program.doc,
            }
        )
    if as_json:
        import json

        print(json.dumps({"cells": rows}, ensure_ascii=False, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "states", "parameters", "stages", "source", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(row["name"], ", ".join(row["states"]), row["parameters"], str(row["stages"]), row["source"])
    # What is piped has no width to keep to: each cell stays on one line.
    Console(width=None if sys.stdout.isatty() else 240, highlight=False, markup=False).print(table)


def demo(
    minutes: Annotated[float, typer.Option("--minutes", help="How long the network is trained.", min=0.05)] = 2.5,
) -> None:
    """Train a cell of ten lines on Python's documentation and show what it has learned."""
    from unrolled.demo import demo as run_demo

    run_demo(minutes)
