"""Grid LSTMs: depth that keeps a memory, against plain depth; and grids, against stacked LSTMs.

1. Parity of the bits that are free among 50, anywhere, while the others are 0. Two are free at first, and one more as
   soon as five losses in a row are below .15. How many a network learns within so many batches, and its accuracy on
   fresh strings with 20 free bits, as soon as these are learned or at the end: the grid of one dimension, 20 layers
   deep, and feed-forward nets of as many parameters, which have as many layers with the same weights, or four of
   their own.
2. Memorisation, the paper's task in small: 15 symbols of 16 are read, and then said. A grid of six layers with the same
   weights, and stacked LSTMs of as many parameters, which are about as wide, or as deep. Two rates each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, parameters_of, seed_all
from shown.showing import Settings, Shown, Table
from shown.workers import side_by_side
from unrolled.layers import DepthLSTM, GridLSTM, Recurrent, SequenceLayer, deep

BITS, FEWEST, ASKED = 50, 2, 20
PARITY_STEPS, PARITY_BATCH, PARITY_TEST = 4000, 128, 4000
LOW, IN_A_ROW = 0.15, 5
SYMBOLS, SPAN = 16, 15
MEMORY_STEPS, MEMORY_BATCH, MEMORY_TEST = 1000, 64, 1000
RATES = (0.003, 0.01)


class FeedForward(nn.Module):
    """A plain feed-forward net, whose layers come again `times` over with the same weights."""

    def __init__(self, activation: Callable[[Tensor], Tensor], width: int, layers: int, times: int = 1):
        super().__init__()
        self.first = nn.Linear(BITS, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.activation, self.times = activation, times

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, BITS) to (batch, width)."""
        x = self.activation(self.first(x))
        for layer in [*self.layers] * self.times:
            x = self.activation(layer(x))
        return x


# The network, and the width of what it gives.
NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "grid, 20 tied layers": (lambda: DepthLSTM(BITS, 64, 20, tied=True), 64),
    "ReLU, 20 tied layers": (lambda: FeedForward(torch.relu, 128, 1, 20), 128),
    "tanh, 20 tied layers": (lambda: FeedForward(torch.tanh, 128, 1, 20), 128),
    "ReLU, 4 layers": (lambda: FeedForward(torch.relu, 70, 4), 70),
    "tanh, 4 layers": (lambda: FeedForward(torch.tanh, 70, 4), 70),
}
LAYERS: dict[str, Callable[[], SequenceLayer]] = {
    "grid, 6 tied layers of 64": lambda: GridLSTM(SYMBOLS + 1, 64, 6, tied=True),
    "LSTM, 2 layers of 72": lambda: deep(lambda index, size: Recurrent("lstm", size, 72), SYMBOLS + 1, 2),
    "LSTM, 6 layers of 39": lambda: deep(lambda index, size: Recurrent("lstm", size, 39), SYMBOLS + 1, 6),
}


class Trial(NamedTuple):
    """One training."""

    network: str
    rate: float
    seed: int
    steps: int


class Parity(NamedTuple):
    """The free bits that were learned, the accuracy at `ASKED` of them, and what training took."""

    learned: int
    right: float
    parameters: int
    seconds: float


class Memory(NamedTuple):
    """The shares of whole sequences and of single symbols that are right, and what training took."""

    sequences: float
    symbols: float
    parameters: int
    seconds: float


def run(settings: Settings) -> Iterator[Shown]:
    """Parity, then memorisation."""
    yield from parities(settings)
    yield from memories(settings)


def parities(settings: Settings) -> Iterator[Shown]:
    """How many bits each network learns."""
    seeds, steps = settings.seeds_of(3), settings.steps_of(PARITY_STEPS)
    trials = [Trial(name, RATES[0], seed, steps) for name in NETS for seed in seeds]
    found = iter(side_by_side(learn_parity, trials, "parity"))
    table = Table(
        "parity",
        f"Parity: the free bits of {BITS} that are learned within {steps:,} batches of {PARITY_BATCH}, and accuracy on "
        f"fresh strings of {ASKED} free bits, in the worst case",
        {"network": "", "parameters": ",d", **{f"seed {seed}": "d" for seed in seeds}, f"{ASKED} bits": ".1%",
         "seconds": ".0f"},
    )  # fmt: skip
    for name in NETS:
        done = [next(found) for _ in seeds]
        learned, right, parameters, seconds = zip(*done, strict=True)
        table.add(name, parameters[0], *learned, min(right), sum(seconds))
    yield table


