"""Truncated backpropagation through time: what a window costs, and what can be learned through it.

1. Time and memory of training on 2,048 steps, cut into windows of so many: the state is carried over a cut, the
   gradient is not. Memory is what is kept for the backward pass of one window.
2. A source of order k repeats the bit of k steps before and flips one in ten: .469 bits a symbol are enough, and less
   are not. What is nearer than k tells nothing: a model that does not look k steps back needs 1 bit. An LSTM that
   begins anew with each window and foretells the symbol after it is a Markov model of the window's order.
3. The same sources read on and on, the state carried over the cuts, the gradient not: what stays in a state by chance,
   a step or two beyond the window, can be read without having been learned, and is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from measuring import Effort, race
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, seed_all
from shown.showing import Drawing, Settings, Shown, Table
from shown.workers import side_by_side
from unrolled.layers import Recurrent
from unrolled.layers.state import detached

STEPS, UNITS, BATCH = 2048, 256, 16
WINDOWS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
FLIPPED = 0.1
ENTROPY = -(FLIPPED * math.log2(FLIPPED) + (1 - FLIPPED) * math.log2(1 - FLIPPED))
ORDERS = (4, 8, 16)
SOURCE_UNITS, SOURCE_BATCH, SOURCE_STEPS = 64, 64, 2000
WINDOW_STEPS, WINDOW_TEST = 1500, 50_000
TEST = 4000


def run(settings: Settings) -> Iterator[Shown]:
    """Cost, then sources of several orders."""
    yield from cost(settings)
    yield _anew(settings)
    yield _carried(settings)


def cost(settings: Settings) -> Iterator[Shown]:
    """Time and memory against the window."""
    seed_all(0)
    layer, steps = Recurrent("lstm", UNITS, UNITS), 64 if settings.quick else STEPS
    x = torch.randn(steps, BATCH, UNITS)
    windows = [window for window in WINDOWS if window <= steps]

    def train(window: int) -> None:
        state = None
        for part in x.split(window):
            y, state = layer(part, detached(state))
            y.sum().backward()

    effort = Effort(rounds=1, seconds=1.0) if settings.quick else Effort(rounds=7, seconds=60.0)
    times = race({str(window): lambda window=window: train(window) for window in windows}, effort)
    memory = [_kept(layer, x[:window].clone()) for window in windows]
    whole = times[str(windows[-1])].median
    table = Table(
        "cost",
        f"{steps:,} steps of an LSTM, {BATCH} rows, {UNITS} units: time, and memory kept for the backward pass",
        {"window": "d", "ms": ".0f", "beside one window": ".2f", "MiB": ".1f"},
    )
    for window, kept in zip(windows, memory, strict=True):
        median = times[str(window)].median
        table.add(window, 1e3 * median, median / whole, kept / 2**20)
    yield table

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        left.semilogx(windows, [1e3 * times[str(window)].median for window in windows], "o-", base=2)
        left.set(title=f"ms for {steps:,} steps", xlabel="window", ylim=(0, None))
        right.loglog(windows, [kept / 2**20 for kept in memory], "o-", base=2)
        right.set(title="MiB kept for the backward pass", xlabel="window")

    yield Drawing("cost", "Time falls a little with the window, memory grows in proportion to it.", draw)


def _kept(layer: Recurrent, x: Tensor) -> int:
    """Bytes that a call keeps for its backward pass, each storage once, without the parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    found: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = layer(x)  # noqa: F841 - the graph must live until it is counted
    return sum(found.values())


def source(order: int, steps: int, batch: int) -> Tensor:
    """Bits (time, batch) of a source of an order."""
    bits = torch.randint(0, 2, (steps + order, batch))
    flips = (torch.rand(steps + order, batch) < FLIPPED).long()
    for step in range(order, steps + order):
        bits[step] = bits[step - order] ^ flips[step]
    return bits[order:]


