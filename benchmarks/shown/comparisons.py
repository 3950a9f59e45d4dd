"""Cells beside each other: the adding problem; GRU against LSTM; depth against data.

1. The adding problem (Hochreiter & Schmidhuber 1997, as in Le 2015): of T numbers from 0 to 1 two are marked, one in
   each half, and their sum is wanted. Root of the mean squared error on fresh sequences; to say 1 always gives .408.
2. GRU against LSTM at equal width and at equal parameters, three tasks: adding with T = 100 (RMSE), Tiny Shakespeare by
   characters (nats on its last tenth) and JSB chorales in quarter notes (nats a step on the test set, the sum over 88
   notes; the weights that were best on the validation set). All networks have as many steps of training.
3. Layers against data: nats a character on the last tenth of Tiny Shakespeare, of stacks of 1, 2 and 4 LSTM layers of
   128 units that read 30,000, 200,000 and 1,000,000 characters before it; the best of the measurements in training.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, parameters_of, seed_all
from shown.showing import Drawing, Settings, Shown, Table
from unrolled.layers import Recurrent, Stacked, network
from unrolled.layers.state import detached

ADDING = {100: 3000, 400: 4000}
ADDING_UNITS, ADDING_BATCH, ADDING_TEST = 128, 50, 2000
PUBLISHED = {("LSTM", 100): 0.0105, ("GRU", 100): 0.0129, ("tanh", 100): 0.3855}
UNITS, WIDER = 128, 151  # a GRU of 151 units has about as many parameters as an LSTM of 128
WINDOW, BATCH = 64, 32
NOTES, LOWEST = 88, 21
DEPTHS, SIZES = (1, 2, 4), (30_000, 200_000, 1_000_000)


def run(settings: Settings) -> Iterator[Shown]:
    """The three comparisons in turn."""
    yield from adding(settings)
    yield from gates(settings)
    yield from depth(settings)


def adding(settings: Settings) -> Iterator[Shown]:
    """The error of every cell at both lengths, beside what was published."""
    seeds = settings.seeds_of(3)
    table = Table(
        "adding",
        f"The adding problem: RMSE on {ADDING_TEST:,} fresh sequences, {ADDING_UNITS} units",
        {"network": "", "T": "d", "steps": ",d", **{f"seed {seed}": ".4f" for seed in seeds}, "published": ".4f",
         "seconds": ".0f"},
    )  # fmt: skip
    for span, steps in ADDING.items():
        for name, cell in {"tanh": "elman", "GRU": "gru", "LSTM": "lstm"}.items():
            start = time.perf_counter()
            found = [add(cell, ADDING_UNITS, span, steps, seed, settings, name) for seed in seeds]
            table.add(name, span, steps, *found, PUBLISHED.get((name, span)), time.perf_counter() - start)
    yield table


def add(cell: str, units: int, span: int, steps: int, seed: int, settings: Settings, name: str) -> float:
    """RMSE of one network on the adding problem."""
    seed_all(seed)
    # What is marked may stand at the beginning: gates begin open for as long as the sequence is.
    layer = Recurrent(cell, 2, units, **({} if cell == "elman" else {"chrono": span}))
    head = nn.Linear(units, 1)

    def error(batch: int) -> Tensor:
        x, wanted = _sums(span, batch)
        return functional.mse_loss(head(layer(x)[0][-1]).squeeze(1), wanted)

    modules = [*layer.parameters(), *head.parameters()]
    about = f"adding, {name}, T = {span}, seed {seed}"
    learn(
        modules,
        lambda: error(ADDING_BATCH),
        settings.steps_of(steps),
        about=about,
        rate=0.005 if cell != "elman" else 0.001,
    )
    with torch.no_grad():
        return math.sqrt(error(ADDING_TEST).item())


def _sums(span: int, batch: int) -> tuple[Tensor, Tensor]:
    values, marks = torch.rand(span, batch), torch.zeros(span, batch)
    rows, half = torch.arange(batch), span // 2
    for low, high in ((0, half), (half, span)):
        marks[torch.randint(low, high, (batch,)), rows] = 1
    return torch.stack([values, marks], 2), (values * marks).sum(0)


class Text:
    """A text as numbers of its characters, the last tenth held out."""

    def __init__(self, path: Path):
        text = path.read_text(encoding="utf-8")
        letters = sorted(set(text))
        numbers = torch.tensor([letters.index(letter) for letter in text])
        cut = len(text) * 9 // 10
        self.symbols, self.training, self.held_out = len(letters), numbers[:cut], numbers[cut:]


def read(
    layers: Stacked, text: Text, characters: int, steps: int, settings: Settings, about: str, every: int = 0
) -> list[float]:
    """Nats a character on what is held out, as the network reads the last `characters` of the training text."""
    head = nn.Linear(layers.output_size, text.symbols)
    dropout = nn.Dropout(0.2)
    rows = text.training[-characters:]
    rows = rows[: len(rows) // BATCH * BATCH].view(BATCH, -1).T
    place, state = 0, None

    def loss() -> Tensor:
        nonlocal place, state
        if place + 2 > len(rows):
            place, state = 0, None
        part = rows[place : place + WINDOW + 1]
        place += WINDOW
        y, state = layers(part[:-1], detached(state))
        return functional.cross_entropy(head(dropout(y)).flatten(0, 1), part[1:].flatten())

    @torch.no_grad()
    def measure() -> float:
        layers.eval()
        held_out = text.held_out[: len(text.held_out) // 50 * 50].view(50, -1).T
        y, _ = layers(held_out[:-1])
        layers.train()
        return functional.cross_entropy(head(y).flatten(0, 1), held_out[1:].flatten()).item()

    parameters = [*layers.parameters(), *head.parameters()]
    found = learn(parameters, loss, settings.steps_of(steps), about=about, rate=0.004, every=every, measure=measure)
    return [value for _, value in found]


def chorales(cell: str, units: int, path: Path, settings: Settings, about: str) -> float:
    """Nats a step of the test chorales, by the weights that were best on the validation set."""
    parts = {name: _rolls(pieces) for name, pieces in json.loads(path.read_text(encoding="utf-8")).items()}
    layer, head, dropout = Recurrent(cell, NOTES, units), nn.Linear(units, NOTES), nn.Dropout(0.3)
    modules = nn.ModuleList([layer, head])

    def nats(x: Tensor, lengths: Tensor) -> Tensor:
        # The first step is foreseen from nothing.
        y, _ = layer(functional.pad(x[:-1], (0, 0, 0, 0, 1, 0)), lengths=lengths)
        wrong = functional.binary_cross_entropy_with_logits(head(dropout(y)), x, reduction="none").sum(2)
        return (wrong * (torch.arange(len(x))[:, None] < lengths)).sum() / lengths.sum()

    def loss() -> Tensor:
        x, lengths = parts["train"]
        rows = torch.randint(len(lengths), (16,))
        longest = int(lengths[rows].max())
        return nats(x[:longest, rows], lengths[rows])

    best: tuple[float, dict[str, Tensor]] = (math.inf, {})

    @torch.no_grad()
    def measure() -> float:
        nonlocal best
        dropout.eval()
        found = nats(*parts["valid"]).item()
        dropout.train()
        if found < best[0]:
            best = found, {name: value.clone() for name, value in modules.state_dict().items()}
        return found

    learn(modules.parameters(), loss, settings.steps_of(800), about=about, rate=0.004, every=25, measure=measure)
    modules.load_state_dict(best[1])
    dropout.eval()
    with torch.no_grad():
        return nats(*parts["test"]).item()


def _rolls(pieces: list[list[list[int]]]) -> tuple[Tensor, Tensor]:
    """Pieces as 0 and 1 for every note (time, piece, note), and their lengths."""
    lengths = torch.tensor([len(piece) for piece in pieces])
    x = torch.zeros(int(lengths.max()), len(pieces), NOTES)
    for number, piece in enumerate(pieces):
        for step, notes in enumerate(piece):
            for note in notes:
                if note >= LOWEST:
                    x[step, number, note - LOWEST] = 1
    return x, lengths


def _reader(cell: str, text: Text, units: int, layers: int = 1) -> Stacked:
    return network(cell, text.symbols, units, layers, dropout=nn.Dropout(0.2), lowest={"W": "normal"})


def gates(settings: Settings) -> Iterator[Shown]:
    """GRU and LSTM on three tasks."""
    text = Text(settings.data / "tinyshakespeare" / "input.txt")
    music = settings.data / "jsb_chorales" / "jsb-chorales-quarter.json"
    tasks: dict[str, Callable[[str, int, int, str], tuple[float, int]]] = {
        "adding, T = 100, RMSE": lambda cell, units, seed, about: (
            add(cell, units, 100, 1500, seed, settings, about), parameters_of(Recurrent(cell, 2, units))),
        "Shakespeare, nats": lambda cell, units, seed, about: (
            read(_reader(cell, text, units), text, len(text.training), 500, settings, about)[-1],
            parameters_of(Recurrent(cell, text.symbols, units))),
        "chorales, nats": lambda cell, units, seed, about: (
            chorales(cell, units, music, settings, about), parameters_of(Recurrent(cell, NOTES, units))),
    }  # fmt: skip
    table = Table(
        "gates",
        "GRU against LSTM, the same steps of training: mean and spread of the seeds, less is better",
        {
            "task": "",
            "network": "",
            "units": "d",
            "parameters": ",d",
            "mean": ".4f",
            "least": ".4f",
            "most": ".4f",
            "seconds": ".0f",
        },
    )
    for task, measure in tasks.items():
        for name, cell, units in (("LSTM", "lstm", UNITS), ("GRU", "gru", UNITS), ("GRU", "gru", WIDER)):
            start, found, count = time.perf_counter(), [], 0
            for seed in settings.seeds_of(3):
                seed_all(seed)
                value, count = measure(cell, units, seed, f"{task}, {name} {units}, seed {seed}")
                found.append(value)
            table.add(
                task, name, units, count, float(np.mean(found)), min(found), max(found), time.perf_counter() - start
            )
    yield table


def depth(settings: Settings) -> Iterator[Shown]:
    """Stacks of 1, 2 and 4 layers on more and more text."""
    text = Text(settings.data / "tinyshakespeare" / "input.txt")
    table = Table(
        "depth",
        f"Layers against data: nats a character held out, LSTM layers of {UNITS} units, the best of ten measurements",
        {"layers": "d", "parameters": ",d", **{f"{size:,} characters": ".3f" for size in SIZES}, "seconds": ".0f"},
    )
    courses = {}
    for layers in DEPTHS:
        start, row = time.perf_counter(), []
        for size in SIZES:
            seed_all(0)
            made = _reader("lstm", text, UNITS, layers)
            steps = 600 if size < SIZES[-1] else 900
            found = read(
                made, text, size, steps, settings, f"{layers} layers, {size:,} characters", max(1, steps // 10)
            )
            row.append(min(found))
        courses[layers] = row
        table.add(layers, parameters_of(made), *row, time.perf_counter() - start)
    yield table

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for layers, row in courses.items():
            axes.semilogx(SIZES, row, "o-", label=f"{layers} layer{'s' * (layers > 1)}")
        axes.set(xlabel="characters to learn from", title="nats a character, held out")
        axes.legend()

    yield Drawing("depth", "Nats a character against data, for stacks of 1, 2 and 4 layers.", draw)
