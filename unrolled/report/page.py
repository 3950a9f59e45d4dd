"""The report of a run: one page of HTML that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from unrolled.report.history import Evaluation, History, spread
from unrolled.report.plots import plots
from unrolled.report.text import bits, clean, count, duration, losses, measured

SAMPLES = 6
# Characters of an evaluation's sample: enough to see how it changed.
SAMPLE_LENGTH = 1200
EVALUATIONS = 24
_REASONS = {
    "complete": "to the planned end",
    "early": "and stopped early, since what is held out was predicted no better",
    "interrupted": "until it was interrupted",
    "diverged": "until it diverged",
}


@dataclass(frozen=True)
class Section:
    """A part of the page; made by `table`, `text`, `samples`, `coloured` or `figure`."""

    title: str
    kind: Literal["table", "text", "samples", "coloured", "figure"]
    rows: Sequence[Sequence[object]]
    header: Sequence[object] = ()

    @classmethod
    def table(cls, title: str, rows: Sequence[Sequence[object]], header: Sequence[object] = ()) -> Section:
        """Rows whose first cell names them, such as (name, value); a header names the columns."""
        return cls(title, "table", rows, header)

    @classmethod
    def text(cls, title: str, *paragraphs: object) -> Section:
        """Paragraphs."""
        return cls(title, "text", [(paragraph,) for paragraph in paragraphs])

    @classmethod
    def samples(cls, title: str, samples: Sequence[tuple[object, object]]) -> Section:
        """Texts shown as they are laid out, each under its caption, which may be empty: (caption, text)."""
        return cls(title, "samples", samples)

    @classmethod
    def coloured(cls, title: str, texts: Sequence[tuple[object, Sequence[tuple[object, float]]]]) -> Section:
        """Texts whose parts have a colour each, by a number: (caption, [(part, number)]). The one that is furthest from
        0 in its text has the deepest; above and below 0 are two colours.
        """
        return cls(title, "coloured", [(caption, shades(parts)) for caption, parts in texts])

    @classmethod
    def figure(cls, title: str, svg: str, caption: str) -> Section:
        """A drawing that this package made, which is shown as it is, over its caption."""
        return cls(title, "figure", [(svg, caption)])


def shades(parts: Sequence[tuple[object, float]]) -> list[tuple[object, str, int]]:
    """The colour of each part, for or against, and how deep it is, of 100."""
    most = max((abs(number) for _, number in parts), default=0) or 1
    return [(part, "for" if number > 0 else "against", round(100 * abs(number) / most)) for part, number in parts]


def report_page(
    title: str,
    summary: Sequence[tuple[str, str]],
    metrics: Sequence[Mapping[str, Any]],
    sections: Sequence[Section],
    unit: str,
) -> str:
    """The page of a run: what it achieved, how it was trained and whatever else the sections tell.

    title     heads the page
    summary   names and values, the most important first
    metrics   the rows of metrics.jsonl; rows and keys that this version does not know are passed over
    sections  what follows the training, in order
    unit      what the loss is a mean over, in the plural: "characters"

    The same input makes the same page. Whatever characters a text holds, it is shown and never run.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    history = History.of(metrics)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.finalize = lambda value: value if isinstance(value, Markup) else clean(value)
    package = files("unrolled.report")
    return environment.from_string((package / "page.html").read_text(encoding="utf-8")).render(
        style=Markup((package / "page.css").read_text(encoding="utf-8")),
        title=title,
        summary=summary,
        verdict=_verdict(history, unit),
        plots=[(plot, Markup(plot.wide), Markup(plot.narrow)) for plot in plots(history)],
        evaluations=[_told(evaluation, history) for evaluation in _shown(history)],
        all_evaluations=len(history.evaluations),
        samples=[
            (*_told(evaluation, history), _cut(evaluation.sample))
            for evaluation in spread([e for e in history.evaluations if e.sample], SAMPLES)
        ],
        sections=[(section, _numeric(section)) for section in sections],
        drawing=Markup,
    )


def _verdict(history: History, unit: str) -> list[str]:
    """What the training came to, in sentences."""
    told = []
    if steps := len(history.numbers):
        ended = _REASONS.get(history.reason, "")
        told.append(f"{_steps(steps)} in {duration(history.seconds)}{', ' if ended else ''}{ended}.")
        if not ended and history.planned > history.numbers[-1]:
            told[-1] = f"{told[-1][:-1]}, of {count(history.planned)} that are planned."
    else:
        told.append("No training step is recorded.")
    if best := history.best:
        told.append(
            f"Held out, the weights of step {count(best.number)} are the best: {losses(best.loss)}, the mean over "
            f"{unit}."
        )
    elif history.evaluations:
        told.append("No held-out loss was finite.")
    else:
        told.append("No evaluation is recorded.")
    if skipped := int(history.skipped.sum()):
        was = "was" if skipped == 1 else "were"
        told.append(f"{_steps(skipped)} {was} skipped, with a loss or gradient that was not finite.")
    if history.resumed:
        told.append(f"Resumed after step {', '.join(count(number) for number in history.resumed[:5])}.")
    return told


def _steps(number: int) -> str:
    return f"{count(number)} {'step' if number == 1 else 'steps'}"


def _shown(history: History) -> list[Evaluation]:
    """Evaluations for the table: few enough to be read, the best among them."""
    shown = spread(history.evaluations, EVALUATIONS)
    if history.best is None or history.best in shown:
        return shown
    return sorted([*shown, history.best], key=lambda evaluation: evaluation.number)


def _told(evaluation: Evaluation, history: History) -> tuple[str, str, str, str, bool]:
    """Step, time, nats, bits, and whether it is the best."""
    known = math.isfinite(evaluation.loss)
    return (
        count(evaluation.number),
        duration(evaluation.seconds) if math.isfinite(evaluation.seconds) else "",
        measured(evaluation.loss),
        measured(bits(evaluation.loss)) if known else "",
        evaluation == history.best,
    )


def _cut(sample: str) -> str:
    return sample if len(sample) <= SAMPLE_LENGTH else f"{sample[:SAMPLE_LENGTH]} …"


def _numeric(section: Section) -> list[bool]:
    """For each column of a table with a header, whether it holds numbers alone."""
    if section.kind != "table" or not section.header:
        return []
    columns = [[str(row[place]) for row in section.rows if place < len(row)] for place in range(len(section.header))]
    return [place > 0 and bool(column) and all(map(_is_number, column)) for place, column in enumerate(columns)]


def _is_number(text: str) -> bool:
    """Whether a cell is a number or empty."""
    try:
        float(text.replace(",", "").replace("−", "-").rstrip("%").strip() or "0")
    except ValueError:
        return False
    return True
