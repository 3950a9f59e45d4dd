"""The command that gives what a run predicts: of files, of standard input, or as one asks."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from unrolled.cli.common import refuse
from unrolled.errors import UnrolledError, UsageError

if TYPE_CHECKING:
    from unrolled.tasks.classify import ClassifyRun, Prediction

FORMATS = ("csv", "tsv", "jsonl")
# Rows that are read, and then predicted side by side.
AT_ONCE = 2000


def predict(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="The folder of a run.", show_default=False)],
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Files; standard input, a text a line, if there are none.", show_default=False),
    ] = None,
    column: Annotated[
        str, typer.Option("--column", help="The column of the texts; as in training if not given.", show_default=False)
    ] = "",
    form: Annotated[
        str, typer.Option("--format", help="csv, tsv or jsonl; as the file if not given.", show_default=False)
    ] = "",
    out: Annotated[
        str, typer.Option("--out", help="A new file for what is predicted; standard output if not given.")
    ] = "",
    top: Annotated[int, typer.Option("--top", help="How many labels are given, the likeliest first.", min=1)] = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each word does for the label, by colour, instead of a table.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave rows out that cannot be used, and say how many.")
    ] = False,
    encoding: Annotated[
        str, typer.Option("--encoding", help="How the files are written; by default as the run's.")
    ] = "",
) -> None:
    """Give texts their labels. Rows of files keep their order and columns; prediction and probability come last."""
    from unrolled.tasks import LanguageModelRun, load

    opened = load(run)
    if isinstance(opened, LanguageModelRun):
        raise UsageError(
            f"{run} is a language model: unrolled generate {run} --prompt TEXT --top 5 shows what comes next"
        )
    if form and form not in FORMATS:
        raise UsageError(f"there is no format {form!r}: csv, tsv or jsonl")
    if not data:
        refuse(context, "standard input", ("column", "skip_bad", "encoding"))
        if sys.stdin.isatty():
            refuse(context, "a dialogue", ("out", "format"))
            _talk(opened, top, explain)
            return
        lines = (line.rstrip("\n") for line in sys.stdin)
        rows: Iterator[Mapping[str, Any]] = ({"text": line} for line in lines)
        columns = ("text",)
    else:
        read = opened.rows(data, column=column, encoding=encoding, skip_bad=skip_bad)
        rows, columns = iter(read), read.columns
    if explain:
        refuse(context, "--explain", ("out", "format", "top"))
        for row in rows:
            _show(opened, tuple(row[name] for name in columns))
        return
    with _opened(out) as file:
        write = _writer(form or _form_of(out or (data or [""])[0]), file)
        while several := list(islice(rows, AT_ONCE)):
            for row, found in zip(several, _predicted(opened, several, columns), strict=True):
                write({**row, **_appended(found, row, top)})
    if data and read.skipped:
        print(f"{read.skipped:,} rows left out: {'; '.join(read.faults)}", file=sys.stderr)


def _predicted(run: ClassifyRun, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[Prediction | None]:
    """A prediction of each row; none of one without a text."""
    texts = [tuple(row[name] for name in columns) for row in rows]
    there = [text for text in texts if any(part.strip() for part in text)]
    found = iter(run.predict(there))
    return [next(found) if any(part.strip() for part in text) else None for text in texts]


def _appended(found: Prediction | None, row: Mapping[str, Any], top: int) -> dict[str, Any]:
    """The columns that are new; none of them takes the name of one that is there."""
    given: list[tuple[str, Any]] = [("", "")]
    if found is not None:
        given = [(found.label, found.probability)]
        if top > 1:
            given = sorted(found.probabilities.items(), key=lambda pair: -pair[1])[:top]
    new: dict[str, Any] = {}
    for place, (label, probability) in enumerate(given, 1):
        mark = f"_{place}" if place > 1 else ""
        new[_free(f"prediction{mark}", row)] = label
        new[_free(f"probability{mark}", row)] = round(probability, 6) if probability != "" else ""
    return new


def _free(name: str, row: Mapping[str, Any]) -> str:
    while name in row:
        name = f"{name}_of_model"
    return name


def _form_of(name: str) -> str:
    plain = name.removesuffix(".gz")
    if plain.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    return "tsv" if plain.endswith(".tsv") else "csv"


def _writer(form: str, file: IO[str]) -> Callable[[Mapping[str, Any]], None]:
    """What writes a row; the first one writes the header of a table."""
    if form == "jsonl":
        return lambda row: print(json.dumps(row, ensure_ascii=False, default=str), file=file)
    table: list[Any] = []

    def write(row: Mapping[str, Any]) -> None:
        if not table:
            table.append(
                csv.DictWriter(
                    file, list(row), delimiter="\t" if form == "tsv" else ",", restval="", extrasaction="ignore"
                )
            )
            table[0].writeheader()
        table[0].writerow(row)

    return write


@contextmanager
def _opened(path: str) -> Iterator[IO[str]]:
    if not path:
        yield sys.stdout
        return
    try:
        with Path(path).open("x", encoding="utf-8", newline="") as file:
            yield file
    except FileExistsError:
        raise UsageError(f"{path} is there already; nothing is written over: name another file with --out") from None
    except OSError as error:
        raise UnrolledError(f"{path} cannot be written: {error.strerror or error}") from error


def _talk(run: ClassifyRun, top: int, explain: bool) -> None:
    """Ask for texts until there are no more."""
    print("A text a line; an empty line, or Ctrl-D, ends.", file=sys.stderr)
    while True:
        try:
            text = input("> ")
        except EOFError:
            return
        if not text.strip():
            return
        if explain:
            _show(run, (text,))
            continue
        found = run.predict([text])[0]
        likely = sorted(found.probabilities.items(), key=lambda pair: -pair[1])[:top]
        print("  ".join(f"{label} {probability:.1%}" for label, probability in likely) if top > 1 else
              f"{found.label} {found.probability:.1%}")  # fmt: skip


def _show(run: ClassifyRun, columns: tuple[str, ...]) -> None:
    """A text with the colour of what each part does for its label: blue for it, orange against it."""
    from rich.console import Console
    from rich.text import Text

    found = run.predict([columns])[0]
    parts = run.explain(columns)
    most = max((abs(nats) for _, nats in parts), default=0) or 1
    line = Text(f"{found.label} {found.probability:.1%}  ")
    for part, nats in parts:
        depth = abs(nats) / most
        colour = "blue" if nats > 0 else "dark_orange3"
        line.append(part, style=f"{'bold ' if depth > 0.66 else ''}{colour if depth > 0.15 else ''}".strip() or None)
        line.append(" ")
    Console(highlight=False).print(line, soft_wrap=True)
    strongest = sorted(parts, key=lambda each: -abs(each.nats))[:3]
    print("    " + ", ".join(f"{each.part} {each.nats:+.2f}" for each in strongest))
