"""Tree-LSTMs: nested list operations, against an LSTM that reads the same brackets from left to right.

Expressions such as [MAX [SUB 2 9] 4], after ListOps (Nangia & Bowman 2018, arXiv 1804.06028), made anew all the time:
the larger, the smaller, the sum and the difference modulo 10 of two digits or lists, one to five deep. Every list's own
value is a label: of the tree at its node, of the sequence at its closing bracket. What is measured is the value of
whole fresh expressions, depth by depth. The Tree-LSTM is the N-ary one, with maps of its own for each of the two, since
a difference asks for their order; the sequence LSTM has more parameters, and batches for at least as long. A network
that knows how often each symbol comes, and nothing of order and brackets, is told the values of whole expressions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from shown.learning import learn, parameters_of, seed_all
from shown.showing import Drawing, Settings, Shown, Table
from shown.workers import side_by_side
from unrolled.layers import Recurrent, TreeLSTM, Trees

OPERATIONS: dict[str, Callable[[Sequence[int]], int]] = {
    "MAX": max,
    "MIN": min,
    "ADD": lambda values: sum(values) % 10,
    "SUB": lambda values: (values[0] - values[1]) % 10,
}
DIGITS = 10
NUMBERS = {text: number for number, text in enumerate([*map(str, range(DIGITS)), *OPERATIONS, "[", "]"])}
DEEPEST = 5
NONE = -1  # where there is no label
BATCH, TEST, RATE = 64, 1000, 0.005


@dataclass(frozen=True)
class Symbol:
    """A digit, an operation or a bracket; a list's value stands at its operation, and at its end when it is written."""

    text: str
    value: int = NONE


def expression(depth: int) -> tuple[Any, int]:
    """Nested lists of symbols that are so deep, and their value."""
    if depth == 0:
        digit = random.randrange(DIGITS)
        return Symbol(str(digit)), digit
    other = random.choice([0, random.randrange(depth)])
    children, values = zip(*map(expression, random.sample([depth - 1, other], 2)), strict=True)
    name, operation = random.choice(list(OPERATIONS.items()))
    value = operation(values)
    return [Symbol(name, value), *children], value


def bracketed(tree: Any) -> Iterator[Symbol]:
    """The symbols from left to right, in which a closing bracket has the value of its list."""
    if isinstance(tree, Symbol):
        yield tree
        return
    operation, *children = tree
    yield Symbol("[")
    yield Symbol(operation.text)
    for child in children:
        yield from bracketed(child)
    yield Symbol("]", operation.value)


def encoded(symbols: Iterable[Symbol]) -> tuple[Tensor, Tensor]:
    """The numbers of symbols, and their labels."""
    numbers, values = zip(*((NUMBERS[symbol.text], symbol.value) for symbol in symbols), strict=True)
    return torch.tensor(numbers), torch.tensor(values)


