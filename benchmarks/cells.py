"""How long every cell takes beside the LSTM of the same sizes: the times of docs/cells.md.

    python benchmarks/cells.py --json docs/figures/step_times.json [--only CELL …] [--threads 2] [--quick]

For each cell one step of a stream (batch 1, 128 units, Python included), and training, which gives all gradients, at
100 steps, batch 32, 128 inputs, 128 units. The cell and the LSTM take turns in one process, medians are compared
(measuring.py says how), so that each ratio saw one machine. Where no stream runs a cell, its step is left out.
`make docs` then writes the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from contests import Call, Row, passes
from measuring import Effort, machine, race, versions
from rich import box
from rich.console import Console
from rich.table import Table

from unrolled.cells import all_cells
from unrolled.errors import UsageError
from unrolled.language import Cell
from unrolled.layers import Recurrent

SHAPE = (100, 32, 128, 128)  # time, batch, input, hidden
QUICK = Effort(rounds=3, seconds=0.5)
BESIDE = "lstm"


def inputs_of(layer: Recurrent, *leading: int) -> dict[str, torch.Tensor]:
    """Random values of the inputs besides x."""
    further = layer.cell.program.inputs[1:]
    return {name: torch.randn(*leading, *(layer.sizes[axis] for axis in shape)) for name, shape in further}


def stepping(cell: Cell) -> Call | None:
    """One step of a stream of one sequence; None where there is no stream of the cell."""
    _, _, size, hidden = SHAPE
    layer = Recurrent(cell, size, hidden).eval()
    try:
        stream = layer.stream(batch=1)
        x, more = torch.randn(1, size), inputs_of(layer, 1)
        stream.step(x, **more)
    except UsageError:
        return None
    return lambda: stream.step(x, **more)


def training(cell: Cell) -> Call:
    """All gradients of a batch."""
    time, batch, size, hidden = SHAPE
    layer = Recurrent(cell, size, hidden)
    x, more = torch.randn(time, batch, size), inputs_of(layer, time, batch)
    d_y = torch.randn(time, batch, layer.output_size)
    return passes(layer, lambda x: layer(x, **more)[0], x, d_y, "training")


def measured(names: list[str], effort: Effort) -> Iterator[Row]:
    """A row a cell: its times, and as ratios to those of the LSTM in the same contest."""
    cells = all_cells()
    for name in names:
        torch.manual_seed(0)
        row: Row = {"cell": name}
        contests: dict[str, dict[str, Call | None]] = {
            "step": {each: stepping(cells[each]) for each in (BESIDE, name)},
            "training": {each: training(cells[each]) for each in (BESIDE, name)},
        }
        for kind, contenders in contests.items():
            runs = {each: run for each, run in contenders.items() if run is not None}
            if name in runs:
                times = {each: timing.median for each, timing in race(runs, effort).items()}
                row[kind] = {"us": 1e6 * times[name], "ratio": times[name] / times[BESIDE]}
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(all_cells()), metavar="CELL", choices=list(all_cells()))
    parser.add_argument("--json", help="write the figures there as well")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0, help="after which a contest ends")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it work?")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    effort = QUICK if arguments.quick else Effort(seconds=arguments.seconds)
    about = machine(arguments.threads)
    console = Console(width=None if Console().is_terminal else 120)
    table = Table("cell", "step, µs", "LSTM 1", "training, ms", "LSTM 1", box=box.SIMPLE_HEAD)
    rows: dict[str, dict[str, Any]] = {}
    for row in measured(arguments.only, effort):
        name = row.pop("cell")
        rows[name] = row
        step = [f"{row['step']['us']:.1f}", f"{row['step']['ratio']:.2f}"] if "step" in row else ["", ""]
        table.add_row(name, *step, f"{row['training']['us'] / 1000:.2f}", f"{row['training']['ratio']:.2f}")
    console.print(table)
    found = {"machine": about, "versions": versions(), "shape": SHAPE, "cells": rows}
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
