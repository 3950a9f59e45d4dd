"""The command that measures a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unrolled.cli.common import print_table, refuse
from unrolled.errors import UsageError

if TYPE_CHECKING:
    from unrolled.tasks.base import Run
    from unrolled.tasks.language_model import LanguageModelRun
    from unrolled.tasks.language_model.scoring import Score

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
# Options that only one kind of run has.
OF_LANGUAGE_MODELS = ("text", "dynamic", "learning_rate")
OF_LABELLED = ("label", "skip_bad")


def evaluate(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)],
    data: Annotated[list[str] | None, typer.Argument(help="Files.", show_default=False)] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="The column of the texts; as in training if not given, '' for none.")
    ] = None,
    label: Annotated[
        str, typer.Option("--label", help="The column of the labels; as in training if not given.", show_default=False)
    ] = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave rows out that cannot be used, and say how many.")
    ] = False,
    encoding: Annotated[
        str, typer.Option("--encoding", help="How the files are written; by default as the run's.")
    ] = "",
    text: Annotated[
        str, typer.Option("--text", help="Show the log-probability of this text instead, token by token.")
    ] = "",
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Measure once more while the model goes on learning as it reads.")
    ] = False,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Of --dynamic: plain gradient descent.")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how good a run is on files: how well it predicts them, or their labels."""
    from unrolled.tasks import LanguageModelRun, load

    opened = load(run)
    files = [Path(path) for path in data or ()]
    if not isinstance(opened, LanguageModelRun):
        refuse(context, f"a run of {opened.task}", OF_LANGUAGE_MODELS)
        if not files:
            raise UsageError("give files to evaluate on")
        measured = opened.evaluate(files, encoding=encoding, column=column, label=label, skip_bad=skip_bad)
        _print_assessment(opened, measured, as_json)
        return
    refuse(context, "a run of language-model", OF_LABELLED)
    if text:
        refuse(context, "--text", ("data", "dynamic", "encoding", "column", "learning_rate"))
        _print_tokens(opened.log_probabilities(text), as_json)
        return
    if not dynamic:
        refuse(context, "a measurement without --dynamic", ("learning_rate",))
    if not files:
        raise UsageError("give files to evaluate on, or --text")
    _measure_texts(opened, files, {"encoding": encoding, "column": column}, learning_rate if dynamic else None, as_json)


def _print_assessment(run: Run, measured: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(measured, ensure_ascii=False))
        return
    print_table(list(run.told(measured)))


def _measure_texts(
    run: LanguageModelRun, files: list[Path], how: dict[str, Any], dynamic_rate: float | None, as_json: bool
) -> None:
    """How well a language model predicts, and, with a rate, how well while it goes on learning."""
    measured: dict[str, Any] = run.evaluate(files, **how)
    moving = None
    if dynamic_rate is not None:
        moving = run.evaluate(files, **how, dynamic=True, learning_rate=dynamic_rate, show=_reading)
    if as_json:
        print(json.dumps({**measured, "dynamic": moving} if moving else measured))
        return
    print_table(_figures(measured, run.unit))
    if measured["unknown"]:
        print("What is unknown costs what its symbol does, not its spelling: bits per character are too low by that.")
    if moving:
        print("\nread in one piece, while it goes on learning:")
        print_table([row for row in _figures(moving, run.unit) if "per" in row[0] or "likeliest" in row[0]])


def _figures(measured: dict[str, Any], unit: str) -> list[tuple[str, str]]:
    rows = [(name, form.format(measured[key])) for key, (name, form) in FIGURES.items()]
    return [(name, f"{value} {unit}" if name == "tokens" else value) for name, value in rows]


def _print_tokens(found: list[tuple[str, float]], as_json: bool) -> None:
    total = sum(value for _, value in found)
    if as_json:
        print(json.dumps({"tokens": found, "nats": -total}, ensure_ascii=False))
        return
    print_table([*((repr(name), f"{value:9.4f}") for name, value in found), ("sum, nats", f"{total:9.4f}")])


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
