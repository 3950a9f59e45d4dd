"""The measured parts of docs/architectures.md: tables and drawings that benchmarks/architectures.py has written.

A line `<!-- part/name -->` is followed by the table of that name, `<!-- part -->` by what the part was run with, each
up to `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE, FIGURES = FOLDER / "architectures.md", FOLDER / "figures" / "architectures"
MARKED = re.compile(r"(<!-- ([a-z]+)(?:/([a-z-]+))? -->\n).*?(<!-- end -->)", re.S)


def files() -> dict[Path, str]:
    """The page with its measured parts made anew."""
    return {PAGE: MARKED.sub(_filled, PAGE.read_text(encoding="utf-8"))}


def _filled(found: re.Match[str]) -> str:
    begin, part, name, end = found.groups()
    content = _read(part)
    text = table(content["tables"][name]) if name else about(content)
    return f"{begin}\n{text}\n\n{end}"


@cache
def _read(part: str) -> dict[str, Any]:
    return json.loads((FIGURES / f"{part}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def table(content: dict[str, Any]) -> str:
    """A table with its caption."""
    columns = content["columns"]
    rule = [" ---: " if form else " --- " for form in columns.values()]
    rows = [[_text(value, form) for value, form in zip(row, columns.values(), strict=True)] for row in content["rows"]]
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([f"*{content['caption']}*", "", *lines])


def _text(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


def about(content: dict[str, Any]) -> str:
    """The command, how long it took and where."""
    machine, minutes = content["machine"], content["seconds"] / 60
    threads, cores = machine["threads"], machine["cores"]
    on = f"{cores} cores" if threads == cores else f"{threads} of {cores} cores"
    beside = machine["busy_before"] > 0.05 or content.get("load_after", 0.0) > cores + 0.5
    return (
        f"`{content['command']}`: {minutes:.1f} minutes on {on} of {machine['cpu']}"
        f"{', beside other work' if beside else ''}; torch {content['versions']['torch']}."
    )
