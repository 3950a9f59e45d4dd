"""Training: one call from data to a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unrolled.configuration import read_configuration
from unrolled.errors import UnrolledError, UsageError
from unrolled.options import settle, tables_of
from unrolled.run import claimed
from unrolled.tasks import LanguageModelRun, LanguageModelTask, load, task_of
from unrolled.tasks.base import Learner, Run, Task, configured
from unrolled.tasks.language_model.start import options_of_start
from unrolled.training.checkpoint import read_checkpoint
from unrolled.training.interrupt import interruptions
from unrolled.training.loop import SKIPPED_AT_MOST, Event, Training
from unrolled.training.preview import trial
from unrolled.training.progress import bar, tell, verdict
from unrolled.training.record import Recorder

Show = Callable[[Iterator[Event], Learner], Iterable[Event]]


def train(
    task: str = "",
    data: Any = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    start_from: str | Path | None = None,
    config: str | Path | None = None,
    dry_run: bool = False,
    quiet: bool = False,
    show: Show = bar,
    **options: Any,
) -> Any:
    """Train a task on data; returns its run: a `LanguageModelRun`, a `ClassifyRun`, a `TagRun`.

    task        "language-model", "classify" or "tag"
    data        a path or several; a list, an array or a column of texts; or a table, with `text` naming its column
    out         where the run is written, at every checkpoint and at the end; None keeps it in memory
    resume      a run that was interrupted: go on to the same weights, bit for bit, as without the interruption; `data`
                is needed only where the run was not made from files that are still there
    start_from  a run of a language model whose weights and vocabulary to begin with
    config      a file with options, as `unrolled config` prints it; keywords go before it
    dry_run     only say what was understood of the data and what the training would take
    quiet       show nothing
    show        takes the events and the task and passes the events on
    options     those of the task, by name

    An interruption (Ctrl-C) ends the training after its step and returns, and writes, what was learned so far.

    Raises   UsageError for a task, data, option or value that makes no sense: nothing is written then; UnrolledError
             when training diverges, or the run cannot be written: its last checkpoint is kept then
    """
    if resume is not None:
        given = {"out": out, "start_from": start_from, "config": config, "dry_run": dry_run or None, **options}
        changed = [name for name, value in given.items() if value is not None]
        if changed:
            raise UsageError(f"resume goes on with the options of the run: leave out {', '.join(changed)}")
        return _resume(Path(resume), task, data, show, quiet)
    tables_of(task)
    if data is None:
        raise UsageError(f"{task} learns from data: give files, or texts")
    if config is not None:
        options = {**read_configuration(Path(config), task), **options}
    begun = load(start_from) if start_from is not None else None
    if begun is not None:
        if not (isinstance(begun, LanguageModelRun) and task == begun.task):
            raise UsageError(f"only a language-model starts from a run of one; {start_from} is a run of {begun.task}")
        options = options_of_start(begun, options)
    # The random numbers of the caller go on as if there had been no training.
    with claimed(None if dry_run or out is None else Path(out)), torch.random.fork_rng(devices=[]):
        learner = _learner(task, data, settle(task, options), begun)
        if isinstance(learner, LanguageModelTask) and begun is not None:
            learner.adopt(begun)
        training = Training(learner, learner.training)
        if not quiet:
            tell(learner.description, learner.notices)
        if dry_run:
            if not quiet:
                tell(trial(learner, training))
            learner.model.eval()
            return learner.run([])
        return _run(learner, training, Recorder(learner, training, None if out is None else Path(out)), show, quiet)


@torch.random.fork_rng(devices=[])
def _resume(folder: Path, task: str, data: Any, show: Show, quiet: bool) -> Run:
    begun, checkpoint = load(folder), read_checkpoint(folder)
    if task and task != begun.task:
        raise UsageError(f"{folder} is a run of {begun.task}, not of {task}")
    settled = configured(begun.config)
    settled["model"] = replace(settled["model"], cell=begun.cell)
    found = begun.config["recorded"]
    if data is None:
        data = [Path(file["path"]) for file in found["files"]]
        if not data:
            raise UsageError(f"{folder} was not made from files: give its data again")
        for path in data:
            if not path.exists():
                raise UsageError(
                    f"the data of {folder} are not there any more, {path}: give them again, as in "
                    f"unrolled train {begun.task} FILE --resume {folder}"
                )
    learner = _learner(begun.task, data, settled, begun)
    if learner.digest != found["digest"]:
        hint = f": a new training can go on with --start-from {folder}" if begun.task == "language-model" else ""
        raise UsageError(f"the data of {folder} have changed since{hint}")
    training = Training(learner, learner.training, checkpoint)
    if not quiet:
        tell(learner.description, [*learner.notices, f"resumed after step {training.number:,}"])
    # What was measured at the end, of no step, is measured once more.
    rows: list[Mapping[str, Any]] = [
        row for row in begun.metrics if row.get("number", math.inf) <= training.number and row["event"] != "stopped"
    ]
    rows.append({"event": "resumed", "number": training.number, "seconds": training.seconds})
    return _run(learner, training, Recorder(learner, training, folder, rows), show, quiet)


def _learner(task: str, data: Any, settled: Mapping[str, Any], begun: Run | None) -> Task:
    torch.manual_seed(settled["training"].seed)
    return task_of(task, data, settled, begun)


def _run(learner: Task, training: Training, recorder: Recorder, show: Show, quiet: bool) -> Run:
    with interruptions() as interrupted:
        events = recorder.record(training.events(interrupted))
        for _ in events if quiet else show(events, learner):
            pass
        run = recorder.finish()
    if run.reason == "diverged":
        kept = f" What was learned before is in {recorder.folder}." if recorder.folder is not None else ""
        raise UnrolledError(
            f"training diverged: {SKIPPED_AT_MOST + 1} steps in a row had a loss or gradient that is not finite; "
            f"a lower learning_rate or clip may help.{kept}"
        )
    if not quiet:
        tell(verdict(run.metrics, learner))
    return run
