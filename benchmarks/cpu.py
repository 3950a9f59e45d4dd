"""How fast the layers are on this CPU, beside torch, JAX, ONNX Runtime and OpenVINO.

    python benchmarks/cpu.py [--part PART …] [--only WORD …] [--json FILE] [--threads 2] [--repeats N] [--quick]

One process, contenders in turn, medians (measuring.py says how). Parts:

    peak      the rate of fp32 products, which the shares of peak are of
    layers    LSTM, GRU, tanh RNN with torch's weights: inference, and training, which gives all gradients; then under
              every schedule (shares of the rows x members) what the chosen one loses (schedules.py says how)
    ragged    the same with rows of all lengths, packing measured with torch's layers
    custom    cells that no library has, the time for each operation of the products beside our LSTM's
    compile   a peephole LSTM against a loop by hand and torch.compile of it, and what compiling takes
    step      one step of one sequence, Python included
    bf16      autocast against float32
    busy      while another process keeps a core busy
    model     characters a second of training a language model, beside the same with torch.nn.LSTM
    precision Tiny Shakespeare learned with products in float32 and in bfloat16: held-out nats a character, and speed

In training a schedule is two, forward and backward: "2x1, 1x2". The shapes of model and precision are window, batch,
symbols, hidden. --dropout is of both models of the part model; --recurrent-dropout, which torch.nn.LSTM does not have,
of one more of ours beside them. So the model that precision trains is asked for with

    python benchmarks/cpu.py --part model --only 64,32,65,512 --dropout 0.5 --recurrent-dropout 0.2

precision trains for 4 epochs, about 6 minutes on two cores; without the text in UNROLLED_DATA (../shared/data) it is
left out.
--only takes cells (lstm), modes (training) and shapes (100,32,128,128: time, batch, input, hidden), in any order; other
shapes than a part's own are measured in their place. Peers that are not installed do not take part: pip install
'unrolled[bench]'. UNROLLED_BACKEND=reference measures the reference.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # so that the time to compile is that of a first run

import contests
import language_models
import own_cells
import schedules
import torch
from contests import Row, Settings
from measuring import Effort, machine, versions
from rich import box
from rich.console import Console
from rich.table import Table

BUSY = 0.05  # of the machine, before the start: more than that and figures are doubtful
WRONG = 1e-3  # relative error of a float32 contender that does not compute the same
QUICK = Effort(rounds=3, seconds=1.0)


def peak(settings: Settings) -> Iterator[Row]:
    """Matrix products of torch, some samples of them."""
    for _ in range(5):
        settings.peak.sample()
    samples = [flops / 1e9 for flops in settings.peak.samples]
    yield {"gflops": settings.peak.flops / 1e9, "least": min(samples), "most": max(samples)}


PARTS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "peak": peak,
    "layers": contests.layers,
    "ragged": contests.ragged,
    "custom": own_cells.custom,
    "compile": own_cells.compiling,
    "step": contests.step,
    "bf16": contests.bf16,
    "busy": contests.busy,
    "model": language_models.language_model,
    "precision": language_models.precision,
}
# What is shown of a row, by the head of the column; a dot leads into a dictionary.
CASE = {"cell": "cell", "mode": "mode", "T, B, input, hidden": "shape"}
RATE = {"GFLOP/s": "gflops", "of peak": "share"}
COLUMNS: dict[str, dict[str, str]] = {
    "peak": {"GFLOP/s": "gflops", "least": "least", "most": "most"},
    "layers": CASE
    | {"ours, ms": "ms.ours", "torch, ms": "ms.torch", "torch / ours": "ratio"}
    | {"best other": "best", "ms": "best_ms", "best / ours": "ratio_best"}
    | RATE
    | {"error": "errors.ours", "schedule": "chosen", "best schedule": "best_schedule", "its ms": "best_schedule_ms"}
    | {"loss": "loss"},
    "losses": {"cell": "cell", "mode": "mode", "rows": "rows", "mean loss": "loss_mean", "largest": "loss_largest"}
    | {"T, B, input, hidden": "shape", "schedule": "chosen", "best schedule": "best_schedule"},
    "means": {"cell": "cell", "mode": "mode", "shapes": "shapes", "torch / ours": "ratio", "best / ours": "ratio_best"},
    "ragged": CASE
    | {"valid": "valid", "ours, ms": "ms.ours", "ours packed, ms": "ms.ours, packed", "torch, ms": "ms.torch"}
    | {"torch / ours": "ratio", "torch / packed": "ratio_packed"}
    | RATE
    | {"error": "errors.ours"},
    "custom": CASE | {"ms": "ms"} | RATE | {"per operation, LSTM 1": "per_operation", "error": "error"},
    "compile": CASE
    | {"ours, ms": "ms.ours", "loop, ms": "ms.loop", "compiled, ms": "ms.compiled loop", "compiled / ours": "ratio"}
    | {"compiling it, s": "compile_s.compiled loop", "ours, empty cache, s": "compile_s.ours, empty cache"}
    | {"full cache, s": "compile_s.ours, full cache", "error": "errors.ours"},
    "step": CASE
    | {"how": "how", "ours, µs": "us.ours", "LSTMCell, µs": "us.LSTMCell", "nn.LSTM, µs": "us.nn.LSTM"}
    | {"best / ours": "ratio", "error": "error"},
    "bf16": CASE
    | {"our fp32, ms": "ms.ours, fp32", "our bf16, ms": "ms.ours, bf16", "torch fp32, ms": "ms.torch, fp32"}
    | {"torch bf16, ms": "ms.torch, bf16", "our fp32 / bf16": "ratio", "torch's / our bf16": "ratio_torch"}
    | {"GFLOP/s": "gflops", "error": "errors.ours, bf16"},
    "busy": CASE
    | {"who": "who", "calls": "calls", "idle median, ms": "idle_ms.median", "p95": "idle_ms.p95"}
    | {"busy median, ms": "busy_ms.median", "busy p95": "busy_ms.p95", "median ratio": "median_ratio"}
    | {"p95 ratio": "p95_ratio"},
    "model": CASE
    | {"dropout": "dropout", "ours, characters/s": "per_second.ours", "torch, characters/s": "per_second.torch"}
    | {"ours / torch": "ratio", "ours, recurrent dropout": "per_second.ours, recurrent", "error": "error"},
    "precision": CASE
    | {"epochs": "epochs", "fp32, nats": "nats.fp32", "bf16, nats": "nats.bf16"}
    | {"bf16 - fp32": "difference", "fp32, characters/s": "per_second.fp32", "bf16, characters/s": "per_second.bf16"}
    | {"bf16 / fp32": "ratio"},
}


def figure(row: Row, path: str) -> Any:
    """The figure of a row that a column shows."""
    key, _, inner = path.partition(".")
    return row[key][inner] if inner else row[key]


def has(row: Row, path: str) -> bool:
    """Whether a row has the figure of a column: not every backend has schedules, for one."""
    key, _, inner = path.partition(".")
    return key in row and (not inner or inner in row[key])


def written(value: Any, key: str) -> str:
    """A figure as a table shows it."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if not isinstance(value, float):
        return str(value)
    if key.startswith("error"):
        return f"{value:.0e}"
    if key.startswith("loss"):
        return f"{value:.1%}"
    if key.startswith("nats"):
        return f"{value:.4f}"
    if key == "difference":
        return f"{value:+.4f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(console: Console, title: str, rows: list[Row]) -> None:
    """A table of rows."""
    columns = {head: key for head, key in COLUMNS[title].items() if has(rows[0], key)}
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for head, key in columns.items():
        table.add_column(head, justify="left" if isinstance(figure(rows[0], key), str | tuple) else "right")
    for row in rows:
        table.add_row(*(written(figure(row, key), key) for key in columns.values()))
    console.print(table)


