"""What can go wrong, as the user meets it: one family of exceptions, each a plain sentence."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class UnrolledError(Exception):
    """Whatever the user can mend. The command line shows it as one line; `--debug` shows the rest."""


class UsageError(UnrolledError, ValueError):
    """A wrong option, name or file: the input is at fault, nothing has run (exit code 2)."""


class CellError(UnrolledError):
    """The equations of a cell do not make a program."""


class ShapeError(CellError, ValueError):
    """Axes that do not fit: within a cell, or between a layer and what it is given."""


class MissingExtraError(UnrolledError, ImportError):
    """An optional library is not installed; names the extra that brings it."""


class BackendWarning(UserWarning):
    """The engine that is meant for this machine cannot run, and a slower one takes its place."""


@dataclass(frozen=True)
class Place:
    """Where in a cell's source an error stands: its line and the columns to underline."""

    cell: str
    equation: str | None = None
    line: str | None = None
    start: int = 0
    end: int = 0

    def header(self) -> str:
        """The lines above the message: the cell, the equation, the source line and the mark under it."""
        where = f"in cell '{self.cell}'" + (f", equation {self.equation}" if self.equation else "") + ":"
        if self.line is None:
            return where
        text = self.line.rstrip("\n")
        indent = len(text) - len(text.lstrip())
        mark = " " * (self.start - indent) + "~" * max(1, self.end - self.start)
        return f"{where}\n    {text.strip()}\n    {mark}"


def at(place: Place | None, message: str) -> str:
    """`message` under the place that it speaks of."""
    return message if place is None else f"{place.header()}\n  {message}"


def short(value: object) -> str:
    """A value as an error shows it: on one line, of any length no more than a few words."""
    return " ".join(reprlib.repr(value).split())


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest option, else the options if few, else nothing."""
    options = sorted(options)
    near = get_close_matches(name, options, n=1)
    if near:
        return f" Did you mean {near[0]}?"
    return f" There is: {', '.join(options)}." if 0 < len(options) <= 12 else ""
