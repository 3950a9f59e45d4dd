"""Cells that no library has: what benchmarks/cpu.py measures of them, rows of figures, one a case."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from contests import Row, Settings, Shape, described, milliseconds, passes, product_flops
from measuring import largest_error, race
from torch import Tensor

from unrolled.cells import resolve
from unrolled.language import Cell
from unrolled.layers import Recurrent

CUSTOM_SHAPES: tuple[Shape, ...] = ((100, 32, 128, 128), (50, 64, 512, 512))
COMPILE_SHAPES: tuple[Shape, ...] = ((60, 32, 128, 128),)
VECTORS = {"p": 0.5}  # at 0, where peepholes begin, nothing would tell whether they are right
CUSTOM: dict[str, Cell] = {
    name: resolve(name) for name in ("peephole-lstm", "gru-cho", "mgu", "layer-norm-lstm-per-gate")
}


def custom(settings: Settings) -> Iterator[Row]:
    """Cells that no library has: the time for each operation of the products, relative to that of our LSTM."""
    chosen = [name for name in CUSTOM if not settings.cells or name in settings.cells]
    for shape in settings.shapes_of(CUSTOM_SHAPES):
        time_steps, batch, inputs, hidden = shape
        torch.manual_seed(0)
        x, d_y = torch.randn(time_steps, batch, inputs), torch.randn(time_steps, batch, hidden)
        built = {name: Recurrent(CUSTOM.get(name, name), inputs, hidden, init=VECTORS) for name in ("lstm", *chosen)}
        for mode in settings.modes:
            contenders, errors = {}, {}
            for name, layer in built.items():
                run = passes(layer, lambda x, layer=layer: layer(x)[0], x, d_y, mode)
                layer.backend = "reference"
                expected = run()
                layer.backend = ""
                contenders[name], errors[name] = run, largest_error(run(), expected)
            settings.peak.sample()
            times = milliseconds(race(contenders, settings.effort))
            rates = {name: product_flops(built[name], time_steps * batch, mode) / times[name] / 1e6 for name in built}
            for name in built:
                yield {
                    **described(name, shape, mode),
                    "ms": times[name],
                    "gflops": rates[name],
                    "per_operation": rates["lstm"] / rates[name],
                    "error": errors[name],
                }


def peephole_by_hand(layer: Recurrent) -> Callable[[Tensor], Tensor]:
    """The peephole LSTM as a loop over time that a user of torch would write, with the layer's parameters."""

    def run(x: Tensor) -> Tensor:
        w, u, bias = (torch.cat([family[gate] for gate in "ifgo"]) for family in (layer.W, layer.U, layer.b))
        h = c = x.new_zeros(x.shape[1], layer.hidden_size)
        outputs = []
        for pre in torch.nn.functional.linear(x, w, bias):
            i, f, g, o = (pre + h @ u.mT).chunk(4, -1)
            i = torch.sigmoid(i + layer.p["i"] * c)
            f = torch.sigmoid(f + layer.p["f"] * c)
            c = f * c + i * torch.tanh(g)
            h = torch.sigmoid(o + layer.p["o"] * c) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs)

    return run


def compiling(settings: Settings) -> Iterator[Row]:
    """The peephole LSTM against a loop by hand and that loop compiled, and what compiling takes."""
    for _, shape, mode in settings.cases(("peephole-lstm",), COMPILE_SHAPES):
        time_steps, batch, inputs, hidden = shape
        layer = Recurrent("peephole-lstm", inputs, hidden, init=VECTORS)
        x, d_y = torch.randn(time_steps, batch, inputs), torch.randn(time_steps, batch, hidden)
        torch.compiler.reset()
        compiled = passes(layer, torch.compile(peephole_by_hand(layer)), x, d_y, mode)
        start = time.perf_counter()
        compiled()
        first = time.perf_counter() - start
        contenders = {
            "ours": passes(layer, lambda x, layer=layer: layer(x)[0], x, d_y, mode),
            "loop": passes(layer, peephole_by_hand(layer), x, d_y, mode),
            "compiled loop": compiled,
        }
        expected = contenders["loop"]()
        errors = {name: largest_error(call(), expected) for name, call in contenders.items() if name != "loop"}
        times = milliseconds(race(contenders, settings.effort))
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = (_first_call(shape, mode, settings.threads, Path(folder)) for _ in range(2))
        yield {
            **described("peephole-lstm", shape, mode),
            "ms": times,
            "errors": errors,
            "ratio": times["compiled loop"] / times["ours"],
            "compile_s": {
                "compiled loop": first - times["compiled loop"] / 1000,
                "ours, empty cache": cold,
                "ours, full cache": warm,
            },
        }


def _first_call(shape: Shape, mode: str, threads: int, cache: Path) -> float:
    """How much longer than a later one the first call takes in a process of its own."""
    given = json.dumps({"shape": shape, "mode": mode, "threads": threads})
    command = [sys.executable, str(Path(__file__).with_name("cpu.py")), "--first-call", given]
    environment = {**os.environ, "UNROLLED_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def first_call(shape: Shape, mode: str, threads: int) -> float:
    """How many seconds longer than a later one the first call of the peephole LSTM takes, in a fresh process."""
    torch.set_num_threads(threads)
    time_steps, batch, inputs, hidden = shape
    x, d_y = torch.randn(time_steps, batch, inputs), torch.randn(time_steps, batch, hidden)
    # Torch's own first products are not ours to answer for.
    torch.nn.functional.linear(x, torch.randn(hidden, inputs).requires_grad_()).sum().backward()
    layer = Recurrent("peephole-lstm", inputs, hidden)
    call = passes(layer, lambda x: layer(x)[0], x, d_y, mode)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times[0] - statistics.median(times[2:])
