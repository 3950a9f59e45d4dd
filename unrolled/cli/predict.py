"""The command that gives what a run predicts: of files, of standard input, or as one asks."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from unrolled.cli.answers import Answers, answers_of
from unrolled.cli.common import refuse
from unrolled.errors import UnrolledError, UsageError

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
        str, typer.Option("--format", help="csv, tsv, jsonl or conll; as the file if not given.", show_default=False)
    ] = "",
    out: Annotated[
        str, typer.Option("--out", help="A new file for what is predicted; standard output if not given.")
    ] = "",
    top: Annotated[
        int, typer.Option("--top", help="Of classify: how many labels are given, the likeliest first.", min=1)
    ] = 1,
    explain: Annotated[
        bool, typer.Option("--explain", help="Of classify: show what each word does for the label, by colour.")
    ] = False,
    fallback: Annotated[
        float, typer.Option("--fallback", help="Of tag with intents: one that is less likely is not given.", min=0)
    ] = 0.0,
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
    answers = answers_of(opened, context, top=top, fallback=fallback)
    if form and form not in answers.formats:
        raise UsageError(f"there is no format {form!r} for {opened.task}: {', '.join(answers.formats)}")
    if explain:
        refuse(context, "--explain", ("out", "form", "top"))
    read = None
    if data:
        read = answers.rows(data, column=column, encoding=encoding, skip_bad=skip_bad)
        rows: Iterable[Mapping[str, Any]] = read
    else:
        refuse(context, "standard input", ("column", "skip_bad", "encoding"))
        if sys.stdin.isatty():
            refuse(context, "a dialogue", ("out", "form"))
            _talk(answers, explain)
            return
        rows = (answers.row(line.rstrip("\n")) for line in sys.stdin)
    if explain:
        for row in rows:
            answers.explain(row)
    else:
        with _opened(out) as file:
            _answer(answers, iter(rows), _writer(form or answers.form_of(out or (data or [""])[0]), file))
    if read is not None and read.skipped:
        print(f"{read.skipped:,} rows left out: {'; '.join(read.faults)}", file=sys.stderr)


def _answer(answers: Answers, rows: Iterator[Mapping[str, Any]], write: Callable[[Mapping[str, Any]], None]) -> None:
    while several := list(islice(rows, AT_ONCE)):
        for row, found in zip(several, answers.of(several), strict=True):
            write({**row, **{_free(name, row): value for name, value in found.items()}})


def _free(name: str, row: Mapping[str, Any]) -> str:
    """A new column does not take the name of one that is there."""
    while name in row:
        name = f"{name}_of_model"
    return name


def _writer(form: str, file: IO[str]) -> Callable[[Mapping[str, Any]], None]:
    """What writes a row; the first one writes the header of a table."""
    if form == "jsonl":
        return lambda row: print(json.dumps(row, ensure_ascii=False, default=str), file=file)
    if form == "conll":
        return lambda row: _write_sentence(row, file)
    table: list[csv.DictWriter[str]] = []

    def write(row: Mapping[str, Any]) -> None:
        if not table:
            separator = "\t" if form == "tsv" else ","
            table.append(csv.DictWriter(file, list(row), delimiter=separator, restval="", extrasaction="ignore"))
            table[0].writeheader()
        table[0].writerow(row)

    return write


def _write_sentence(row: Mapping[str, Any], file: IO[str]) -> None:
    """A token a line, with all of its columns; what is of the whole sentence stands in a comment above."""
    columns = [value for value in row.values() if isinstance(value, list)]
    for name, value in row.items():
        if not isinstance(value, list):
            print(f"# {name} = {value}", file=file)
    for token in zip(*columns, strict=True):
        print("\t".join(map(str, token)), file=file)
    print(file=file)


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


def _talk(answers: Answers, explain: bool) -> None:
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
            answers.explain(answers.row(text))
        else:
            print(answers.told(text))
