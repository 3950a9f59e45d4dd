"""What each architecture is good for, shown: the claims of the papers and of the lecture notes, measured.

    python benchmarks/architectures.py [--part PART …] [--seeds N] [--quick] [--write DIR]

Parts, each a file in shown/ that says what it does:

    vanishing    gradients through time: which vanish, which explode, which cells recall a first token
    recall       "i grew up in france … i speak fluent french": a country recalled across words of real text
    truncation   memory and time against the window of truncated backpropagation, and what a window can learn
    order        bag of words, window, recurrent: when the order of words matters; XOR in space and in time
    comparisons  the adding problem; GRU against LSTM at equal width and at equal parameters; depth against data
    waveforms    clockwork, tanh and LSTM networks of about 1,000 parameters that sound a spoken digit
    clocks       what a step of a clockwork network costs, of which ever fewer modules are due
    slicing      the time of sliced networks beside the same cell unsliced and torch.nn.GRU
    reading      what sliced networks learn of long documents, beside the same cell unsliced
    grids        Grid LSTMs: parity of many bits, and sequences that are said again
    trees        nested lists worked out by a Tree-LSTM and by an LSTM that reads their brackets
    digits       sequential MNIST by pixels, permuted pixels, rows and patches

Without --part all are run, which takes hours. --write writes each part's tables as JSON and its drawings as SVG; what
docs/figures/architectures has goes into docs/architectures.md by `make docs`. Real data are found through
UNROLLED_DATA (../shared/data); a part without its data says so and is left out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
import time
from pathlib import Path

import torch
from measuring import machine, versions
from rich.console import Console
from shown.showing import Drawing, Settings, Table, show, write

PARTS = (
    "vanishing",
    "recall",
    "truncation",
    "order",
    "comparisons",
    "waveforms",
    "clocks",
    "slicing",
    "reading",
    "grids",
    "trees",
    "digits",
)


def run(part: str, settings: Settings, folder: Path | None, console: Console) -> None:
    """Run one part, print its tables, write what it gives."""
    console.rule(f"[bold]{part}")
    before, start = machine(torch.get_num_threads()), time.perf_counter()
    tables: list[Table] = []
    drawings: list[Drawing] = []
    try:
        for shown in importlib.import_module(f"shown.{part}").run(settings):
            if isinstance(shown, Table):
                show(console, shown)
                tables.append(shown)
            else:
                drawings.append(shown)
    except FileNotFoundError as error:
        console.print(f"left out: {error.filename or error} is not there (UNROLLED_DATA names the folder of the data)")
        return
    taken = time.perf_counter() - start
    console.print(f"{part}: {taken / 60:.1f} minutes on {before['cores']} cores, {before['cpu']}")
    if folder is not None:
        about = {
            "command": f"python {shlex.join(['benchmarks/architectures.py', '--part', part, *_seeds(settings)])}",
            "seconds": round(taken),
            "machine": before,
            "load_after": os.getloadavg()[0],
            "versions": versions(),
        }
        write(folder, part, about, tables, drawings)


def _seeds(settings: Settings) -> list[str]:
    return ["--seeds", str(settings.seeds)] if settings.seeds else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, help="seeds a row, in place of each part's own number")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it works")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write JSON and SVG there")
    arguments = parser.parse_args()
    data = Path(os.environ.get("UNROLLED_DATA", "../shared/data"))
    settings = Settings(arguments.seeds, arguments.quick, data)
    for part in arguments.part:
        run(part, settings, arguments.write, Console())
    sys.stdout.flush()


if __name__ == "__main__":
    main()
