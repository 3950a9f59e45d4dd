"""Sequential MNIST: handwritten digits read by pixels, permuted pixels, patches of 4 x 4 and rows.

10,000 images, of which the first 8,000 train and the last 2,000 test. All are trained alike: batches of 64 images, each
shifted by up to a pixel at random, AdamW with a cosine and gradients clipped at 1; each network at a rate of its own,
found by short trials. Accuracy is that after the last step, on the test images; nothing is chosen by it between.

The state begins at 0, and the scores are a linear map of the last output, or of the mean of all where that is said. The
bag is a hidden layer on each input alone and the mean of what it gives: what can be known without any order. Beside
them, what reads the whole image at once: the same layer, and a linear classifier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, parameters_of, seed_all
from shown.showing import Drawing, Settings, Shown, Table
from shown.workers import side_by_side
from unrolled.data import images
from unrolled.layers import Recurrent, network, sliced
from unrolled.models.many_to_one import ManyToOne

TRAINING, SIDE, CLASSES, BATCH = 8000, 28, 10, 64


class View(NamedTuple):
    """A way to read an image."""

    read: Callable[[Tensor], Tensor]
    time: int
    steps: int  # of training
    parts: int  # that a sliced network cuts it into


VIEWS = {
    "pixels": View(images.pixels, SIDE * SIDE, 2000, 28),
    "permuted": View(lambda batch: images.permuted(images.pixels(batch), seed=0), SIDE * SIDE, 2000, 28),
    "patches": View(lambda batch: images.patches(batch, 4, 4), 49, 2000, 7),
    "rows": View(images.rows, SIDE, 2000, 4),
    "whole": View(lambda batch: images.patches(batch, SIDE, SIDE), 1, 2000, 1),
}


class Network(NamedTuple):
    """A network for an input of so many values a step."""

    make: Callable[[int, View], nn.Module]
    rate: float
    views: tuple[str, ...] = ("pixels", "permuted", "patches", "rows")


def _stack(cell: str, size: int, **options: Any) -> nn.Module:
    return ManyToOne(network(cell, size, 64, 4, structure="residual", **options), CLASSES, pooling="mean")


def _one(cell: str, size: int, units: int, *, pooling: str = "last", **options: Any) -> nn.Module:
    return ManyToOne(Recurrent(cell, size, units, **options), CLASSES, pooling=pooling)


def _slices(size: int, parts: int) -> nn.Module:
    layer = sliced(lambda level, width: Recurrent("gru", width, 64), size, parts=parts, times=1)
    return nn.Sequential(layer, nn.Linear(layer.output_size, CLASSES))


NETWORKS = {
    "minGRU, 4 × 64, residual, mean": Network(lambda size, view: _stack("mingru", size, chrono=view.time / 4), 0.01),
    "IndRNN, 4 × 64, residual, mean": Network(lambda size, view: _stack("indrnn", size), 0.003),
    "GRU, 64, sliced": Network(lambda size, view: _slices(size, view.parts), 0.005),
    "antisymmetric, 128": Network(lambda size, view: _one("antisymmetric", size, 128), 0.005),
    "GRU, 64": Network(lambda size, view: _one("gru", size, 64), 0.005),
    "LSTM, 64, chrono": Network(lambda size, view: _one("lstm", size, 64, chrono=view.time), 0.005),
    "tanh, 128": Network(lambda size, view: _one("elman", size, 128), 0.003),
    "bag, 128": Network(lambda size, view: _one("mlp", size, 128, pooling="mean"), 0.005, tuple(VIEWS)),
    "linear": Network(lambda size, view: nn.Sequential(nn.Flatten(0, 1), nn.Linear(size, CLASSES)), 0.005, ("whole",)),
}
BEST = "minGRU, 4 × 64, residual, mean"


class Trial(NamedTuple):
    """One training."""

    folder: Path
    network: str
    view: str
    seed: int
    quick: bool


class Learned(NamedTuple):
    """Test accuracy against the steps of training, the parameters, and the seconds on one core."""

    course: list[tuple[int, float]]
    parameters: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """That after the last step."""
        return self.course[-1][1]


def run(settings: Settings) -> Iterator[Shown]:
    """The accuracy of every network at every view, and how it comes about by pixels."""
    folder = settings.data / "mnist"
    if not folder.exists():
        raise FileNotFoundError(folder)
    trials = [
        Trial(folder, name, view, seed, settings.quick)
        for view in VIEWS
        for name, made in NETWORKS.items()
        if view in made.views
        for seed in (settings.seeds_of(3) if (name, view) == (BEST, "pixels") else range(1))
    ]
    found: dict[tuple[str, str], list[Learned]] = {}
    for trial, learned in zip(trials, side_by_side(train, trials, "digits"), strict=True):
        found.setdefault((trial.network, trial.view), []).append(learned)
    yield _accuracies(found)
    yield _courses(found)


def train(trial: Trial) -> Learned:
    """Train a network to read digits."""
    start = time.perf_counter()
    seed_all(trial.seed)
    pictures, labels = digits(trial.folder)
    made, view = NETWORKS[trial.network], VIEWS[trial.view]
    model = made.make(view.read(pictures[:1]).shape[2], view)
    steps, end = (3, TRAINING + 250) if trial.quick else (view.steps, len(pictures))

    def loss() -> Tensor:
        drawn = torch.randint(TRAINING, (BATCH,))
        return functional.cross_entropy(model(view.read(shifted(pictures[drawn]))), labels[drawn])

    @torch.no_grad()
    def measure() -> float:
        tests = zip(pictures[TRAINING:end].split(250), labels[TRAINING:end].split(250), strict=True)
        right = [(model(view.read(some)).argmax(1) == known).float().mean().item() for some, known in tests]
        return float(np.mean(right))

    course = learn(
        model.parameters(), loss, steps, about=trial.network, rate=made.rate, every=steps // 8, measure=measure
    )
    return Learned(course, parameters_of(model), time.perf_counter() - start)


def digits(folder: Path) -> tuple[Tensor, Tensor]:
    """Images (number, height, width) of whole numbers, and their labels."""
    pictures, labels = (
        torch.from_numpy(images.read_idx(folder / f"t10k-{kind}-ubyte.gz")) for kind in ("images-idx3", "labels-idx1")
    )
    return pictures, labels.long()


def shifted(pictures: Tensor) -> Tensor:
    """Images moved by up to a pixel along both axes, each its own way; what comes in is black."""
    padded, along = functional.pad(pictures, (1, 1, 1, 1)), torch.arange(SIDE)
    down, right = torch.randint(3, (2, len(pictures), 1, 1))
    return padded[torch.arange(len(pictures))[:, None, None], down + along[:, None], right + along]


def _accuracies(found: dict[tuple[str, str], list[Learned]]) -> Table:
    headings = {f"{name}, T = {view.time}": ".1%" for name, view in VIEWS.items()}
    most = len(found[BEST, "pixels"])
    table = Table(
        "accuracy",
        f"Test accuracy by what is read at a step; one seed, but {BEST} by pixels is the mean of {most}; "
        "parameters, and seconds on one core, are those by pixels, or of the whole image",
        {"network": "", "parameters": ",d", **headings, "seconds": ".0f"},
    )
    for name, made in NETWORKS.items():
        first = found[name, made.views[0]]
        accuracies = [
            float(np.mean([learned.accuracy for learned in found[name, view]])) if view in made.views else None
            for view in VIEWS
        ]
        table.add(name, first[0].parameters, *accuracies, float(np.mean([learned.seconds for learned in first])))
    return table


def _courses(found: dict[tuple[str, str], list[Learned]]) -> Drawing:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, made in NETWORKS.items():
            if "pixels" in made.views:
                steps, accuracies = zip(*found[name, "pixels"][0].course, strict=True)
                axes.plot(steps, accuracies, ".-", label=name)
        axes.axhline(0.95, color="grey", linestyle=":", linewidth=1)
        axes.set(xlabel=f"steps of {BATCH} images", title="test accuracy by pixels", ylim=(0, 1.02))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return Drawing("course", "Test accuracy by pixels against the steps of training; 95 % is dotted.", draw)
