"""Metrics and a reader of pages for the tests of the report."""

from __future__ import annotations

import math
import random
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page, read strictly: every element that is opened is closed, in order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} is closed at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def within(self, tag: str) -> list[str]:
        """The texts that stand directly in elements of a name."""
        return [text for name, text in self.texts if name == tag]

    @property
    def text(self) -> str:
        """All text, white space folded."""
        return " ".join(" ".join(text for name, text in self.texts if name != "style").split())


def metrics(steps: int, evaluations: int = 4) -> list[dict[str, Any]]:
    """What a training leaves behind, one of its steps skipped."""
    draw = random.Random(0)
    rows: list[dict[str, Any]] = []
    lowest = math.inf
    for number in range(1, steps + 1):
        share = number / steps
        skipped = number == steps // 2
        row = {"event": "step", "number": number, "steps": steps, "seconds": number / 10, "skipped": skipped}
        row["loss"] = None if skipped else 1.4 + 3 * math.exp(-8 * share) + draw.gauss(0, 0.05)
        row["gradient_norm"] = None if skipped else math.exp(draw.gauss(-0.5, 0.3))
        row["learning_rate"] = 0.004 * (1 - share)
        rows.append(row)
        if evaluations and number % max(1, steps // evaluations) == 0:
            loss = 1.6 + 3 * math.exp(-8 * share) + share**2
            row = {"event": "evaluation", "number": number, "steps": steps, "seconds": number / 10, "loss": loss}
            rows.append({**row, "best": loss < lowest, "sample": f"the  text\n   at {number}"})
            lowest = min(lowest, loss)
    rows.append({"event": "stopped", "number": steps, "reason": "complete", "seconds": steps / 10})
    return rows
