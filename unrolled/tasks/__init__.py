"""Tasks: data, model, loss, metric and prediction together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unrolled.errors import CellError, UsageError
from unrolled.options import tables_of
from unrolled.run import read
from unrolled.tasks.base import Run, Task
from unrolled.tasks.classify import ClassifyRun, ClassifyTask
from unrolled.tasks.language_model import LanguageModelRun, LanguageModelTask
from unrolled.tasks.tag import TagRun, TagTask

__all__ = [
    "TASKS",
    "ClassifyRun",
    "ClassifyTask",
    "LanguageModelRun",
    "LanguageModelTask",
    "TagRun",
    "TagTask",
    "load",
    "task_of",
]


class Kind(NamedTuple):
    """What a task is made of: what learns, and what was learned."""

    learner: type[LanguageModelTask] | type[ClassifyTask] | type[TagTask]
    run: type[LanguageModelRun] | type[ClassifyRun] | type[TagRun]


TASKS: Mapping[str, Kind] = {
    "language-model": Kind(LanguageModelTask, LanguageModelRun),
    "classify": Kind(ClassifyTask, ClassifyRun),
    "tag": Kind(TagTask, TagRun),
}


def task_of(name: str, data: Any, settled: Mapping[str, Any], begun: Run | None = None) -> Task:
    """A task on data, ready to be trained.

    settled   its options, a table each
    begun     a run that it goes on from

    Raises   UsageError when the data cannot be read, or the options do not fit together
    """
    return TASKS[name].learner.reading(data, settled, begun)


def load(path: str | Path) -> Any:
    """Open a run folder: a `ClassifyRun`, a `TagRun`, a `LanguageModelRun`, as its task is; nothing in it is executed.

    Raises   UsageError when it is no run, or is damaged
    """
    folder = read(Path(path))
    try:
        tables_of(folder.config.get("task", ""))
        return TASKS[folder.config["task"]].run.opened(folder)
    except (UsageError, CellError) as error:
        raise type(error)(f"{error}\n  The run is {path}.") from error
