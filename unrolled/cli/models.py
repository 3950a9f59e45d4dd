"""The commands that make models and use them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from unrolled.cli.common import INTERRUPTED, is_given, new_folder, print_table, refuse
from unrolled.errors import UsageError
from unrolled.options import TABLES


def _with_options(function: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for each option of any task, of the option's own name."""
    own = inspect.signature(function, eval_str=True).parameters.values()
    shown = _defaults()
    parameters = {parameter.name: parameter for parameter in own if parameter.kind is not parameter.VAR_KEYWORD}
    for kind in dict.fromkeys(kind for tables in TABLES.values() for kind in tables.values()):
        types = get_type_hints(kind)
        for described in fields(kind):
            annotation = str if types[described.name] is Any else types[described.name]
            flag = f"--{described.name.replace('_', '-')}"
            if annotation is bool:
                flag += f"/--no-{flag.removeprefix('--')}"
            option = typer.Option(flag, help=described.metadata["about"], show_default=shown[described.name])
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


def _defaults() -> dict[str, str | bool]:
    """What is shown as the default of each option: where tasks differ, that of each."""
    found: dict[str, dict[str, str]] = {}
    for task, tables in TABLES.items():
        for kind in tables.values():
            for described in fields(kind):
                found.setdefault(described.name, {})[task] = str(described.default)
    return {
        name: True if len(set(values.values())) == 1 else "; ".join(f"{task} {value}" for task, value in values.items())
        for name, values in found.items()
    }


@_with_options
def train(
    context: typer.Context,
    task: Annotated[
        str, typer.Argument(help="What is learned: language-model, classify or tag.", show_default=False)
    ] = "",
    data: Annotated[list[str] | None, typer.Argument(help="Files.", show_default=False)] = None,
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

    given = {name: value for name, value in options.items() if is_given(context, name)}
    if not resume and not (task and data):
        raise UsageError("give a task and files, as in: unrolled train language-model book.txt")
    made = out or ("" if dry_run or resume or not data else str(new_folder(Path(data[0]).stem)))
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
    use = "generate" if run.task == "language-model" else "predict"
    print(f"written to {folder}. Next: unrolled {use} {folder}, or look at {Path(folder) / 'report.html'}")


def config(
    task: Annotated[str, typer.Argument(help="What is learned: language-model, classify or tag.", show_default=False)],
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
    from unrolled.tasks import LanguageModelRun, load

    if top:
        refuse(context, "--top", ("length", "samples", "temperature", "top_k", "top_p", "seed"))
    opened = load(run)
    if not isinstance(opened, LanguageModelRun):
        raise UsageError(f"a run of {opened.task} writes no text: use unrolled predict {run}")
    if top:
        print_table([(repr(symbol), f"{p:.1%}") for symbol, p in opened.predict(prompt, top, allow_unknown)])
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
