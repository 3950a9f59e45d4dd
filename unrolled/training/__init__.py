"""Training: one call from data to a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from unrolled.errors import UsageError, did_you_mean
from unrolled.options import TrainingOptions, check
from unrolled.run import claim, release
from unrolled.tasks import find
from unrolled.tasks.language_model import LanguageModelRun
from unrolled.training.loop import Event, Task, fit

Show = Callable[[Iterator[Event], Task], Iterable[Event]]


def train(
    task: str,
    data: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    show: Show | None = None,
    **options: Any,
) -> LanguageModelRun:
    """Train a task on files.

    task     "language-model"
    data     a path or several
    out      where the run is written; None keeps it in memory
    show     takes the events and the task and passes the events on, such as `training.progress.bar`
    options  those of the task and of `TrainingOptions`, by name

    An interruption (Ctrl-C) ends the training and returns, and writes, what was learned so far.

    Raises   UsageError for a task, file, option or value that makes no sense, UnrolledError when training diverges;
             nothing is written then
    """
    made_of, task_options, _ = find(task)
    known = {option.name: kind for kind in (task_options, TrainingOptions) for option in fields(kind)}
    for name in options:
        if name not in known:
            raise UsageError(f"{task} has no option {name!r}.{did_you_mean(name, known)}")
    chosen = {kind: {n: v for n, v in options.items() if known[n] is kind} for kind in (task_options, TrainingOptions)}
    training = TrainingOptions(**chosen[TrainingOptions])
    check(training)
    paths = [data] if isinstance(data, str | Path) else list(data)
    torch.manual_seed(training.seed)
    learner = made_of.of_files(paths, task_options(**chosen[task_options]))
    made = [] if out is None else claim(Path(out))
    events = fit(learner, training)
    metrics = []
    try:
        for event in show(events, learner) if show is not None else events:
            metrics.append({"event": type(event).__name__.lower(), **asdict(event)})
    except KeyboardInterrupt:
        metrics.append({"event": "interrupted"})
    except BaseException:
        release(made)
        raise
    run = learner.run({key: value for key, value in asdict(training).items() if value is not None}, metrics)
    if out is not None:
        run.save(out)
    return run
