"""The model card: the README of a run folder, as model hubs and people read it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from unrolled.report.text import clean

_TAGS = ("recurrent-neural-network", "unrolled")
# What could be read as markup, and what would begin a list, a heading, a quotation or a rule at the start of a line.
_MARKUP = re.compile(r"[\\`*_\[\]<>|~$&]")
_START = re.compile(r"^([-+=#]|\d+(?=[.)](\s|$)))")


def model_card(
    title: str,
    description: str,
    facts: Sequence[tuple[str, str]],
    figures: Sequence[tuple[str, str]],
    usage: str,
    tags: Sequence[str] = (),
) -> str:
    """The card of a trained model, in Markdown under a head of YAML.

    title        heads the card
    description  plain text; an empty line ends a paragraph
    facts        what the model is: names and values
    figures      what was measured: names and values
    usage        Python that uses the model
    tags         what the model is found by, besides the tags that every card has
    """
    head = ["---", "library_name: unrolled", "tags:", *(f"- {_quoted(tag)}" for tag in sorted({*_TAGS, *tags})), "---"]
    parts = ["\n".join(head), f"# {_line(title)}"]
    parts += [_line(paragraph) for paragraph in re.split(r"\n\s*\n", clean(description)) if paragraph.strip()]
    if figures:
        parts.append("## Figures\n\n" + _table("measured", figures))
    if facts:
        parts.append("## The model\n\n" + _table("what", facts))
    if usage.strip():
        parts.append("## Use\n\n" + _fenced(clean(usage).strip("\n")))
    return "\n\n".join(parts) + "\n"


def _table(name: str, rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(
        [f"| {name} | value |", "|---|---|", *(f"| {_line(key)} | {_line(value)} |" for key, value in rows)]
    )


def _line(text: object) -> str:
    """A text as one line of Markdown that reads as it is written."""
    escaped = _MARKUP.sub(r"\\\g<0>", " ".join(clean(text).split()))
    return _START.sub(lambda found: f"\\{found[0]}" if not found[0].isdigit() else f"{found[0]}\\", escaped)


def _fenced(code: str) -> str:
    """Code between marks longer than any in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{fence}python\n{code}\n{fence}"


def _quoted(text: str) -> str:
    """A text as YAML takes it: plain if it can be nothing else, else in quotes as JSON has them."""
    plain = re.fullmatch("[a-z][a-z0-9-]*", text) and text not in ("true", "false", "null", "yes", "no", "on", "off")
    return text if plain else json.dumps(clean(text), ensure_ascii=False)
