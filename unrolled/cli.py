"""The command line: thin functions over what can be imported. Nothing heavy is loaded before a command needs it."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from unrolled.errors import CellError, UnrolledError, UsageError

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="unrolled",
    help="Recurrent networks, from the equation to the service.",
    epilog="--debug, before or after the command, shows where an error was raised.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 ran and failed, 2 wrong input or usage, 130 interrupted."""
    given, debug = _without_debug(list(sys.argv[1:] if arguments is None else arguments))
    _write_any_text()
    try:
        code = _run(given)
        sys.stdout.flush()
    except UnrolledError as error:
        print(traceback.format_exc() if debug else _message(error), file=sys.stderr)
        return WRONG_INPUT if isinstance(error, UsageError | CellError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has left. What Python still holds back at its end must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _run(arguments: list[str]) -> int:
    try:
        app(arguments, prog_name="unrolled")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE
    return DONE


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return kept + arguments[end:], len(kept) < end


def _write_any_text() -> None:
    """Let every text be written: a terminal shows ? for what its encoding lacks, pipes and files get UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _message(error: UnrolledError) -> str:
    """`ShapeError in cell 'mine', equation g: …` or `UsageError: there is no cell …`."""
    text = str(error)
    return f"{type(error).__name__}{' ' if text.startswith('in cell ') else ': '}{text}"


def _version(wanted: bool) -> None:
    if wanted:
        from unrolled import __version__

        print(f"unrolled {__version__}")
        raise typer.Exit


@app.callback()
def unrolled(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Recurrent networks, from the equation to the service."""


@app.command()
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
    notation: Annotated[
        str, typer.Option("--notation", help="The letters of --latex: unrolled or lecture.", show_default=False)
    ] = "",
) -> None:
    """Print a cell, in short or at any of its stages."""
    from unrolled.cells import resolve
    from unrolled.ir.gradient import gradient_text
    from unrolled.ir.graph import listing
    from unrolled.ir.show import display_names
    from unrolled.summary import summary, typical_plan

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
        parts.append(str(typical_plan(program)))
    parts = parts or [chosen.text, summary(program)]
    print("\n\n".join(part.strip("\n") for part in parts))


@app.command()
def cells(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List the cells and what each of them costs."""
    from unrolled.cells import all_cells
    from unrolled.summary import parameter_formula, typical_plan

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


@app.command()
def demo() -> None:
    """Train a small network and show what it does."""
    from importlib import import_module

    import_module("unrolled.demo").demo()