def warn_of_errors(console: Console, part: str, rows: list[Row]) -> None:
    """Say where a contender computed something else, which makes its time worth nothing."""
    for row in rows:
        for name, value in row.get("errors", {"ours": row.get("error", 0.0)}).items():
            if value > WRONG and "bf16" not in name:
                console.print(f"[red]{part}, {row['cell']} {row['shape']} {row['mode']}: {name} is off by {value:.1e}")


def measure(part: str, settings: Settings, console: Console) -> list[Row]:
    """The rows of a part, each announced as it is there."""
    rows, start = [], time.perf_counter()
    for row in PARTS[part](settings):
        rows.append(row)
        if "cell" in row:
            case = f"{row['cell']} {written(row['shape'], 'shape')} {row['mode']}"
            console.print(f"{time.perf_counter() - start:6.0f} s  {part}: {case}", style="dim", highlight=False)
    for row in rows:
        if "share" in COLUMNS[part].values():
            row["share"] = 1e9 * row["gflops"] / settings.peak.flops
    return rows


def chosen(words: list[str], parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Cells, modes and shapes among the words of --only."""
    known = {*contests.FIXED, *own_cells.CUSTOM}
    shapes = tuple(tuple(map(int, word.split(","))) for word in words if word.replace(",", "").isdigit())
    cells = tuple(word for word in words if word in known)
    modes = tuple(word for word in words if word in contests.MODES)
    if len(shapes) + len(cells) + len(modes) < len(words) or any(len(shape) != 4 for shape in shapes):
        parser.error(f"--only takes {', '.join([*sorted(known), *contests.MODES])} and shapes such as 100,32,128,128")
    return {"shapes": shapes, "cells": cells, "modes": modes or contests.MODES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="all by default")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="cells, modes, shapes")
    parser.add_argument("--json", help="write the figures there as well, after every part")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=Effort.rounds, help="rounds of each contest, at most")
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="after which a contest ends")
    parser.add_argument("--quick", action="store_true", help="one shape, few rounds: does it work?")
    parser.add_argument("--no-peers", action="store_true", help="torch alone")
    parser.add_argument("--dropout", type=float, default=0.0, help="in the part model")
    parser.add_argument("--recurrent-dropout", type=float, default=0.0, help="in the part model, ours alone")
    parser.add_argument("--first-call", help=argparse.SUPPRESS)  # what the part compile starts itself with
    arguments = parser.parse_args()
    if arguments.first_call:
        print(own_cells.first_call(**json.loads(arguments.first_call)))
        return
    torch.set_num_threads(arguments.threads)
    options = chosen(arguments.only, parser)
    effort = QUICK if arguments.quick else Effort(arguments.repeats, arguments.seconds)
    options |= {"dropout": arguments.dropout, "recurrent_dropout": arguments.recurrent_dropout}
    settings = Settings(arguments.threads, effort, quick=arguments.quick, peers=not arguments.no_peers, **options)
    console = Console(width=None if Console().is_terminal else 190)
    found: dict[str, Any] = {
        "backend": contests.backend(),
        "machine": machine(arguments.threads),
        "versions": versions(),
        "effort": {"rounds": effort.rounds, "seconds": effort.seconds},
    }
    about = found["machine"]
    console.print(
        f"ours is backend [bold]{found['backend']}[/]; {about['cpu']}, {about['cores']} cores", highlight=False
    )
    console.print(f"{arguments.threads} threads; {', '.join(about['features'])}", highlight=False)
    console.print(", ".join(f"{name} {version}" for name, version in found["versions"].items()), highlight=False)
    if about["busy_before"] > BUSY:
        console.print(f"[red]Others keep {about['busy_before']:.0%} of the machine busy: do not trust these figures.")
    for part in arguments.part:
        rows = measure(part, settings, console)
        if rows:
            show(console, part, rows)
            warn_of_errors(console, part, rows)
        found[part] = rows
        if part == "layers" and rows:
            found["means"] = list(contests.layer_means(rows))
            show(console, "means", found["means"])
            if "loss" in rows[0]:
                found["losses"] = list(schedules.losses(rows))
                show(console, "losses", found["losses"])
        found["peak_gflops"] = [flops / 1e9 for flops in settings.peak.samples]
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
