"""The command for data that are made out of what is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from unrolled.errors import MissingExtraError, UsageError


def sample(
    name: Annotated[str, typer.Argument(help="Which one; --list says which there are.", show_default=False)] = "",
    as_list: Annotated[bool, typer.Option("--list", help="List the samples, and what each is made of.")] = False,
    write: Annotated[
        str, typer.Option("--write", help="The file that the data are written to; it must be new.", show_default=False)
    ] = "",
) -> None:
    """Data to try a model on, made out of what is installed: nothing is downloaded."""
    if as_list:
        if name or write:
            raise UsageError("--list shows all samples: leave out the rest")
        _list()
        return
    if not (name and write):
        raise UsageError("name a sample and a file, as in: unrolled sample languages --write languages.tsv")
    _write(name, Path(write))


def _list() -> None:
    """Print a table of the samples; of one whose package is missing, what to install."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from unrolled.data.samples import SAMPLES

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("name", "rows", "licence", "package", "what"):
        table.add_column(column, justify="right" if column == "rows" else "left")
    missing = []
    for made in SAMPLES.values():
        try:
            count = f"{sum(1 for _ in made.rows()):,}"
        except MissingExtraError as error:
            count = "–"
            missing.append(f"{made.name}: {error}")
        table.add_row(made.name, count, made.licence, made.package, made.sentence)
    # What is piped has no width to keep to: each row stays on one line.
    console = Console(width=None if sys.stdout.isatty() else 500, highlight=False, markup=False)
    console.print(table)
    for line in missing:
        print(line)


def _write(name: str, path: Path) -> None:
    """Write the data of a sample to a new file."""
    from unrolled.data.samples import sample as of_name

    chosen = of_name(name)
    if path.suffix != chosen.ending:
        raise UsageError(f"{name} is read from a file that ends in {chosen.ending}: name one, not {path}")
    if path.exists():
        raise UsageError(f"{path} is there already; nothing is written over: name another file with --write")
    text = chosen.text()
    from unrolled.run import replace_file

    replace_file(path, text.encode())
    print(f"written to {path}")
