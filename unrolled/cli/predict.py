"""The command that gives what a run predicts: of files, of standard input, or as one asks."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
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
        rows = (answers.row(line) for line in _lines())
    if explain:
        for row in rows:
            answers.explain(row)
    else:
        form = form or answers.form_of(out or (data or [""])[0])
        several = iter(rows)
        # What cannot be read at all leaves no file behind.
        first = list(islice(several, AT_ONCE))
        with _opened(out) as file:
            _answer(answers, chain(first, several), Writer(form, file))
    if read is not None and read.skipped:
        print(f"{read.skipped:,} rows left out: {'; '.join(read.faults)}", file=sys.stderr)


def _lines() -> Iterator[str]:
    """The lines of standard input."""
    try:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is no {error.encoding} text: byte {error.object[error.start]:#04x}") from None


def _answer(answers: Answers, rows: Iterator[Mapping[str, Any]], writer: Writer) -> None:
    while several := list(islice(rows, AT_ONCE)):
        for row, found in zip(several, answers.of(several), strict=True):
            writer.write(row, found)


class ByCommas(csv.excel):
    """A table by commas, with quotation marks where they are needed."""

    lineterminator = "\n"


class ByTabs(csv.excel_tab):
    """A table by tabs as they are read: a quotation mark is a character like any other."""

    quoting = csv.QUOTE_NONE
    quotechar = None
    lineterminator = "\n"


class Writer:
    """Writes rows with their new columns, in a form; the first row says how they are called, and heads a table."""

    def __init__(self, form: str, file: IO[str]):
        self.form, self.file = form, file
        self.count = 0
        # New column -> its name in the file: none takes that of one that is there.
        self.names: dict[str, str] = {}
        self._table: csv.DictWriter[str] | None = None

    def write(self, row: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Write a row.

        Raises   UsageError where its columns are not those of the first one
        """
        self.count += 1
        for name in found:
            self.names.setdefault(name, _free(name, row))
        new = {self.names[name]: value for name, value in found.items()}
        twice = [name for name in new if name in row]
        if twice:
            raise UsageError(f"row {self.count} has a column {twice[0]!r}, which the first one has not: rename it")
        if self.form == "jsonl":
            print(json.dumps({**row, **new}, ensure_ascii=False, default=str), file=self.file)
        elif self.form == "conll":
            _write_sentence({**row, **new}, len(found["prediction"]), self.file)
        else:
            self._write_in_table({**row, **new})

    def _write_in_table(self, row: Mapping[str, Any]) -> None:
        if self._table is None:
            dialect = ByTabs if self.form == "tsv" else ByCommas
            self._table = csv.DictWriter(self.file, list(row), restval="", dialect=dialect)
            self._table.writeheader()
        other = [name for name in row if name not in self._table.fieldnames]
        if other:
            raise UsageError(f"row {self.count} has a column {other[0]!r}, which the first one has not: --format jsonl")
        if self.form == "tsv":
            # A table by tabs has no way to write these.
            row = {name: " ".join(str(value).split()) if _breaks(value) else value for name, value in row.items()}
        self._table.writerow(row)


def _breaks(value: Any) -> bool:
    return isinstance(value, str) and any(character in value for character in "\t\n\r")


def _free(name: str, row: Mapping[str, Any]) -> str:
    while name in row:
        name = f"{name}_of_model"
    return name


def _write_sentence(row: Mapping[str, Any], tokens: int, file: IO[str]) -> None:
    """A token a line, with all that it has; what is of the whole sentence stands in comments above."""
    columns = [value for value in row.values() if isinstance(value, list) and len(value) == tokens]
    for name, value in row.items():
        if not any(value is column for column in columns):
            print(f"# {name} = {' '.join(str(value).split())}", file=file)
    for token in zip(*columns, strict=True):
        print("\t".join(map(str, token)), file=file)
    print(file=file)


@contextmanager
def _opened(path: str) -> Iterator[IO[str]]:
    if not path:
        yield sys.stdout
        return
    try:
        with Path(path).open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
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
