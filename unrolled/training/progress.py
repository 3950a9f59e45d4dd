"""Progress: what a terminal shows while a model learns, and plain lines where there is no terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from unrolled.training.loop import Event, Step, Task

SMOOTHING = 0.98


def bar(events: Iterator[Event], task: Task, console: Console | None = None) -> Iterator[Event]:
    """Pass the events on and show them: steps, loss, rate, time left.

    Loss is a running mean in bits per character (nats / log 2); the held-out loss stands beside it once it was taken.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
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
    held_out = ""
    with Progress(*columns, console=console, expand=True) as progress:
        shown = progress.add_task("training", total=None, steps="", loss="", rate="")
        for event in events:
            if isinstance(event, Step):
                mean = _running(mean, event)
            else:
                held_out = f", held out {_bits(event.loss)}"
            progress.update(
                shown,
                total=event.steps,
                completed=event.number,
                steps=f"{event.number}{f'/{event.steps}' if event.steps else ''} steps",
                loss=f"{_bits(mean)} bits{held_out}" if mean is not None else "",
                rate=f"{event.number * task.per_step / event.seconds:,.0f} {task.unit}/s",
            )
            yield event


def _lines(events: Iterator[Event], task: Task, console: Console) -> Iterator[Event]:
    mean: float | None = None
    for event in events:
        if isinstance(event, Step):
            mean = _running(mean, event)
        else:
            learned = f"{_bits(mean)} bits, " if mean is not None else ""
            rate = event.number * task.per_step / event.seconds
            console.print(
                f"step {event.number}/{event.steps}: {learned}held out {_bits(event.loss)} bits, "
                f"{rate:,.0f} {task.unit}/s",
                highlight=False,
            )
        yield event


def _running(mean: float | None, event: Step) -> float | None:
    if event.skipped:
        return mean
    return event.loss if mean is None else SMOOTHING * mean + (1 - SMOOTHING) * event.loss


def _bits(nats: float) -> str:
    return f"{nats / math.log(2):.3f}"
