"""The run folder is written while its training goes on, so that whatever ends it loses little."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from unrolled.errors import UnrolledError
from unrolled.layers.words import WordVectors
from unrolled.run import METRICS, WEIGHTS, metrics_line, replace_file
from unrolled.tasks.base import Run, Task
from unrolled.training.checkpoint import FILE
from unrolled.training.loop import CheckpointDue, Evaluation, Event, Step, Stopped, Training

# Event -> its name in a row of metrics.
NAMES: Mapping[type[Event], str] = {
    Step: "step",
    Evaluation: "evaluation",
    CheckpointDue: "checkpoint",
    Stopped: "stopped",
}

# Reasons for which a training is over; after any other one it can be resumed.
ENDED = ("complete", "early")


class Recorder:
    """Keeps what was measured, and writes the run's folder at every checkpoint.

    folder   where to write; None keeps all in memory
    rows     what an earlier part of the training has measured
    """

    def __init__(
        self,
        task: Task,
        training: Training,
        folder: Path | None,
        rows: Sequence[Mapping[str, Any]] = (),
    ):
        self.task, self.training, self.folder = task, training, folder
        self.rows: list[Mapping[str, Any]] = list(rows)
        # How many rows are on the disk, and which weights.
        self._rows_written = 0
        self._weights_written: Mapping[str, Tensor] | None = None

    def record(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass the events on and record them.

        Raises   UnrolledError when the folder cannot be written; the last checkpoint in it is whole
        """
        for event in events:
            self.rows.append({"event": NAMES[type(event)], **asdict(event)})
            if isinstance(event, CheckpointDue) and self.folder is not None:
                self._save(self.folder)
            yield event

    def finish(self) -> Run:
        """The run with the weights to keep; its folder is made complete, with report and model card.

        Raises   UnrolledError when the folder cannot be written
        """
        self.training.keep_best()
        if self._run().reason in ENDED:
            self.rows += self.task.conclude()
        run = self._run()
        if self.folder is not None:
            run.write_to(self.folder)
            if run.reason in ENDED:
                (self.folder / FILE).unlink(missing_ok=True)
        run.model.eval()
        # Whoever goes on with it may have another optimiser.
        for module in run.model.modules():
            if isinstance(module, WordVectors):
                module.by_rows(False)
        return run

    def _run(self) -> Run:
        return self.task.run(self.rows, self.training.steps if self.training.fixed else None)

    def _save(self, folder: Path) -> None:
        weights = self.training.best or self.task.model.state_dict()
        if self._rows_written == 0:
            replace(self._run().folder(), weights=weights).write(folder)
        else:
            self._append(folder)
            if weights is not self._weights_written:
                replace_file(folder / WEIGHTS, save(dict(weights)))
        self._rows_written, self._weights_written = len(self.rows), weights
        self.training.checkpoint().write(folder)

    def _append(self, folder: Path) -> None:
        path = folder / METRICS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(map(metrics_line, self.rows[self._rows_written :]))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UnrolledError(f"{path} cannot be written: {error.strerror or error}") from error
