"""What all tasks and all runs have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from unrolled.cells import all_cells, get
from unrolled.configuration import options_in
from unrolled.errors import UsageError
from unrolled.language import Cell
from unrolled.options import NetworkOptions, TrainingOptions, settle, tables_of
from unrolled.report import Section, report_page
from unrolled.run import CARD, CELL, REPORT, RunFolder, claimed

Made = TypeVar("Made", bound=nn.Module)


class Loss(NamedTuple):
    """The loss of a window: what is minimised, and in nats its mean over steps and its sum over them, a row each."""

    objective: Tensor
    mean: Tensor
    total: Tensor


class Learner(Protocol):
    """What the loop asks of a task. State is carried over the windows of an epoch; the loop cuts its gradient."""

    unit: str

    @property
    def model(self) -> nn.Module:
        """What learns."""

    @property
    def steps_per_epoch(self) -> int:
        """Windows in one epoch."""

    def units(self, steps: int) -> int:
        """Units in the first so many windows, over all epochs."""

    def prepare(self) -> None:
        """What is learned once, before the first step."""

    def windows(self, epoch: int, first: int) -> Iterator[Any]:
        """The windows of an epoch, from the `first` on: the same ones whenever they are asked for."""

    def state(self) -> Any:
        """A state such as an epoch begins with."""

    def loss(self, window: Any, state: Any) -> tuple[Loss, Any]:
        """The loss over a window, and the state after it."""

    def evaluate(self) -> float | None:
        """The loss on held-out data, None where nothing is held out."""

    def figures(self) -> Mapping[str, float]:
        """What the last evaluation has measured besides the loss. The first decides which weights are kept, those where
        it is highest; the loss does where there is none.
        """

    def sample(self) -> str:
        """What the model makes now, to look at; empty if there is nothing to show."""


class Task(Learner, Protocol):
    """What training on data and writing a run ask besides."""

    notices: list[str]

    @property
    def training(self) -> TrainingOptions:
        """The options of the training as they are in effect."""

    @property
    def digest(self) -> str:
        """A hash of the data as they were read."""

    @property
    def description(self) -> list[tuple[str, str]]:
        """What was understood of the data."""

    def shown(self) -> list[str]:
        """Some of the data as the model is given them."""

    def conclude(self) -> Sequence[Mapping[str, Any]]:
        """What is measured once the training is over, with the weights to keep: rows for the metrics."""

    def run(self, metrics: Sequence[Mapping[str, Any]], steps: int | None = None) -> Run:
        """What was trained, ready to be used and saved; `steps` that were fixed for the training."""


def of_layers(options: NetworkOptions) -> dict[str, Any]:
    """The options that go to the layers of a network as they are, by the names that these have for them."""
    return {
        "structure": options.structure,
        "recurrent_dropout": options.recurrent_dropout,
        "zoneout": options.zoneout,
        "weight_drop": options.weight_drop,
        "chrono": options.chrono or None,
        "backend": options.backend,
        "precision": options.precision,
    }


def best_evaluation(metrics: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row of the weights to keep; None without a held-out loss that is finite."""
    losses = [row for row in metrics if row["event"] == "evaluation" and row["loss"] is not None]
    finite = [row for row in losses if math.isfinite(row["loss"])]
    marked = [row for row in finite if row.get("best")]
    return marked[-1] if marked else min(finite, key=lambda row: row["loss"], default=None)


