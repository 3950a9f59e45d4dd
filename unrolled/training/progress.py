"""Progress: what a terminal shows while a model learns, and plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from unrolled.report.text import bits, duration
from unrolled.tasks.base import Learner, best_evaluation
from unrolled.training.loop import Evaluation, Event, Step

SMOOTHING = 0.98


def bar(events: Iterator[Event], task: Learner, console: Console | None = None) -> Iterator[Event]:
    """Pass the events on and show them: steps, loss, rate, time left.

    Loss is a running mean in bits per token (nats / log 2); the held-out loss stands beside it once it was taken.
    """
    console = console or _console()
    if not (console.is_terminal or console.is_jupyter):
        yield from _lines(events, task, console)
        return
    columns = (
        BarColumn(bar_width=None),
        TextColumn("{task.fields[steps]}"),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    mean: float | None = None
    held_out, skipped = "", 0
    with Progress(*columns, console=console, expand=True) as progress:
        shown = progress.add_task("training", total=None, steps="preparing", loss="", rate="")
        for event in events:
            if isinstance(event, Step):
                mean = _running(mean, event)
                skipped += event.skipped
            elif isinstance(event, Evaluation):
                held_out = f", held out {_bits(event.loss)}{_figures(event.figures)}"
            if isinstance(event, Step | Evaluation):
                progress.update(
                    shown,
                    total=event.steps,
                    completed=event.number,
                    steps=f"{event.number}{f'/{event.steps}' if event.steps else ''} steps{_skipped(skipped)}",
                    loss=f"{_bits(mean)} bits{held_out}" if mean is not None else "",
                    rate=_rate(event, task),
                )
            yield event


def _lines(events: Iterator[Event], task: Learner, console: Console) -> Iterator[Event]:
    mean: float | None = None
    skipped = 0
    for event in events:
        if isinstance(event, Step):
            mean = _running(mean, event)
            skipped += event.skipped
        elif isinstance(event, Evaluation):
            learned = f"{_bits(mean)} bits, " if mean is not None else ""
            console.print(
                f"step {event.number}/{event.steps}{_skipped(skipped)}: {learned}held out {_bits(event.loss)} bits"
                f"{_figures(event.figures)}{' (best)' if event.best else ''}, {_rate(event, task)}",
                highlight=False,
                soft_wrap=True,
            )
        yield event


def tell(rows: Sequence[tuple[str, str]], notices: Sequence[str] = ()) -> None:
    """Show names with their values, in columns, and what the user should know, a line each."""
    console = _console()
    for line in [*aligned(rows), *(f"note: {notice}" for notice in notices)]:
        console.print(Text(line), soft_wrap=True)


def aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Names and values as lines of two columns, where a syllable of Korean takes two places."""
    width = max((cell_len(name) for name, _ in rows), default=0)
    return [f"{name}{' ' * (width - cell_len(name))}  {value}" for name, value in rows]


def verdict(metrics: Sequence[Mapping[str, Any]], task: Learner) -> list[tuple[str, str]]:
    """What a training came to: how it ended, how long it took, the lowest held-out loss."""
    stopped = next(row for row in reversed(metrics) if row["event"] == "stopped")
    ended = {
        "complete": "complete",
        "early": "stopped early: what is held out was predicted no better",
        "interrupted": "interrupted",
        "diverged": "diverged",
    }[stopped["reason"]]
    tokens = task.units(stopped["number"])
    rows = [
        ("training", f"{ended}; {stopped['number']:,} steps, {tokens:,} {task.unit}, {duration(stopped['seconds'])}")
    ]
    skipped = sum(row["skipped"] for row in metrics if row["event"] == "step")
    if skipped:
        rows.append(("skipped", f"{skipped:,} steps whose loss or gradient was not finite"))
    best = best_evaluation(metrics)
    if best is not None:
        rows.append(
            (
                "held out",
                f"{best['loss']:.4f} nats, {_bits(best['loss'])} bits a {task.unit.removesuffix('s')}"
                f"{_figures(best.get('figures', {}))}, at step {best['number']:,}",
            )
        )
    return rows


def _console() -> Console:
    # What is not a terminal has no width to keep to.
    return Console(stderr=True, width=None if sys.stderr.isatty() else 200, highlight=False)


def _rate(event: Step | Evaluation, task: Learner) -> str:
    return f"{task.units(event.number) / max(event.seconds, 1e-9):,.0f} {task.unit}/s"


def _figures(figures: Mapping[str, float]) -> str:
    return "".join(f", {name.replace('_', ' ')} {value:.2%}" for name, value in figures.items())


def _skipped(count: int) -> str:
    return f" ({count} skipped)" if count else ""


def _running(mean: float | None, event: Step) -> float | None:
    if event.skipped:
        return mean
    return event.loss if mean is None else SMOOTHING * mean + (1 - SMOOTHING) * event.loss


def _bits(nats: float) -> str:
    value = bits(nats)
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.3g}"
