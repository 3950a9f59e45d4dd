"""Tasks: data, model, loss, metric and prediction together."""

from __future__ import annotations

from pathlib import Path

from unrolled.errors import CellError, UsageError
from unrolled.options import tables_of
from unrolled.run import read
from unrolled.tasks.language_model import LanguageModelRun, LanguageModelTask

__all__ = ["TASKS", "LanguageModelRun", "LanguageModelTask", "load"]

TASKS = {LanguageModelTask.name: (LanguageModelTask, LanguageModelRun)}


def load(path: str | Path) -> LanguageModelRun:
    """Open a run folder; nothing in it is executed.

    Raises   UsageError when it is no run, or is damaged
    """
    folder = read(Path(path))
    try:
        tables_of(folder.config.get("task", ""))
        _, run = TASKS[folder.config["task"]]
        return run.opened(folder)
    except (UsageError, CellError) as error:
        raise type(error)(f"{error}\n  The run is {path}.") from error
