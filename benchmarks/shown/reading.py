"""Sliced networks read long documents: accuracy against the same cell unsliced.

A document is T characters in a row of NSMC's film reviews of one sentiment, which is to be named. Every review in it
has that sentiment: long documents are easy for a network that learns from all of them. Networks are GRUs of 50 units,
as in the paper, over learned vectors of 64; sliced ones have three levels of n steps each, SRNN(n, 2) with n³ = T.

Accuracy on reviews that were not trained on, after the same batches: documents of T characters, and the same ones ended
anywhere from their middle on.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, seed_all
from shown.showing import Settings, Shown, Table
from shown.workers import side_by_side
from unrolled.layers import Embedded, Recurrent, SequenceLayer, sliced

UNITS, VECTOR, KNOWN = 50, 64, 1500
PARTS = {512: 8, 4096: 16, 32768: 32}  # T, and n of which it is the third power
STEPS = {512: 1500, 4096: 500, 32768: 150}
BATCH, TEST = 8, 400
SENTIMENTS = "01"


class Reviews:
    """Characters of reviews as numbers, those of each sentiment in a row."""

    def __init__(self, folder: Path):
        training, test = (_texts(folder / f"ratings_{part}.txt") for part in ("train", "test"))
        common = Counter("".join(training)).most_common(KNOWN)
        self.symbols = KNOWN + 1
        self.numbers = {character: number for number, (character, _) in enumerate(common, 1)}
        self.training, self.test = ([self._encode(text) for text in texts] for texts in (training, test))

    def _encode(self, text: str) -> Tensor:
        return torch.tensor([self.numbers.get(character, 0) for character in text])

    def draw(self, length: int, batch: int) -> tuple[Tensor, Tensor]:
        """Documents (time, batch) from anywhere in the training reviews, and their sentiments."""
        labels = torch.randint(len(SENTIMENTS), (batch,))
        texts = [self.training[label] for label in labels]
        starts = [int(torch.randint(len(text) - length, ())) for text in texts]
        return torch.stack([text[start:][:length] for text, start in zip(texts, starts, strict=True)], 1), labels

    def unseen(self, length: int) -> tuple[Tensor, Tensor]:
        """Documents (time, batch) of the test reviews, none of which overlap, and their sentiments."""
        texts = [text[: len(text) // length * length].view(-1, length)[: TEST // 2] for text in self.test]
        labels = [torch.full((len(text),), label) for label, text in enumerate(texts)]
        return torch.cat(texts).T.contiguous(), torch.cat(labels)


def _texts(path: Path) -> list[str]:
    """The reviews of each sentiment in one text, in an order of chance."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    random.Random(0).shuffle(rows)
    return ["\n".join(text for _, text, label in rows if label == wanted) for wanted in SENTIMENTS]


class Reader(nn.Module):
    """A GRU that reads characters and scores the sentiments: cut into `parts` twice over, or in one."""

    def __init__(self, symbols: int, parts: int = 1, backend: str = ""):
        super().__init__()

        def level(index: int, size: int) -> SequenceLayer:
            layer = Recurrent("gru", size, UNITS, backend=backend)
            return layer if index else Embedded(symbols, layer)

        self.body = sliced(level, VECTOR, parts=parts, times=2 if parts > 1 else 0)
        self.head = nn.Linear(UNITS, len(SENTIMENTS))

    def forward(self, documents: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores (batch, sentiment) of documents (time, batch)."""
        return self.head(self.body(documents, lengths))


class Trial(NamedTuple):
    """One training."""

    folder: Path
    length: int
    parts: int
    seed: int
    steps: int


class Read(NamedTuple):
    """Accuracy on documents of T characters, on shorter ones, and the seconds that training took."""

    whole: float
    shorter: float
    seconds: float


def run(settings: Settings) -> Iterator[Shown]:
    """Sliced and unsliced, length by length."""
    seeds, folder = settings.seeds_of(3), settings.data / "nsmc"
    reviews(folder)
    rows = {
        (length, name): [Trial(folder, length, parts, seed, settings.steps_of(STEPS[length])) for seed in seeds]
        for length in (list(PARTS)[:1] if settings.quick else PARTS)
        for name, parts in (("sliced", PARTS[length]), ("unsliced", 1))
    }
    found = iter(side_by_side(read, [trial for row in rows.values() for trial in row], "documents"))
    table = Table(
        "reading",
        f"The sentiment of documents of T characters: accuracy on unseen ones after as many batches of {BATCH}; mean "
        "of the seeds for shorter documents",
        {
            "T": ",d", "network": "", "batches": ",d", **{f"seed {seed}": ".1%" for seed in seeds}, "T/2 to T": ".1%",
            "seconds": ".0f",
        },
    )  # fmt: skip
    for (length, name), trials in rows.items():
        done = [next(found) for _ in trials]
        shorter = sum(each.shorter for each in done) / len(done)
        seconds = sum(each.seconds for each in done)
        table.add(length, name, trials[0].steps, *(each.whole for each in done), shorter, seconds)
    yield table


@cache
def reviews(folder: Path) -> Reviews:
    """The reviews of a folder, read once in a process."""
    return Reviews(folder)


def read(trial: Trial) -> Read:
    """Train a network to name sentiments."""
    texts = reviews(trial.folder)
    seed_all(trial.seed)
    model = Reader(texts.symbols, trial.parts)

    def loss() -> Tensor:
        documents, sentiments = texts.draw(trial.length, BATCH)
        return functional.cross_entropy(model(documents), sentiments)

    start = time.perf_counter()
    learn(model.parameters(), loss, trial.steps, about="reading")
    seconds = time.perf_counter() - start
    documents, sentiments = texts.unseen(trial.length)
    lengths = torch.randint(trial.length // 2, trial.length + 1, sentiments.shape)
    with torch.no_grad():
        whole, shorter = model(documents).argmax(1), model(documents, lengths).argmax(1)
    return Read((whole == sentiments).float().mean().item(), (shorter == sentiments).float().mean().item(), seconds)