class Trial(NamedTuple):
    """One training: the order of the source, the window, and how many steps."""

    order: int
    window: int
    seed: int
    steps: int


def _anew(settings: Settings) -> Table:
    """Windows around the order, each read from the initial state."""
    table = Table(
        "anew",
        f"Sources of order k, known entropy {ENTROPY:.3f} bits, foretold from a window alone: bits a symbol on fresh "
        "text, worst of the seeds where the window holds k, best where it does not",
        {"k": "d", "window k - 1": ".3f", "window k": ".3f", "window k + 1": ".3f"},
    )
    orders = ORDERS[:1] if settings.quick else ORDERS
    given = {order: (order - 1, order, order + 1) for order in orders}
    for row in _rows(given, bits_anew, settings, WINDOW_STEPS):
        table.add(*row)
    return table


def _carried(settings: Settings) -> Table:
    """Windows of a text that is read on and on."""
    windows = (2, 4, 8, 16, 32)
    table = Table(
        "carried",
        "The same sources when the state is carried over the cuts: bits a symbol on fresh text",
        {"k": "d", **{f"window {window}": ".3f" for window in windows}},
    )
    orders = ORDERS[:1] if settings.quick else ORDERS
    for row in _rows(dict.fromkeys(orders, windows), bits_carried, settings, SOURCE_STEPS):
        table.add(*row)
    return table


def _rows(
    windows: dict[int, tuple[int, ...]], bits: Callable[[Trial], float], settings: Settings, steps: int
) -> Iterator[list[float]]:
    """Each order, and the bits at its windows: the worst of the seeds where one holds the order, else the best."""
    trials = {
        (order, window): [Trial(order, window, seed, settings.steps_of(steps)) for seed in settings.seeds_of(3)]
        for order, several in windows.items()
        for window in several
    }
    found = iter(side_by_side(bits, [trial for several in trials.values() for trial in several], "sources"))
    worst = {
        (order, window): (max if window >= order else min)([next(found) for _ in several])
        for (order, window), several in trials.items()
    }
    return ([order, *(worst[order, window] for window in several)] for order, several in windows.items())


def bits_anew(trial: Trial) -> float:
    """Train on windows that begin anew; bits of the symbol after a window."""
    order, window, seed, steps = trial
    seed_all(seed)
    layer, head = Recurrent("lstm", 2, SOURCE_UNITS), nn.Linear(SOURCE_UNITS, 2)

    def nats(batch: int) -> Tensor:
        text = source(order, window + 1, batch)
        return functional.cross_entropy(head(layer(text[:-1])[0][-1]), text[-1])

    parameters = [*layer.parameters(), *head.parameters()]
    learn(parameters, lambda: nats(SOURCE_BATCH), steps, about=f"order {order}, window {window}", rate=0.01)
    with torch.no_grad():
        return nats(WINDOW_TEST).item() / math.log(2)


def bits_carried(trial: Trial) -> float:
    """Train on one window after another; bits of the symbols of a long text."""
    order, window, seed, steps = trial
    seed_all(seed)
    layer, head = Recurrent("lstm", 2, SOURCE_UNITS), nn.Linear(SOURCE_UNITS, 2)
    text = source(order, steps * window + 1, SOURCE_BATCH)
    place, state = 0, None

    def loss() -> Tensor:
        nonlocal place, state
        part = text[place : place + window + 1]
        place += window
        y, state = layer(part[:-1], detached(state))
        return functional.cross_entropy(head(y).flatten(0, 1), part[1:].flatten())

    learn([*layer.parameters(), *head.parameters()], loss, steps, about=f"order {order}, window {window}", rate=0.01)
    fresh = source(order, TEST + 1, SOURCE_BATCH)
    with torch.no_grad():
        y, _ = layer(fresh[:-1])
        nats = functional.cross_entropy(head(y).flatten(0, 1), fresh[1:].flatten())
    return nats.item() / math.log(2)