class Page(str):
    """A page of HTML; a notebook shows it as one."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        inner = self.replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{inner}" style="width: 100%; height: 40em; border: 0"></iframe>'


class Run(ABC):
    """A trained model with all that it came from.

    config    the tables of options, and under `recorded` what was found of the data
    metrics   what was measured in training, one event a row, losses in nats
    """

    unit: str

    def __init__(self, cell: Cell, model: nn.Module, config: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]):
        self.cell, self.model, self.config, self.metrics = cell, model, config, list(metrics)

    @property
    def task(self) -> str:
        """The task that it was trained for."""
        return str(self.config["task"])

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def held_out_loss(self) -> float | None:
        """The held-out loss of the weights that were kept, in nats; None where nothing was held out."""
        best = best_evaluation(self.metrics)
        return None if best is None else float(best["loss"])

    @property
    def reason(self) -> str:
        """Why the training ended: complete, early, interrupted or diverged; empty if it has not."""
        ends = [row["reason"] for row in self.metrics if row["event"] == "stopped"]
        return ends[-1] if ends else ""

    @property
    def report(self) -> Page:
        """The page that shows what was trained, and how it went."""
        found = self.config.get("recorded", {})
        options = [
            (f"{table}.{name}", str(value))
            for table in tables_of(self.task)
            for name, value in self.config[table].items()
        ]
        files = [
            (Path(file["path"]).name, file["sha256"])
            for file in [*found.get("files", []), *found.get("held_out_files", [])]
        ]
        described = found.get("description", [])
        sections = [
            *self.sections(),
            *([Section.table("The data, as they were understood", described)] if described else []),
            Section.table("Options", options),
            Section.table("Data files, by their SHA-256", files),
            Section.samples("The cell", [(self.cell.name, self.cell.text)]),
        ]
        return Page(report_page(self.title, self.facts(), self.metrics, sections, self.unit))

    def facts(self) -> list[tuple[str, str]]:
        """What it is, and what was found of the data: names and values."""
        found = self.config.get("recorded", {})
        facts = [("task", self.task), ("cell", self.cell.name), ("parameters", f"{self.parameters:,}")]
        return facts + [(name.replace("_", " "), f"{value:,}") for name, value in found.items() if type(value) is int]

    def assessed(self) -> Sequence[tuple[str, str]]:
        """What was measured of the held-out data when the training was over, for people."""
        return []

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"{self.task}: {self.cell.name}"

    def told(self, measured: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """What an evaluation has measured, names and values, for people."""
        return [(name, str(value)) for name, value in measured.items()]

    @abstractmethod
    def sections(self) -> Sequence[Section]:
        """What the report shows of this task."""

    @abstractmethod
    def vocabulary_json(self) -> Any:
        """The vocabulary as it is written."""

    @abstractmethod
    def card(self) -> str:
        """The model card."""

    def folder(self) -> RunFolder:
        """What is written."""
        return RunFolder(self.config, self.cell.text, self.model.state_dict(), self.vocabulary_json(), self.metrics)

    def save(self, path: str | Path) -> None:
        """Write the run to a new folder, report and model card included.

        Raises   UsageError when something is there already, UnrolledError when it cannot be written
        """
        with claimed(Path(path)):
            self.write_to(Path(path))

    def write_to(self, folder: Path) -> None:
        """Write the run's files, over those of the same run."""
        self.folder().write(folder, {REPORT: self.report, CARD: self.card()})

    def __repr__(self) -> str:
        loss = f", held out {self.held_out_loss:.4f} nats" if self.held_out_loss is not None else ""
        return f"<{type(self).__name__} of {self.unit}, {self.cell.name}, {self.parameters:,} parameters{loss}>"


def configuration_of(task: str, cell: Cell, tables: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What config.toml holds of a training: its options, a table each, and what was found."""
    shipped = cell.name in all_cells() and get(cell.name) == cell
    given: dict[str, Any] = {}
    for table, options in tables.items():
        values = {**vars(options), "cell": cell.name if shipped else CELL} if table == "model" else vars(options)
        given[table] = {name: value for name, value in values.items() if value is not None}
    found = {name: value for name, value in recorded.items() if value is not None}
    return {"task": task, "version": version("unrolled"), **given, "recorded": found}


def configured(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run's configuration gives, a table each.

    Raises   UsageError for a table or key that is missing or unknown, or a value that makes no sense
    """
    task = config.get("task", "")
    given = options_in(config, task, "config.toml")
    for table in tables_of(task):
        if table not in config:
            raise UsageError(f"config.toml has no table [{table}]")
    return settle(task, given)


def with_weights(make: Callable[[], Made], weights: Mapping[str, Tensor]) -> Made:
    """A model with the weights of a run, ready to be used.

    Raises   UsageError when they do not fit, or are not finite
    """
    # Its initial values are drawn and written over: the caller's random numbers do not see that.
    with torch.random.fork_rng(devices=[]):
        model = make()
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise UsageError(
            f"weights, equations, vocabulary and configuration do not fit together: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from None
    if not all(bool(weight.isfinite().all()) for weight in model.state_dict().values()):
        raise UsageError("a weight is not a finite number")
    return model.eval()
