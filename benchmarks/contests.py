"""What benchmarks/cpu.py measures: each part is a function that yields rows of figures, one a case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import peers
import schedules
import torch
from measuring import Effort, Peak, Timing, geometric_mean, largest_error, one_core_busy, race
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unrolled.nn
from unrolled.backends import choose
from unrolled.layers import Recurrent

Shape = tuple[int, int, int, int]  # time, batch, input, hidden
Row = dict[str, Any]
Call = Callable[[], Any]

FIXED: dict[str, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "tanh": torch.nn.RNN}
OURS: dict[str, Any] = {"lstm": unrolled.nn.LSTM, "gru": unrolled.nn.GRU, "tanh": unrolled.nn.RNN}
NAMES = {"lstm": "lstm", "gru": "gru", "tanh": "elman"}  # of the cells, as Recurrent knows them
GATES = {"lstm": 4, "gru": 3, "tanh": 1}
MODES = ("inference", "training")
PASSES = {"inference": 1, "training": 3}  # backward has two products for each one of forward
LAYER_SHAPES: tuple[Shape, ...] = (
    (100, 32, 128, 128),
    (100, 32, 256, 256),
    (35, 20, 200, 200),
    (35, 20, 650, 650),
    (50, 64, 512, 512),
    (784, 64, 1, 128),
    (1000, 1, 64, 128),
    (100, 128, 256, 256),
    (200, 32, 1024, 1024),
)
RAGGED_SHAPES: tuple[Shape, ...] = ((100, 32, 128, 128), (100, 32, 256, 256), (50, 64, 512, 512), (100, 128, 256, 256))
STEP_SHAPES: tuple[Shape, ...] = ((1, 1, 64, 64), (1, 1, 128, 128), (1, 1, 256, 256))
BF16_SHAPES: tuple[Shape, ...] = ((50, 32, 512, 512), (50, 32, 1024, 1024))
BUSY_SHAPES: tuple[Shape, ...] = ((100, 32, 256, 256), (50, 64, 512, 512))


@dataclass(frozen=True)
class Settings:
    """What is asked for: an empty choice of shapes or cells means those of the part, `quick` its first shape alone."""

    threads: int = 2
    effort: Effort = field(default_factory=Effort)
    shapes: tuple[Shape, ...] = ()
    cells: tuple[str, ...] = ()
    modes: tuple[str, ...] = MODES
    quick: bool = False
    peers: bool = True
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    peak: Peak = field(default_factory=Peak)

    def shapes_of(self, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """The shapes to measure of a part's own."""
        return self.shapes or (shapes[:1] if self.quick else shapes)

    def cases(self, cells: Any, shapes: tuple[Shape, ...], modes: tuple[str, ...] = MODES) -> Iterator[Any]:
        """Every cell, shape and mode of a part that is asked for, each with random numbers of its own seed."""
        for kind in cells:
            for shape in self.shapes_of(shapes):
                for mode in modes:
                    if mode in self.modes and (not self.cells or kind in self.cells):
                        torch.manual_seed(0)
                        yield kind, shape, mode


def backend() -> str:
    """The backend that a layer on the CPU takes."""
    return choose(torch.device("cpu")).name


def passes(module: torch.nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, d_y: Tensor, mode: str) -> Call:
    """A call that gives y, or one that gives the gradients of x and of all parameters."""
    if mode == "inference":

        def forward() -> Tensor:
            with torch.no_grad():
                return run(x)

        return forward
    x = x.detach().requires_grad_()
    wanted = [x, *module.parameters()]
    return lambda: torch.autograd.grad(run(x), wanted, d_y)


def milliseconds(timings: dict[str, Timing]) -> dict[str, float]:
    return {name: 1000 * timing.median for name, timing in timings.items()}


def described(kind: str, shape: Shape, mode: str) -> Row:
    return {"cell": kind, "shape": shape, "mode": mode}


def recurrent_like(kind: str, layer: torch.nn.RNNBase) -> Recurrent:
    """Our layer of the equations with the weights of torch's."""
    ours = Recurrent(NAMES[kind], layer.input_size, layer.hidden_size)
    w, u, b_input, b_state = (parameter.chunk(GATES[kind]) for parameter in layer.parameters())
    with torch.no_grad():
        for index, gate in enumerate({"lstm": "ifgo", "gru": "rzg", "tanh": "h"}[kind]):
            ours.W[gate].copy_(w[index])
            ours.U[gate].copy_(u[index])
            apart = kind == "gru" and gate == "g"  # the candidate's two biases
            ours.b[gate].copy_(b_input[index] if apart else b_input[index] + b_state[index])
            if apart:
                ours.b["u"].copy_(b_state[index])
    return ours


