"""The commands that make models and use them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unrolled.errors import UsageError
from unrolled.options import TABLES

if TYPE_CHECKING:
    from unrolled.tasks.language_model.scoring import Score

INTERRUPTED = 130
RUNS = Path("runs")
FIGURES = {
    "tokens": ("tokens", "{:,}"),
    "characters": ("characters", "{:,}"),
    "unknown": ("unknown tokens", "{:,}"),
    "nats": ("nats per token", "{:.4f}"),
    "bits": ("bits per token", "{:.4f}"),
    "bits_per_character": ("bits per character", "{:.4f}"),
    "perplexity": ("perplexity per token", "{:.3f}"),
    "top_1": ("next token is the likeliest", "{:.2%}"),
    "top_3": ("… among the 3 likeliest", "{:.2%}"),
    "top_5": ("… among the 5 likeliest", "{:.2%}"),
}


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for each option of any task, of the option's own name."""
    own = inspect.signature(function, eval_str=True).parameters.values()
    parameters = {parameter.name: parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD}
    for kind in dict.fromkeys(kind for tables in TABLES.values() for kind in tables.values()):
        types = get_type_hints(kind)
        for described in fields(kind):
            annotation = str if types[described.name] is Any else types[described.name]
            flag = f"--{described.name.replace('_', '-')}"
            if annotation is bool:
                flag += f"/--no-{flag.removeprefix('--')}"
            option = typer.Option(flag, help=described.metadata["about"])
            parameters.setdefault(
                described.name,
                inspect.Parameter(
                    described.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=described.default,
                    annotation=Annotated[annotation, option],
                ),
            )
    wrapped: Any = function
    wrapped.__signature__ = inspect.Signature(list(parameters.values()))
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters.values()}
    return function


@_with_options
def train(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="What is learned: language-model.", show_default=False)] = "",
    data: Annotated[list[str] | None, typer.Argument(help="Text files.", show_default=False)] = None,
    out: Annotated[
        str, typer.Option("--out", help="The folder of the run; it must be new. runs/FILE if not given.")
    ] = "",
    resume: Annotated[
        str, typer.Option("--resume", help="Go on with a run that was interrupted, as if it had not been.")
    ] = "",
    start_from: Annotated[
        str, typer.Option("--start-from", help="Begin with the weights and the symbols of another run.")
    ] = "",
    config: Annotated[str, typer.Option("--config", help="A file with options; flags go before it.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what was understood of the data and what training would take.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
    **options: Any,
) -> None:
    """Train a model on files and write a run. Ctrl-C ends the training after its step and writes what was learned."""
    from unrolled.training import train as run_training

    given = {name: value for name, value in options.items() if _is_given(context, name)}
    if not resume and not (task and data):
        raise UsageError("give a task and files, as in: unrolled train language-model book.txt")
    made = out or ("" if dry_run or resume or not data else str(_new_folder(Path(data[0]).stem)))
    folder = resume or made
    try:
        run = run_training(
            task,
            [Path(path) for path in data] if data else None,
            out=made or None,
            resume=resume or None,
            start_from=start_from or None,
            config=config or None,
            dry_run=dry_run,
            quiet=quiet,
            **given,
        )
    except KeyboardInterrupt:
        kept = folder and (Path(folder) / "checkpoint.safetensors").exists()
        print(f"stopped; to go on: unrolled train --resume {folder}" if kept else "stopped; nothing was written")
        raise typer.Exit(INTERRUPTED) from None
    if dry_run:
        return
    if run.reason == "interrupted":
        print(f"interrupted; what was learned is in {folder}. To go on: unrolled train --resume {folder}")
        raise typer.Exit(INTERRUPTED)
    print(f"written to {folder}. Next: unrolled generate {folder}, or look at {Path(folder) / 'report.html'}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse(context: typer.Context, what: str, names: Iterable[str]) -> None:
    """Say that options were given that have no effect."""
    idle = [name for name in names if _is_given(context, name)]
    if idle:
        shown = ", ".join("files" if name == "data" else f"--{name.replace('_', '-')}" for name in idle)
        raise UsageError(f"{what} does not use {shown}: leave that out")


def _new_folder(name: str) -> Path:
    """`runs/name`, or with a number after it if that is taken."""
    for number in count(1):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise AssertionError


def config(
    task: Annotated[str, typer.Argument(help="What is learned: language-model.", show_default=False)],
) -> None:
    """Print every option of a task with its default, as a file for --config."""
    from unrolled.configuration import commented

    print(commented(task), end="")


def generate(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)],
    prompt: Annotated[str, typer.Option("--prompt", help="What the text goes on from.", show_default=False)] = "",
    length: Annotated[int, typer.Option("--length", help="Symbols to draw, unless the text ends before.")] = 400,
    samples: Annotated[int, typer.Option("--samples", help="How many texts.")] = 1,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Below 1 keeps to the likely, above 1 strays, 0 takes the likeliest.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option("--top-k", help="Draw among so many likeliest symbols only; 0 for all.")] = 0,
    top_p: Annotated[
        float, typer.Option("--top-p", help="Draw among the fewest symbols that hold this share of the probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Another number draws another text.")] = 0,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Read unknown symbols in the prompt, and draw the one for them.")
    ] = False,
    top: Annotated[int, typer.Option("--top", help="Print so many of the likeliest next symbols instead.", min=0)] = 0,
) -> None:
    """Write on from a prompt."""
    from unrolled.tasks import load

    if top:
        _refuse(context, "--top", ("length", "samples", "temperature", "top_k", "top_p", "seed"))
    opened = load(run)
    if top:
        _print_table([(repr(symbol), f"{p:.1%}") for symbol, p in opened.predict(prompt, top, allow_unknown)])
        return
    written = opened.write(
        prompt,
        samples=samples,
        length=length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        allow_unknown=allow_unknown,
    )
    if samples > 1:
        *_, texts = written
        for number, text in enumerate(texts, 1):
            print(f"--- {number} of {samples}\n{text.shown}")
        return
    shown = 0
    for (text,) in written:
        print(text.shown[shown:], end="", flush=True)
        shown = len(text.shown)
    print()


