"""Every cell beside the others, as it is begun, at two tasks that ask for different things.

1. Tiny Shakespeare by characters, two layers of 128 units, 600 steps of training: nats a character on its last tenth.
   Cells that read the layer below, and blocks of a grid, have one to read.
2. The first of 100 symbols named at the end, one layer of 64 units, at most 600 steps of training.

All have the same width, so that a cell of more gates has more parameters, and the same rates. It is no contest: rates
and initial values that suit a cell would change its row. Nodes of trees, and what stands in for another cell in the
lowest layer, are left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import nn

from shown.comparisons import Text, read
from shown.learning import parameters_of, seed_all
from shown.showing import Settings, Shown, Table
from shown.vanishing import Recaller, recalled
from shown.workers import side_by_side
from unrolled.cells import all_cells
from unrolled.layers import network

PARTS_OF_OTHERS = ("binary-tree-lstm", "child-sum-edge", "child-sum-node", "depth-block", "depth-gated-lstm-first")
UNITS, LAYERS, STEPS, SPAN = 128, 2, 600, 100


class Trial(NamedTuple):
    """One cell at both tasks."""

    cell: str
    text: Path
    seed: int
    settings: Settings


class Learned(NamedTuple):
    """Nats a character, the share of first symbols that were named, and what that took."""

    nats: float
    recalled: float
    steps: int
    parameters: int
    seconds: float


def run(settings: Settings) -> Iterator[Shown]:
    """A row a cell, the best reader first."""
    text = settings.data / "tinyshakespeare" / "input.txt"
    if not text.exists():
        raise FileNotFoundError(text)
    names = [name for name in all_cells() if name not in PARTS_OF_OTHERS]
    seeds = settings.seeds_of(2)
    trials = [Trial(name, text, seed, settings) for name in names for seed in seeds]
    found = iter(side_by_side(learned, trials, "cells"))
    table = Table(
        "cells",
        f"{LAYERS} layers of {UNITS} units that read {STEPS} windows of Tiny Shakespeare, and one of 64 that names the "
        f"first of {SPAN} symbols: mean of {len(seeds)} seeds, of the steps that the second took the most",
        {"cell": "", "parameters": ",d", "nats a character": ".3f", "first symbol": ".1%", "steps": "d",
         "seconds": ".0f"},
    )  # fmt: skip
    rows = []
    for name in names:
        done = [next(found) for _ in seeds]
        nats, right = (sum(each) / len(done) for each in zip(*((one.nats, one.recalled) for one in done), strict=True))
        seconds = sum(one.seconds for one in done)
        rows.append((name, done[0].parameters, nats, right, max(one.steps for one in done), seconds))
    for row in sorted(rows, key=lambda row: row[2]):
        table.add(*row)
    yield table


def learned(trial: Trial) -> Learned:
    """Train a cell at both tasks."""
    start, (cell, path, seed, settings) = time.perf_counter(), trial
    text = Text(path)
    seed_all(seed)
    reader = network(cell, text.symbols, UNITS, LAYERS, dropout=nn.Dropout(0.2), lowest={"W": "normal"})
    *_, nats = read(reader, text, len(text.training), STEPS, settings, cell)
    seed_all(seed)
    course = recalled(Recaller(lambda size: network(cell, size, 64)), SPAN, settings.steps_of(STEPS), cell)
    steps, right = course[-1]
    return Learned(nats, right, steps, parameters_of(reader), time.perf_counter() - start)
