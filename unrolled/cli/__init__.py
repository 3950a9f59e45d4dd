"""The command line: thin functions over what can be imported. Nothing heavy is loaded before a command needs it."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from unrolled.cli import cells, common, evaluate, inspect, models, predict, samples
from unrolled.errors import BackendWarning, CellError, UnrolledError, UsageError

DONE, FAILED, WRONG_INPUT = 0, 1, 2

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
        with _messages(debug):
            code = _run(given)
        sys.stdout.flush()
    except UnrolledError as error:
        print(traceback.format_exc() if debug else _message(error), file=sys.stderr)
        return WRONG_INPUT if isinstance(error, UsageError | CellError) else FAILED
    except KeyboardInterrupt:
        return common.INTERRUPTED
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


@contextmanager
def _messages(debug: bool) -> Iterator[None]:
    """Warnings of the package as one line, and with `debug` what it logs, on standard error."""
    log, handler = logging.getLogger("unrolled"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    level = log.level
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, BackendWarning):
                print(f"{category.__name__}: {message}", file=sys.stderr)
            else:
                shown(message, category, *place, **more)

        warnings.showwarning = show
        if debug:
            log.addHandler(handler)
            log.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


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


for command in (
    cells.show,
    cells.cells,
    cells.demo,
    models.train,
    evaluate.evaluate,
    predict.predict,
    models.generate,
    models.config,
    inspect.inspect,
    samples.sample,
):
    app.command()(command)