def evaluate(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)],
    data: Annotated[list[str] | None, typer.Argument(help="Text files.", show_default=False)] = None,
    text: Annotated[
        str, typer.Option("--text", help="Show the log-probability of this text instead, token by token.")
    ] = "",
    column: Annotated[
        str | None, typer.Option("--column", help="The column of the texts; as in training if not given, '' for none.")
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Measure once more while the model goes on learning as it reads.")
    ] = False,
    encoding: Annotated[
        str, typer.Option("--encoding", help="How the files are written; by default as the run's.")
    ] = "",
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Of --dynamic: plain gradient descent.")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how well a run predicts files."""
    from unrolled.tasks import load

    if text:
        _refuse(context, "--text", ("data", "dynamic", "encoding", "column", "learning_rate"))
    elif not dynamic:
        _refuse(context, "a measurement without --dynamic", ("learning_rate",))
    opened = load(run)
    files = [Path(path) for path in data or ()]
    if text:
        _print_tokens(opened.log_probabilities(text), as_json)
        return
    if not files:
        raise UsageError("give files to evaluate on, or --text")
    how: dict[str, Any] = {"encoding": encoding, "column": column}
    measured: dict[str, Any] = opened.evaluate(files, **how)
    moving = None
    if dynamic:
        moving = opened.evaluate(files, **how, dynamic=True, learning_rate=learning_rate, show=_reading)
    if as_json:
        print(json.dumps({**measured, "dynamic": moving} if moving else measured))
        return
    _print_table(_figures(measured, opened.unit))
    if measured["unknown"]:
        print("What is unknown costs what its symbol does, not its spelling: bits per character are too low by that.")
    if moving:
        print("\nread in one piece, while it goes on learning:")
        _print_table([row for row in _figures(moving, opened.unit) if "per" in row[0] or "likeliest" in row[0]])


def _figures(measured: dict[str, Any], unit: str) -> list[tuple[str, str]]:
    rows = [(name, form.format(measured[key])) for key, (name, form) in FIGURES.items()]
    return [(name, f"{value} {unit}" if name == "tokens" else value) for name, value in rows]


def _print_tokens(found: list[tuple[str, float]], as_json: bool) -> None:
    total = sum(value for _, value in found)
    if as_json:
        print(json.dumps({"tokens": found, "nats": -total}, ensure_ascii=False))
        return
    _print_table([*((repr(name), f"{value:9.4f}") for name, value in found), ("sum, nats", f"{total:9.4f}")])


def _print_table(rows: list[tuple[str, str]]) -> None:
    from unrolled.training.progress import aligned

    print("\n".join(aligned(rows)))


def _reading(scores: Iterator[Score], tokens: int) -> Iterator[Score]:
    """Show how far a reading has come, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from scores
        return
    with Progress(console=console, transient=True) as progress:
        shown = progress.add_task("reading", total=tokens)
        for score in scores:
            progress.update(shown, completed=score.tokens)
            yield score
