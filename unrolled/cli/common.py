"""What several commands do alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import typer

from unrolled.errors import UsageError

INTERRUPTED = 130
RUNS = Path("runs")
# Parameter -> how it is given, where that is not its name.
CALLED = {"data": "files", "form": "--format", "as_json": "--json", "as_list": "--list"}


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse(context: typer.Context, what: str, names: Iterable[str]) -> None:
    """Say that options were given that have no effect."""
    idle = [name for name in names if is_given(context, name)]
    if idle:
        shown = ", ".join(CALLED.get(name) or f"--{name.replace('_', '-')}" for name in idle)
        raise UsageError(f"{what} does not use {shown}: leave that out")


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Names with their values, in columns."""
    from unrolled.training.progress import aligned

    print("\n".join(aligned(rows)))


def new_folder(name: str) -> Path:
    """`runs/name`, or with a number after it if that is taken."""
    for number in count(1):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise AssertionError
