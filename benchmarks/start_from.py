"""Starting from another run: the held-out loss of a second text, from its weights and from scratch.

    python benchmarks/start_from.py RUN FILE [--epochs 2] [--json FILE]

Both trainings read FILE with the same options and the same number of steps and are evaluated at the same ones. RUN is
a run of `unrolled train language-model`, in the end of a longer training on another text.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from pathlib import Path
from typing import Any

import torch

import unrolled

SAME = ("cell", "hidden_size", "layers", "embedding_size", "tied", "dropout")


def losses(run: Any) -> dict[int, float]:
    """Step -> held-out loss in bits a token."""
    return {row["number"]: row["loss"] / math.log(2) for row in run.metrics if row["event"] == "evaluation"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("file")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", help="write the figures there as well")
    arguments = parser.parse_args()
    begun = unrolled.load(arguments.run)
    options: dict[str, Any] = {"epochs": arguments.epochs, "evaluations": 20, "patience": 0}
    started = unrolled.train("language-model", arguments.file, start_from=arguments.run, **options)
    model = {name: begun.config["model"][name] for name in SAME if name != "cell"}
    unit = {"unit": begun.config["data"]["unit"], "end_token": begun.config["data"]["end_token"]}
    scratch = unrolled.train("language-model", arguments.file, cell=begun.cell, **model, **unit, **options)
    ahead, behind = losses(started), losses(scratch)
    lowest = min(behind.values())
    first = next((step for step, loss in ahead.items() if loss <= lowest), None)

    print(
        f"\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'step':>8}{'from the run':>15}{'from scratch':>15}   bits a token, held out")
    for step in ahead:
        print(f"{step:8,}{ahead[step]:15.3f}{behind[step]:15.3f}")
    if first is None:
        print(f"\nWhat scratch comes to, {lowest:.3f}, the other has not reached.")
    else:
        print(f"\nWhat scratch comes to in {max(behind):,} steps, {lowest:.3f}, the other has at step {first:,}.")
    if arguments.json:
        content = {"torch": torch.__version__, "from_run": ahead, "from_scratch": behind}
        Path(arguments.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
