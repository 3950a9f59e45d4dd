"""Sliced networks: time against the same cell unsliced, as sequences grow.

Seconds for 1,000 documents of T characters forward and backward, an epoch of as many, read one by one and eight at a
time, by the networks of `reading`: GRUs of 50 units, sliced ones SRNN(n, 2) with n³ = T. There are sliced and unsliced
ones on the engine, torch.nn.GRU, and both on the reference, which makes several calls of torch a step, as the paper's
baseline, Keras' plain GRU, did. Contenders run in turns in one process; medians. The paper measured on a GPU, with
sequences of words; its choice of n may have been another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from measuring import Effort, race
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import seed_all
from shown.reading import PARTS, SENTIMENTS, UNITS, VECTOR, Reader, reviews
from shown.showing import Drawing, Settings, Shown, Table

BATCHES, DOCUMENTS = (1, 8), 1000
PAPER = {512: 54 / 4, 4096: 476 / 9, 32768: 7074 / 52}
GAINS = ("engine", "torch.nn.GRU", "reference")


class OfTorch(nn.Module):
    """`Reader`, unsliced, of torch's own layers."""

    def __init__(self, symbols: int):
        super().__init__()
        self.embedding = nn.Embedding(symbols, VECTOR)
        self.layer = nn.GRU(VECTOR, UNITS)
        self.head = nn.Linear(UNITS, len(SENTIMENTS))

    def forward(self, documents: Tensor) -> Tensor:
        """Scores (batch, sentiment) of documents (time, batch)."""
        return self.head(self.layer(self.embedding(documents))[0][-1])


def run(settings: Settings) -> Iterator[Shown]:
    """Times, and what is gained by slicing."""
    texts = reviews(settings.data / "nsmc")
    contenders: dict[str, Callable[[int], nn.Module]] = {
        "sliced": lambda parts: Reader(texts.symbols, parts),
        "unsliced": lambda parts: Reader(texts.symbols),
        "torch.nn.GRU": lambda parts: OfTorch(texts.symbols),
        "reference, sliced": lambda parts: Reader(texts.symbols, parts, "reference"),
        "reference, unsliced": lambda parts: Reader(texts.symbols, backend="reference"),
    }
    seconds = Table(
        "times",
        f"Seconds for {DOCUMENTS:,} documents of T characters, {UNITS} units, so many documents at once",
        {"T": ",d", "at once": "d", **dict.fromkeys(contenders, ".2f")},
    )
    gains = Table(
        "gain",
        "How many times as fast a sliced network is: as the unsliced one on the engine, as torch.nn.GRU, and as the "
        "unsliced one on the reference, if on the reference itself; in the paper, as Keras' plain GRU",
        {"T": ",d", "n": "d", "steps in a row": "d", "at once": "d", **dict.fromkeys(GAINS, ".1f"), "paper": ".1f"},
    )
    lengths = list(PARTS)[:1] if settings.quick else list(PARTS)
    effort = Effort(rounds=1) if settings.quick else Effort(rounds=5, seconds=5.0)
    for batch in BATCHES:
        for length in lengths:
            seed_all(0)
            documents, sentiments = texts.draw(length, batch)
            calls = {name: _training(make(PARTS[length]), documents, sentiments) for name, make in contenders.items()}
            found = [DOCUMENTS / batch * timing.median for timing in race(calls, effort).values()]
            seconds.add(length, batch, *found)
            sliced, unsliced, torchs, slow_sliced, slow = found
            n = PARTS[length]
            gains.add(length, n, 3 * n, batch, unsliced / sliced, torchs / sliced, slow / slow_sliced, PAPER[length])
    yield seconds
    yield gains
    yield Drawing("gain", "How many times as fast slicing is, against the length of the sequences.", _drawn(gains))


def _training(model: nn.Module, documents: Tensor, sentiments: Tensor) -> Callable[[], None]:
    def call() -> None:
        model.zero_grad()
        functional.cross_entropy(model(documents), sentiments).backward()

    return call


def _drawn(gains: Table) -> Callable[[Any], None]:
    columns = list(gains.columns)

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(BATCHES), sharey=True)
        for axes, batch in zip(panels, BATCHES, strict=True):
            rows = [row for row in gains.rows if row[columns.index("at once")] == batch]
            lengths = [row[0] for row in rows]
            for name in (*GAINS, "paper"):
                style = "o:" if name == "paper" else "o-"
                axes.loglog(lengths, [row[columns.index(name)] for row in rows], style, label=name)
            axes.axhline(1, color="black", linewidth=0.5)
            axes.set(title=f"times as fast, {batch} at once", xlabel="T")
            axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
            axes.set_yticks([1, 10, 100], ["1", "10", "100"])
            axes.minorticks_off()
        panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return draw
