"""What a step of a clockwork network costs (Koutnik 2014).

Only modules that are due are computed, so that one of g modules with periods 1, 2, 4, … works ever less. The
multiply-adds are the mean over a period of the slowest; Elman's network does all of them at every step. Contenders run
in turns in one process; medians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import Effort, race

from shown.learning import seed_all
from shown.showing import Settings, Shown, Table
from unrolled.layers import Recurrent

UNITS, TIME, BATCH = 1024, 128, 16
MODULES = (1, 2, 4, 8)


def run(settings: Settings) -> Iterator[Shown]:
    """Times of a step and of training, by the number of modules."""
    seed_all(0)
    layers = {f"clockwork, {g}": Recurrent("clockwork", UNITS, UNITS, periods=_periods(g)) for g in MODULES}
    layers = {"tanh": Recurrent("elman", UNITS, UNITS), **layers}
    effort = Effort(rounds=3, seconds=0.5) if settings.quick else Effort(seconds=10.0)
    steps = race({name: _stepping(layer) for name, layer in layers.items()}, effort)
    trainings = race({name: _training(layer) for name, layer in layers.items()}, effort)
    table = Table(
        "cost",
        f"What a step costs with {UNITS} inputs and units: one of a stream of one sequence, and all gradients of "
        f"{TIME} steps of {BATCH} sequences",
        {"network, modules": "", "multiply-adds": ".0%", "step, µs": ".1f", "step / tanh": ".2f",
         "gradients, ms": ".1f", "gradients / tanh": ".2f"},
    )  # fmt: skip
    for name in layers:
        step, training = 1e6 * steps[name].median, 1e3 * trainings[name].median
        due = 1.0 if name == "tanh" else _due(int(name.split()[1]))
        table.add(
            name, due, step, steps[name].median / steps["tanh"].median,
            training, trainings[name].median / trainings["tanh"].median,
        )  # fmt: skip
    yield table


def _periods(modules: int) -> tuple[int, ...]:
    return tuple(2**k for k in range(modules))


def _due(modules: int) -> float:
    """The multiply-adds of a step as a share of a whole map's: rows that are due, of columns that they read."""
    states = sum((modules - k) / modules / 2**k for k in range(modules)) / modules
    inputs = sum(1 / 2**k for k in range(modules)) / modules
    return (states + inputs) / 2


def _stepping(layer: Recurrent) -> Callable[[], Any]:
    stream, x = layer.stream(batch=1), torch.randn(1, UNITS)
    return lambda: stream.step(x)


def _training(layer: Recurrent) -> Callable[[], Any]:
    x = torch.randn(TIME, BATCH, UNITS, requires_grad=True)
    wanted = [x, *layer.parameters()]
    return lambda: torch.autograd.grad(layer(x)[0].sum(), wanted)
