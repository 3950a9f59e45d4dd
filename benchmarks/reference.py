"""What the reference backend costs: the same layers in unrolled, in torch.nn and as a compiled loop.

    python benchmarks/reference.py [--json FILE]

One process, calls interleaved, medians, in milliseconds for one forward and backward pass, with what compiling took.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # so that the time to compile is that of a first run

import torch

from unrolled.layers import Recurrent

SHAPES = ((32, 32, 104, 256), (100, 32, 128, 128), (64, 1, 64, 128))
ROUNDS = 15
COMPILED_STEPS = 32


def train_step(run: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> float:
    """Milliseconds of one forward and backward pass."""
    start = time.perf_counter()
    run(x).sum().backward()
    return 1000 * (time.perf_counter() - start)


def loop(layer: torch.nn.LSTMCell) -> Callable[[torch.Tensor], torch.Tensor]:
    """An LSTM as a user would write the loop by hand."""

    def run(x: torch.Tensor) -> torch.Tensor:
        state, outputs = None, []
        for step in x:
            state = layer(step, state)
            outputs.append(state[0])
        return torch.stack(outputs)

    return run


def measure(shape: tuple[int, int, int, int]) -> dict[str, float]:
    time_steps, batch, inputs, hidden = shape
    x = torch.randn(time_steps, batch, inputs, requires_grad=True)
    ours, theirs = Recurrent("lstm", inputs, hidden), torch.nn.LSTM(inputs, hidden)
    by_hand = loop(torch.nn.LSTMCell(inputs, hidden))
    runs: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "unrolled": lambda x: ours(x)[0],
        "torch.nn.LSTM": lambda x: theirs(x)[0],
        "loop": by_hand,
    }
    compile_seconds = 0.0
    if time_steps <= COMPILED_STEPS:  # compiling unrolls time: longer sequences take minutes
        compiled = torch.compile(by_hand)
        start = time.perf_counter()
        compiled(x).sum().backward()
        compile_seconds = time.perf_counter() - start
        runs["compiled loop"] = compiled
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            times[name].append(train_step(run, x))
    medians = {name: statistics.median(column[2:]) for name, column in times.items()}
    return {**medians, "compiling, s": compile_seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="write the figures there as well")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rows = [{"shape": shape, **measure(shape)} for shape in SHAPES]
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'T, B, input, hidden':22}" + "".join(f"{name:>16}" for name in rows[0] if name != "shape"))
    for row in rows:
        shape = ", ".join(map(str, row["shape"]))
        cells = "".join(f"{row[name]:16.2f}" if row.get(name) else f"{'-':>16}" for name in rows[0] if name != "shape")
        print(f"{shape:22}{cells}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}, file, indent=2)


if __name__ == "__main__":
    main()