def product_flops(module: torch.nn.Module, steps: int, mode: str) -> float:
    """The operations of the products alone: two for each entry of a map and each of so many steps."""
    entries = sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 2)
    return 2.0 * steps * entries * PASSES[mode]


def layers(settings: Settings) -> Iterator[Row]:
    """LSTM, GRU and tanh RNN against torch and its peers, with equal weights."""
    for kind, shape, mode in settings.cases(FIXED, LAYER_SHAPES):
        time_steps, batch, inputs, hidden = shape
        theirs, ours = FIXED[kind](inputs, hidden), OURS[kind](inputs, hidden)
        ours.load_state_dict(theirs.state_dict())
        x, d_y = torch.randn(time_steps, batch, inputs), torch.randn(time_steps, batch, hidden)
        contenders = {
            "ours": passes(ours, lambda x, ours=ours: ours(x)[0], x, d_y, mode),
            "torch": passes(theirs, lambda x, theirs=theirs: theirs(x)[0], x, d_y, mode),
        }
        if settings.peers and mode == "inference":
            contenders |= peers.inference(kind, theirs, x, settings.threads)
        elif settings.peers:
            contenders |= peers.training(kind, theirs, x, d_y, settings.threads)
        expected = contenders["torch"]()
        errors = {name: largest_error(call(), expected) for name, call in contenders.items() if name != "torch"}
        settings.peak.sample()
        times = milliseconds(race(contenders, settings.effort))
        best = min((name for name in times if name != "ours"), key=times.__getitem__)
        scheduled = {}
        if backend() == "llvm":
            calls = schedules.passes_apart(ours, lambda x, ours=ours: ours(x)[0], x, d_y, mode)
            scheduled = schedules.contest(calls, batch, settings.threads, settings.effort)
        flops = product_flops(theirs, time_steps * batch, mode)
        yield {
            **described(kind, shape, mode),
            "ms": times,
            "errors": errors,
            "ratio": times["torch"] / times["ours"],
            "best": best,
            "best_ms": times[best],
            "ratio_best": times[best] / times["ours"],
            "gflops": flops / times["ours"] / 1e6,
            **scheduled,
        }


def layer_means(rows: list[Row]) -> Iterator[Row]:
    """The geometric means of a cell and a mode over the shapes."""
    for kind, mode in dict.fromkeys((row["cell"], row["mode"]) for row in rows):
        own = [row for row in rows if (row["cell"], row["mode"]) == (kind, mode)]
        ratios = {name: geometric_mean(row[name] for row in own) for name in ("ratio", "ratio_best")}
        yield {"cell": kind, "mode": mode, "shapes": len(own), **ratios}


def ragged(settings: Settings) -> Iterator[Row]:
    """Batches of rows of all lengths from 1 on: our lengths, and torch's packing, which is measured with the layer."""

    def packed(layer: torch.nn.Module, lengths: Tensor, steps: int) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            y, _ = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
            return pad_packed_sequence(y, total_length=steps)[0]

        return run

    for kind, shape, mode in settings.cases(FIXED, RAGGED_SHAPES):
        time_steps, batch, inputs, hidden = shape
        theirs, drop_in = FIXED[kind](inputs, hidden), OURS[kind](inputs, hidden)
        drop_in.load_state_dict(theirs.state_dict())
        ours = recurrent_like(kind, theirs)
        x, d_y = torch.randn(time_steps, batch, inputs), torch.randn(time_steps, batch, hidden)
        lengths = torch.randint(1, time_steps + 1, (batch,))
        contenders = {
            "ours": passes(ours, lambda x, ours=ours, lengths=lengths: ours(x, lengths=lengths)[0], x, d_y, mode),
            "ours, packed": passes(drop_in, packed(drop_in, lengths, time_steps), x, d_y, mode),
            "torch": passes(theirs, packed(theirs, lengths, time_steps), x, d_y, mode),
        }
        expected = contenders["torch"]()
        apart = contenders["ours"]()  # its biases are one, so of its gradients that of x alone is compared
        apart, alike = (apart[:1], expected[:1]) if mode == "training" else (apart, expected)
        errors = {
            "ours": largest_error(apart, alike),
            "ours, packed": largest_error(contenders["ours, packed"](), expected),
        }
        settings.peak.sample()
        times = milliseconds(race(contenders, settings.effort))
        yield {
            **described(kind, shape, mode),
            "valid": lengths.sum().item() / (time_steps * batch),
            "ms": times,
            "errors": errors,
            "ratio": times["torch"] / times["ours"],
            "ratio_packed": times["torch"] / times["ours, packed"],
            "gflops": product_flops(theirs, int(lengths.sum()), mode) / times["ours"] / 1e6,
        }