class OfTrees(nn.Module):
    """A Tree-LSTM over the lists."""

    def __init__(self, units: int):
        super().__init__()
        self.embedding = nn.Embedding(len(NUMBERS), units)
        self.layer = TreeLSTM(units, units, children=2)
        self.head = _head(units)

    def forward(self, lists: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (nodes, digit) and labels (nodes,), and scores (lists, digit) of the whole."""
        trees = Trees(lists, first="input")
        numbers, values = encoded(trees.symbols)
        h, whole = self.layer(self.embedding(numbers), trees)
        return self.head(h), values, self.head(whole)


class OfBrackets(nn.Module):
    """An LSTM over the bracketed text."""

    def __init__(self, units: int):
        super().__init__()
        self.embedding = nn.Embedding(len(NUMBERS), units)
        self.layer = Recurrent("lstm", units, units)
        self.head = _head(units)

    def forward(self, lists: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (time * lists, digit) and labels (time * lists,), and scores (lists, digit) of the whole."""
        texts, values = zip(*(encoded(bracketed(each)) for each in lists), strict=True)
        lengths = torch.tensor([len(text) for text in texts])
        y, _ = self.layer(self.embedding(pad_sequence(texts)), lengths=lengths)
        whole = y[lengths - 1, torch.arange(len(lists))]
        return self.head(y.flatten(0, 1)), pad_sequence(values, padding_value=NONE).flatten(), self.head(whole)


class OfCounts(nn.Module):
    """A feed-forward net over how often each symbol comes."""

    def __init__(self, units: int):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(len(NUMBERS), units), nn.ReLU())
        self.head = _head(units)

    def forward(self, lists: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (lists, digit) and labels (lists,), and the scores again."""
        counts = torch.stack([encoded(bracketed(each))[0].bincount(minlength=len(NUMBERS)) for each in lists])
        scores = self.head(self.layer(counts.float()))
        return scores, torch.tensor([each[0].value for each in lists]), scores


def _head(units: int) -> nn.Module:
    return nn.Sequential(nn.Linear(units, units), nn.ReLU(), nn.Linear(units, DIGITS))


# The network, and how many steps of training.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "Tree-LSTM": (lambda: OfTrees(96), 4000),
    "LSTM": (lambda: OfBrackets(128), 6000),
    "counts of symbols": (lambda: OfCounts(256), 6000),
}


class Trial(NamedTuple):
    """One training."""

    network: str
    seed: int
    steps: int


class Learned(NamedTuple):
    """The accuracy at each depth, and what training took."""

    right: list[float]
    parameters: int
    seconds: float


def run(settings: Settings) -> Iterator[Shown]:
    """Accuracy at each depth."""
    seeds = settings.seeds_of(2)
    trials = [Trial(name, seed, settings.steps_of(steps)) for name, (_, steps) in NETWORKS.items() for seed in seeds]
    found = iter(side_by_side(train, trials, "lists"))
    depths = range(1, DEEPEST + 1)
    table = Table(
        "lists",
        f"Nested list operations: accuracy on {TEST:,} fresh expressions of each depth, mean of {len(seeds)} seeds",
        {"network": "", "parameters": ",d", "batches": ",d", **{f"{depth} deep": ".1%" for depth in depths},
         "all": ".1%", "worst seed": ".1%", "seconds": ".0f"},
    )  # fmt: skip
    for name, (_, steps) in NETWORKS.items():
        done = [next(found) for _ in seeds]
        right = [sum(each) / len(each) for each in zip(*(one.right for one in done), strict=True)]
        whole = [sum(one.right) / len(one.right) for one in done]
        table.add(
            name, done[0].parameters, settings.steps_of(steps), *right, sum(whole) / len(whole), min(whole),
            sum(one.seconds for one in done),
        )  # fmt: skip
    yield table
    yield Drawing("lists", "Accuracy against how deep lists are nested.", _drawn(table))


def train(trial: Trial) -> Learned:
    """Train a network to work lists out."""
    start = time.perf_counter()
    seed_all(trial.seed)
    model = NETWORKS[trial.network][0]()

    def loss() -> Tensor:
        scores, values, _ = model([expression(random.randint(1, DEEPEST))[0] for _ in range(BATCH)])
        return functional.cross_entropy(scores, values, ignore_index=NONE)

    learn(model.parameters(), loss, trial.steps, about=trial.network, rate=RATE)
    seconds = time.perf_counter() - start
    right = [_accuracy(model, depth) for depth in range(1, DEEPEST + 1)]
    return Learned(right, parameters_of(model), seconds)


@torch.no_grad()
def _accuracy(model: nn.Module, depth: int) -> float:
    lists, values = zip(*(expression(depth) for _ in range(TEST)), strict=True)
    _, _, whole = model(list(lists))
    return (whole.argmax(1) == torch.tensor(values)).float().mean().item()


def _drawn(table: Table) -> Callable[[Any], None]:
    columns = list(table.columns)
    first = columns.index("1 deep")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        depths = range(1, DEEPEST + 1)
        for name, *values in table.rows:
            axes.plot(depths, values[first - 1 :][:DEEPEST], "o-", label=name)
        axes.set(title="accuracy", xlabel="depth of the lists", ylim=(0, 1.03))
        axes.set_xticks(depths)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return draw
