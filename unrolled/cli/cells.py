"""The commands that look at cells."""

from __future__ import annotations

import sys
from pathlib import Path
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
    file: Annotated[str, typer.Argument(help="Where --diagram is written, else printed.", show_default=False)] = "",
    equations: Annotated[bool, typer.Option("--equations", help="The cell in its own language.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="The equations typeset.")] = False,
    diagram: Annotated[bool, typer.Option("--diagram", help="The step drawn, as SVG.")] = False,
    highlight: Annotated[
        str, typer.Option("--highlight", help="The equation of --diagram that stands out.", show_default=False)
    ] = "",
    step: Annotated[bool, typer.Option("--step", help="One small step in numbers, equation by equation.")] = False,
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
    if (file or highlight) and not diagram:
        raise UsageError(f"{'a file' if file else '--highlight'} goes with --diagram: unrolled show {cell} --diagram")
    chosen = resolve(cell)
    program = chosen.program
    parts = []
    if equations:
        parts.append(chosen.text)
    if latex or notation:
        parts.append(chosen.latex(notation or "unrolled"))
    if diagram:
        from unrolled.ir.diagram import diagram as drawn

        parts += _kept(drawn(program, highlight), file)
    if step:
        from unrolled.layers.worked import worked_step

        parts.append(worked_step(chosen))
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


def _kept(drawing: str, file: str) -> list[str]:
    """What is printed of a drawing: all of it, or where it was written to."""
    if not file:
        return [drawing]
    Path(file).write_text(drawing, encoding="utf-8")
    return [f"written to {file}"]


def cells(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List the cells, and what each of them costs, and the structures that are made of them."""
    from dataclasses import asdict

    from unrolled.cells import all_cells
    from unrolled.ir.summary import parameter_formula, typical_plan
    from unrolled.structures import STRUCTURES

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

        structures = [{"name": name, **asdict(structure)} for name, structure in STRUCTURES.items()]
        print(json.dumps({"cells": rows, "structures": structures}, ensure_ascii=False, indent=2))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "states", "parameters", "stages", "source", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(row["name"], ", ".join(row["states"]), row["parameters"], str(row["stages"]), row["source"])
    made = Table("structure", "what it does", "how", box=box.SIMPLE_HEAD)
    for name, structure in STRUCTURES.items():
        made.add_row(name, structure.sentence, structure.use)
    # What is piped has no width to keep to: each row stays on one line.
    console = Console(width=None if sys.stdout.isatty() else 500, highlight=False, markup=False)
    console.print(table)
    console.print(made)


def demo(
    minutes: Annotated[float, typer.Option("--minutes", help="How long the network is trained.", min=0.05)] = 2.5,
) -> None:
    """Train a cell of ten lines on Python's documentation and show what it has learned."""
    from unrolled.demo import demo as run_demo

    run_demo(minutes)