def step(settings: Settings) -> Iterator[Row]:
    """One step of one sequence, Python included, the state carried on: microseconds."""
    for _, shape, _ in settings.cases(("lstm",), STEP_SHAPES, ("inference",)):
        _, _, inputs, hidden = shape
        theirs = torch.nn.LSTM(inputs, hidden)
        single = torch.nn.LSTMCell(inputs, hidden)
        single.load_state_dict({key.removesuffix("_l0"): value for key, value in theirs.state_dict().items()})
        ours = recurrent_like("lstm", theirs)
        x = torch.randn(1, inputs)
        contenders = {
            "ours": stepping(ours, x),
            "LSTMCell": carried(lambda x, state, single=single: (None, single(x, state)), x),
            "nn.LSTM": carried(theirs, x[None]),
        }
        with torch.no_grad():
            wrong = largest_error(ours(x[None])[0], theirs(x[None])[0])
        timings = race(contenders, settings.effort)
        times = {name: 1e6 * timing.median for name, timing in timings.items()}
        yield {
            **described("lstm", shape, "inference"),
            "how": "stream" if hasattr(ours, "stream") else "layer, T=1",
            "us": times,
            "error": wrong,
            "ratio": min(times["LSTMCell"], times["nn.LSTM"]) / times["ours"],
        }


def carried(run: Callable[[Tensor, Any], Any], x: Tensor) -> Call:
    """One step from the state that the last call left."""
    state = None

    def call() -> None:
        nonlocal state
        with torch.no_grad():
            _, state = run(x, state)

    return call


def stepping(layer: Recurrent, x: Tensor) -> Call:
    """One step of our layer: of its stream, where it has one."""
    if not hasattr(layer, "stream"):
        return carried(layer, x[None])
    stream = layer.stream(batch=1)

    def call() -> None:
        with torch.no_grad():
            stream.step(x)

    return call


def bf16(settings: Settings) -> Iterator[Row]:
    """Inference under autocast to bfloat16 against the same layer in float32."""
    for kind, shape, mode in settings.cases(FIXED, BF16_SHAPES, ("inference",)):
        time_steps, batch, inputs, hidden = shape
        theirs, ours = FIXED[kind](inputs, hidden), OURS[kind](inputs, hidden)
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(time_steps, batch, inputs)

        def call(layer: torch.nn.Module, narrow: bool, x: Tensor = x) -> Call:
            def run() -> Tensor:
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if narrow else nullcontext():
                    return layer(x)[0]

            return run

        contenders = {
            f"{name}, {precision}": call(layer, precision == "bf16")
            for name, layer in (("ours", ours), ("torch", theirs))
            for precision in ("fp32", "bf16")
        }
        expected = contenders["torch, fp32"]()
        errors = {name: largest_error(call(), expected) for name, call in contenders.items()}
        times = milliseconds(race(contenders, settings.effort))
        yield {
            **described(kind, shape, mode),
            "ms": times,
            "errors": errors,
            "ratio": times["ours, fp32"] / times["ours, bf16"],
            "ratio_torch": times["torch, bf16"] / times["ours, bf16"],
            "gflops": product_flops(theirs, time_steps * batch, mode) / times["ours, bf16"] / 1e6,
        }


def busy(settings: Settings) -> Iterator[Row]:
    """Calls while another process keeps one core busy: what the median and the slowest twentieth lose by it."""
    for kind, shape, mode in settings.cases(("lstm",), BUSY_SHAPES):
        time_steps, batch, inputs, hidden = shape
        theirs, ours = FIXED[kind](inputs, hidden), OURS[kind](inputs, hidden)
        ours.load_state_dict(theirs.state_dict())
        x, d_y = torch.randn(time_steps, batch, inputs), torch.randn(time_steps, batch, hidden)
        contenders = {
            "ours": passes(ours, lambda x, ours=ours: ours(x)[0], x, d_y, mode),
            "torch": passes(theirs, lambda x, theirs=theirs: theirs(x)[0], x, d_y, mode),
        }
        effort = replace(settings.effort, block=20 * settings.effort.block)  # the slowest twentieth wants many calls
        idle = race(contenders, effort)
        with one_core_busy():
            disturbed = race(contenders, effort)
        for name in contenders:
            median, late = idle[name].median, idle[name].quantile(0.95)
            yield {
                **described(kind, shape, mode),
                "who": name,
                "calls": sum(map(len, disturbed[name].blocks)),
                "idle_ms": {"median": 1000 * median, "p95": 1000 * late},
                "busy_ms": {"median": 1000 * disturbed[name].median, "p95": 1000 * disturbed[name].quantile(0.95)},
                "median_ratio": disturbed[name].median / median,
                "p95_ratio": disturbed[name].quantile(0.95) / late,
            }
