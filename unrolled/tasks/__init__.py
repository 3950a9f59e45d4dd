"""Tasks: data, model, loss, metric and prediction together."""

from __future__ import annotations

from pathlib import Path

from unrolled.errors import CellError, UsageError, did_you_mean
from unrolled.options import LanguageModelOptions
from unrolled.run import read
from unrolled.tasks.language_model import LanguageModelRun, LanguageModelTask

TASKS = {LanguageModelTask.name: (LanguageModelTask, LanguageModelOptions, LanguageModelRun)}


def find(name: str) -> tuple[type[LanguageModelTask], type[LanguageModelOptions], type[LanguageModelRun]]:
    """The classes of a task: itself, its options, its runs.

    Raises   UsageError for a task that is not there
    """
    if not isinstance(name, str) or name not in TASKS:
        raise UsageError(f"there is no task {name!r}.{did_you_mean(str(name), TASKS)}")
    return TASKS[name]


def load(path: str | Path) -> LanguageModelRun:
    """Open a run folder; nothing in it is executed.

    Raises   UsageError when it is no run, or is damaged
    """
    folder = read(Path(path))
    try:
        _, _, run = find(folder.config.get("task", ""))
        return run.opened(folder)
    except (UsageError, CellError) as error:
        raise type(error)(f"{error}\n  The run is {path}.") from error