def strings(free: int, batch: int) -> tuple[Tensor, Tensor]:
    """Bits (batch, BITS) of which so many are free, and their parities."""
    bits = torch.randint(0, 2, (batch, BITS)) * (torch.rand(batch, BITS).argsort(1) < free)
    return bits.float(), bits.sum(1) % 2


def learn_parity(trial: Trial) -> Parity:
    """Train a network on ever more free bits."""
    start = time.perf_counter()
    seed_all(trial.seed)
    make, width = NETS[trial.network]
    model = nn.Sequential(make(), nn.Linear(width, 2))
    learned, right, losses = FEWEST - 1, 0.0, deque[float](maxlen=IN_A_ROW)

    @torch.no_grad()
    def accuracy() -> float:
        bits, wanted = strings(ASKED, PARITY_TEST)
        return (model(bits).argmax(1) == wanted).float().mean().item()

    def loss() -> Tensor:
        nonlocal learned, right
        bits, wanted = strings(min(learned + 1, BITS), PARITY_BATCH)
        value = functional.cross_entropy(model(bits), wanted)
        losses.append(value.item())
        if len(losses) == IN_A_ROW and max(losses) < LOW:
            learned = min(learned + 1, BITS)
            losses.clear()
            if learned == ASKED:
                right = accuracy()
        return value

    learn(model.parameters(), loss, trial.steps, about=trial.network, rate=trial.rate)
    return Parity(learned, right or accuracy(), parameters_of(model), time.perf_counter() - start)


def memories(settings: Settings) -> Iterator[Shown]:
    """How many sequences each network says without an error."""
    seeds, steps = settings.seeds_of(3), settings.steps_of(MEMORY_STEPS)
    rows = [(name, rate) for name in LAYERS for rate in RATES]
    trials = [Trial(name, rate, seed, steps) for name, rate in rows for seed in seeds]
    found = iter(side_by_side(memorise, trials, "memorisation"))
    table = Table(
        "memorisation",
        f"{SPAN} symbols of {SYMBOLS} read, then said, after {steps:,} batches of {MEMORY_BATCH}: whole sequences that "
        "are right, and single symbols, mean of the seeds",
        {"network": "", "parameters": ",d", "rate": "g", **{f"seed {seed}": ".1%" for seed in seeds},
         "symbols": ".1%", "seconds": ".0f"},
    )  # fmt: skip
    for name, rate in rows:
        done = [next(found) for _ in seeds]
        sequences, symbols, parameters, seconds = zip(*done, strict=True)
        table.add(name, parameters[0], rate, *sequences, sum(symbols) / len(symbols), sum(seconds))
    yield table


class Memoriser(nn.Module):
    """A network that reads symbols, then says them."""

    def __init__(self, layer: SequenceLayer):
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer.output_size, SYMBOLS)

    def forward(self, symbols: Tensor) -> Tensor:
        """Scores (time, batch, symbol) of symbols (time, batch), after which as many steps ask for them."""
        y, _ = self.layer(torch.cat([symbols, torch.full_like(symbols, SYMBOLS)]))
        return self.head(y[len(symbols) :])


def memorise(trial: Trial) -> Memory:
    """Train a network to say what it has read."""
    start = time.perf_counter()
    seed_all(trial.seed)
    model = Memoriser(LAYERS[trial.network]())

    def loss() -> Tensor:
        symbols = torch.randint(SYMBOLS, (SPAN, MEMORY_BATCH))
        return functional.cross_entropy(model(symbols).flatten(0, 1), symbols.flatten())

    learn(model.parameters(), loss, trial.steps, about=trial.network, rate=trial.rate)
    symbols = torch.randint(SYMBOLS, (SPAN, MEMORY_TEST))
    with torch.no_grad():
        right = model(symbols).argmax(-1) == symbols
    sequences, single = right.all(0).float().mean().item(), right.float().mean().item()
    return Memory(sequences, single, parameters_of(model), time.perf_counter() - start)
