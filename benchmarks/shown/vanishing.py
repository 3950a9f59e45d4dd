"""Gradients through time: which vanish, which explode, and which networks recall a first token.

1. The notes' figure: the logistic function applied n times, and the product of its slopes, which is at most a quarter
   to the power n.
2. The norm of dL/ds_t, s all that is carried (h, and c where there is one), against the distance to the loss, in
   networks as they are begun, each with 64 units, given noise, in double precision. L is a random direction of the
   last output.
3. The first of T symbols, one of eight, is to be named at the end; the others are drawn from eight further ones and say
   nothing. Accuracy on fresh sequences after at most so many steps of training; it ends early once all are right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, seed_all
from shown.showing import Drawing, Settings, Shown, Table
from shown.workers import side_by_side
from unrolled.layers import Recurrent, SequenceLayer
from unrolled.layers.state import tensors_of

UNITS = 64
SPANS = (50, 100, 200, 500, 1000, 2000)
PERIODS = tuple(2**k for k in range(8))
# Name -> the layer; the input size is what it is given.
NETWORKS: dict[str, Callable[[int], Recurrent]] = {
    "tanh": lambda size: Recurrent("elman", size, UNITS),
    "IRNN": lambda size: Recurrent("elman-relu", size, UNITS, init={"W": "normal"}),
    "LSTM": lambda size: Recurrent("lstm", size, UNITS),
    "LSTM, chrono": lambda size: Recurrent("lstm", size, UNITS, chrono=SPANS[-1]),
    "GRU": lambda size: Recurrent("gru", size, UNITS),
    "clockwork": lambda size: Recurrent("clockwork", size, UNITS, periods=PERIODS),
    "antisymmetric": lambda size: Recurrent("antisymmetric", size, UNITS),
}
SYMBOLS = 8
RECALL = {
    "tanh": NETWORKS["tanh"],
    "LSTM, forget bias 1": NETWORKS["LSTM"],
    "LSTM, forget bias 6": lambda size: Recurrent("lstm", size, UNITS, init={"b.f": 6.0}),
    "LSTM, forget bias 6, input bias -6": lambda size: Recurrent("lstm", size, UNITS, init={"b.f": 6.0, "b.i": -6.0}),
    "LSTM, chrono": NETWORKS["LSTM, chrono"],
}
RECALL_SPANS = (1000, 2000)
# What is smaller is counted as this: nothing left in double precision.
LEAST = 1e-300
RECALL_STEPS, RECALL_BATCH, RECALL_TEST = 1200, 32, 500
ENOUGH = 0.999


def run(settings: Settings) -> Iterator[Shown]:
    """The three demonstrations in turn."""
    yield from logistic()
    yield from through_time(settings)
    yield from recall(settings)


def logistic() -> Iterator[Shown]:
    """The logistic function applied to itself, and the product of its slopes."""
    times = np.arange(1, 11)
    x = np.linspace(-6, 6, 1201)
    values, slopes, steepest = [x], [np.ones_like(x)], []
    for _ in times:
        value = 1 / (1 + np.exp(-values[-1]))
        values.append(value)
        slopes.append(slopes[-1] * value * (1 - value))
        steepest.append(float(slopes[-1].max()))
    table = Table(
        "logistic",
        "The logistic function n times: the steepest slope anywhere",
        {"n": "d", "slope": ".2e", "1/4ⁿ": ".2e"},
    )
    for n, slope in zip(times, steepest, strict=True):
        table.add(int(n), slope, 0.25 ** int(n))
        assert slope <= 0.25 ** int(n) * (1 + 1e-9)
    yield table

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        for n in (1, 2, 3, 4):
            left.plot(x, values[n], label=f"n = {n}")
        left.set(title="σ applied n times", xlabel="x")
        left.legend()
        right.semilogy(times, steepest, "o-", label="steepest slope of σ∘…∘σ")
        right.semilogy(times, 0.25**times, "--", label="1/4ⁿ")
        right.set(title="the product of the slopes", xlabel="n")
        right.legend()

    yield Drawing(
        "logistic", "σ applied again and again turns into a constant; its slope falls faster than 1/4ⁿ.", draw
    )


def norms(layer: Recurrent, steps: int, batch: int = 16, points: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """The norms of the gradient with respect to the state, by the distance from the end; means over the rows."""
    layer = layer.double()
    x = torch.randn(steps, batch, layer.input_size, dtype=torch.float64)
    state, states = layer.initial_state(batch), []
    window = max(1, steps // points)
    for part in x.split(window):
        carried = [value.requires_grad_() for value in tensors_of(state) if value.is_floating_point()]
        states.append(carried)
        y, state = layer(part, state)
    direction = functional.normalize(torch.randn(batch, layer.output_size, dtype=torch.float64), dim=1)
    flat = [value for carried in states for value in carried]
    found = iter(torch.autograd.grad((y[-1] * direction).sum(), flat))
    lengths = [torch.cat([next(found) for _ in carried], 1).norm(dim=1).mean().item() for carried in states]
    distances = steps - window * np.arange(len(states))
    return distances, np.array(lengths)


def through_time(settings: Settings) -> Iterator[Shown]:
    """The norms at every span, and their course over the longest."""
    spans = SPANS[:2] if settings.quick else SPANS
    table = Table(
        "norms",
        f"Norm of dL/ds_0 after T steps, {UNITS} units as they are begun; geometric mean of the seeds",
        {"network": "", **{f"T = {span}": ".1e" for span in spans}},
    )
    courses = {}
    for name, make in NETWORKS.items():
        row = []
        for span in spans:
            kept = []
            for seed in settings.seeds_of(5):
                seed_all(seed)
                distances, found = norms(make(8), span)
                kept.append(np.log(np.maximum(found, LEAST)))
            course = np.exp(np.mean(kept, 0))
            row.append(float(course[0]))
        courses[name] = (distances, course)
        table.add(name, *row)
    yield table

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, (distances, course) in courses.items():
            axes.semilogy(distances, course, label=name)
        axes.set(xlabel="steps before the loss", title="norm of dL/ds_t", ylim=(1e-20, None))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    yield Drawing(
        "norms", "The gradient's norm against the distance: tanh and GRU vanish, chrono and antisymmetric do not.", draw
    )


class Recaller(nn.Module):
    """A network that reads symbols and scores the first of them."""

    def __init__(self, make: Callable[[int], SequenceLayer]):
        super().__init__()
        self.layer = make(2 * SYMBOLS)
        self.head = nn.Linear(self.layer.output_size, SYMBOLS)

    def forward(self, symbols: Tensor) -> Tensor:
        """Scores (batch, symbol) of symbols (time, batch)."""
        y, _ = self.layer(symbols)
        return self.head(y[-1])


def sequences(steps: int, batch: int) -> Tensor:
    """Symbols (time, batch): the first one of eight, the others of eight further ones."""
    symbols = torch.randint(SYMBOLS, 2 * SYMBOLS, (steps, batch))
    symbols[0] = torch.randint(0, SYMBOLS, (batch,))
    return symbols


class Trial(NamedTuple):
    """One training: a network, how far back the first symbol lies, a seed, and the steps at most."""

    network: str
    span: int
    seed: int
    steps: int


class Recalled(NamedTuple):
    """How many first symbols are named, after how many steps and seconds of training."""

    right: float
    steps: int
    seconds: float


def recall(settings: Settings) -> Iterator[Shown]:
    """Accuracy at naming the first symbol, network by network."""
    seeds, steps = settings.seeds_of(3), settings.steps_of(RECALL_STEPS)
    table = Table(
        "recall",
        f"The first of T symbols named at the end: accuracy on {RECALL_TEST} fresh sequences, {UNITS} units, "
        f"at most {RECALL_STEPS} steps of {RECALL_BATCH}",
        {"network": "", "T": "d", **{f"seed {seed}": ".1%" for seed in seeds}, "steps": "", "seconds": ".0f"},
    )
    rows = [(name, span) for span in ((100,) if settings.quick else RECALL_SPANS) for name in RECALL]
    trials = [Trial(name, span, seed, steps) for name, span in rows for seed in seeds]
    found = iter(side_by_side(recalled, trials, "first symbols"))
    for name, span in rows:
        several = [next(found) for _ in seeds]
        right, taken = [each.right for each in several], " ".join(str(each.steps) for each in several)
        table.add(name, span, *right, taken, sum(each.seconds for each in several))
    yield table


def recalled(trial: Trial) -> Recalled:
    """Train until the first symbol is named."""
    start = time.perf_counter()
    seed_all(trial.seed)
    model = Recaller(RECALL[trial.network])

    def loss() -> Tensor:
        symbols = sequences(trial.span, RECALL_BATCH)
        return functional.cross_entropy(model(symbols), symbols[0])

    @torch.no_grad()
    def measure() -> float:
        symbols = sequences(trial.span, RECALL_TEST)
        return (model(symbols).argmax(1) == symbols[0]).float().mean().item()

    parameters, enough = list(model.parameters()), partial(float.__le__, ENOUGH)
    steps, right = learn(
        parameters, loss, trial.steps, about=trial.network, rate=0.01, every=50, measure=measure, enough=enough
    )[-1]
    return Recalled(right, steps, time.perf_counter() - start)
