"""The command line: thin functions over what can be imported. Nothing heavy is loaded before a command needs it."""

from __future__ import annotations

import inspect
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

import typer

from unrolled.errors import CellError, UnrolledError, UsageError
from unrolled.options import LanguageModelOptions, TrainingOptions

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
    except OSError as error:
        # What Python still holds back at its end must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # The reader, such as `head`, may have left: that is not worth a word.
        if not isinstance(error, BrokenPipeError):
            print(traceback.format_exc() if debug else f"OSError: {error.strerror or error}", file=sys.stderr)
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
    from unrolled.ir.plan_text import plan_text
    from unrolled.ir.show import display_names
    from unrolled.ir.summary import summary, typical_plan

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
    parts = parts or [chosen.text, summary(program)]
    print("\n\n".join(part.strip("\n") for part in parts))


@app.command()
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


@app.command()
def demo(
    minutes: Annotated[float, typer.Option("--minutes", help="How long the network is trained.", min=0.05)] = 2.5,
) -> None:
    """Train a cell of ten lines on Python's documentation and show what it has learned."""
    from unrolled.demo import demo as run_demo

    run_demo(minutes)


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for each field of the options, of the field's own name."""
    own = inspect.signature(function, eval_str=True).parameters.values()
    parameters = [parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD]
    for kind in (LanguageModelOptions, TrainingOptions):
        types = get_type_hints(kind)
        for described in fields(kind):
            flag = "--" + described.name.replace("_", "-")
            annotation = str if types[described.name] is Any else types[described.name]
            option = typer.Option(flag, help=described.metadata["about"])
            parameters.append(
                inspect.Parameter(
                    described.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=described.default,
                    annotation=Annotated[annotation, option],
                )
            )
    wrapped: Any = function
    wrapped.__signature__ = inspect.Signature(parameters)
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


@app.command()
@_with_options
def train(
    task: Annotated[str, typer.Argument(help="What is learned: language-model.", show_default=False)],
    data: Annotated[list[str], typer.Argument(help="UTF-8 text files.", show_default=False)],
    out: Annotated[str, typer.Option("--out", help="The folder of the run; it must be new.", show_default=False)],
    **options: Any,
) -> None:
    """Train a model on files and write a run. Ctrl-C ends the training and writes what was learned so far."""
    from unrolled.training import train as run_training
    from unrolled.training.progress import bar

    run = run_training(task, data, out=out, show=bar, **options)
    interrupted = any(row["event"] == "interrupted" for row in run.metrics)
    print(f"{'interrupted; ' if interrupted else ''}written to {out}. Next: unrolled generate {out}")
    if interrupted:
        raise KeyboardInterrupt


@app.command()
def generate(
    run: Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)],
    prompt: Annotated[str, typer.Option("--prompt", help="What the text goes on from.", show_default=False)] = "",
    length: Annotated[int, typer.Option("--length", help="Characters to draw.", min=0)] = 400,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Below 1 keeps to the likely, above 1 strays.")
    ] = 0.8,
    seed: Annotated[int, typer.Option("--seed", help="Another number draws another text.")] = 0,
    top: Annotated[
        int, typer.Option("--top", help="Print so many of the likeliest next characters instead.", min=0)
    ] = 0,
) -> None:
    """Write on from a prompt."""
    from unrolled.tasks import load

    opened = load(run)
    if top:
        for symbol, probability in opened.likeliest(prompt, top):
            print(f"{symbol!r:8} {probability:.1%}")
        return
    print(prompt + opened.generate(prompt, length, temperature, seed))


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)],
    data: Annotated[list[str], typer.Argument(help="UTF-8 text files.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how well a run foretells files."""
    import json
    from pathlib import Path

    from unrolled.data.text import read_text
    from unrolled.tasks import load

    opened = load(run)
    measured = opened.evaluate("\n\n".join(read_text(Path(path)) for path in data))
    print(json.dumps(measured) if as_json else "\n".join(f"{name:11} {value:.4f}" for name, value in measured.items()))
