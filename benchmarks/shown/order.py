"""When the order of words matters: a bag of words, a window and a recurrent network in each other's place.

1. Film reviews (NSMC), read as characters: accuracy on unseen ones by their length, and on the same with their words in
   random order. The bag is the mean of its characters' vectors, the window six characters through a hidden layer and
   the largest value of each unit over the text, the fixed net one map of the whole text at once, which has parameters
   for every place. All have vectors of 64 and 128 units.
2. A phrase of two words is learned at the 3rd place of a text of 40 words and looked for at the 30th: texts with it
   against texts without. What was learned for a place is no use at another; what is shared over time is, as long as
   the network has met the phrase in a state such as it has there: a GRU that begins anew with each text has not, one
   whose state goes on from text to text has.
3. Exclusive or: one layer fails, a hidden layer solves it. In time, as Elman 1990 posed it: every third bit is the
   exclusive or of the two before it, and only these can be foreseen.
"""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, parameters_of, seed_all
from shown.showing import Drawing, Settings, Shown, Table
from unrolled.layers import Recurrent, WindowMLP
from unrolled.models.many_to_one import ManyToOne
from unrolled.sequence import mask

VECTOR, UNITS, LONGEST = 64, 128, 140
TRAINING, TEST, KNOWN = 40_000, 8_000, 2000
EPOCHS, BATCH = 3, 64
BOUNDS = (15, 30, 60, LONGEST)
PHRASE_STEPS, PHRASE_LENGTH, LEARNED_AT, SOUGHT_AT = 400, 40, 3, 30

Make = Callable[[int], nn.Module]


class Fixed(nn.Module):
    """One hidden layer on a whole text at once: another map for every place, zeros after the end."""

    def __init__(self, symbols: int, length: int):
        super().__init__()
        self.length = length
        self.vectors = nn.Embedding(symbols, VECTOR)
        self.hidden = nn.Linear(length * VECTOR, UNITS)
        self.head = nn.Linear(UNITS, 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Scores (batch, class) of symbols (time, batch)."""
        vectors = self.vectors(x)
        if lengths is not None:
            vectors = vectors * mask(lengths, len(x))[..., None]
        flat = functional.pad(vectors.transpose(0, 1).flatten(1), (0, (self.length - len(x)) * VECTOR))
        return self.head(torch.tanh(self.hidden(flat)))


class Onward(nn.Module):
    """A recurrent network whose state goes on from text to text: no place is another one to it."""

    def __init__(self, symbols: int):
        super().__init__()
        self.vectors = nn.Embedding(symbols, VECTOR)
        self.layer = Recurrent("gru", VECTOR, UNITS)
        self.head = nn.Linear(UNITS, 2)
        self.h = torch.zeros(1, UNITS)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (batch, class) of symbols (time, batch)."""
        y, state = self.layer(self.vectors(x), self.h[torch.randint(len(self.h), x.shape[1:])])
        self.h = state.h.detach()
        return self.head(y.amax(0))


def _bag(symbols: int) -> ManyToOne:
    return ManyToOne(Recurrent("bag-of-words", VECTOR, UNITS), 2, symbols=symbols)


def _window(symbols: int) -> ManyToOne:
    return ManyToOne(WindowMLP(VECTOR, UNITS, window=6), 2, pooling="max", symbols=symbols)


def _fixed(length: int) -> Make:
    return lambda symbols: Fixed(symbols, length)


def _recurrent(symbols: int) -> ManyToOne:
    return ManyToOne(Recurrent("gru", VECTOR, UNITS), 2, pooling="max", symbols=symbols)


def run(settings: Settings) -> Iterator[Shown]:
    """Reviews, the phrase, exclusive or."""
    yield from reviews(settings)
    yield from phrase(settings)
    yield from exclusive_or(settings)


class Reviews:
    """Reviews as numbers of characters, padded, with their lengths and labels."""

    def __init__(self, texts: list[str], labels: list[int], numbers: dict[str, int]):
        self.texts, self.labels, self.numbers = texts, torch.tensor(labels), numbers
        self.x, self.lengths = self._encoded(texts)

    def shuffled(self) -> Reviews:
        """The same with the words of each in random order."""
        mixed = [" ".join(np.random.permutation(text.split(" "))) for text in self.texts]
        return Reviews(mixed, self.labels.tolist(), self.numbers)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Characters (time, batch), lengths and labels of some."""
        lengths = self.lengths[rows]
        return self.x[: int(lengths.max()), rows], lengths, self.labels[rows]

    def _encoded(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([min(len(text), LONGEST) for text in texts])
        x = torch.zeros(LONGEST, len(texts), dtype=torch.int64)
        for row, text in enumerate(texts):
            x[: lengths[row], row] = torch.tensor([self.numbers.get(letter, 0) for letter in text[:LONGEST]])
        return x, lengths


def _read(path: Path, count: int) -> tuple[list[str], list[int]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        found = [(" ".join(row["document"].split()), int(row["label"])) for row in rows if row["document"].strip()]
    return [text for text, _ in found[:count]], [label for _, label in found[:count]]


def reviews(settings: Settings) -> Iterator[Shown]:
    """Accuracy by length, and with the words in random order."""
    folder = settings.data / "nsmc"
    texts, labels = _read(folder / "ratings_train.txt", 500 if settings.quick else TRAINING)
    counted = Counter(letter for text in texts for letter in text)
    numbers = {letter: number for number, (letter, _) in enumerate(counted.most_common(KNOWN), 1)}
    training = Reviews(texts, labels, numbers)
    test = Reviews(*_read(folder / "ratings_test.txt", 200 if settings.quick else TEST), numbers)
    seed_all(0)
    mixed = test.shuffled()
    ranges = list(zip((0, *BOUNDS), BOUNDS, strict=False))
    table = Table(
        "reviews",
        f"{len(texts):,} film reviews to learn from in {EPOCHS} readings, {len(test.texts):,} to measure on: accuracy "
        "by the number of characters, and with the words in random order",
        {
            "network": "", "parameters": ",d", **{f"{low + 1}–{high}": ".1%" for low, high in ranges},
            "all": ".1%", "shuffled": ".1%", "lost": ".1%", "seconds": ".0f",
        },
    )  # fmt: skip
    networks: dict[str, Make] = {
        "bag of words": _bag, "window of 6": _window, f"fixed net of {LONGEST}": _fixed(LONGEST), "GRU": _recurrent,
    }  # fmt: skip
    for name, make in networks.items():
        start, found = time.perf_counter(), []
        for seed in settings.seeds_of(2):
            seed_all(seed)
            model = make(len(numbers) + 1)
            _train(model, training, settings, f"{name}, seed {seed}")
            right, without = _right(model, test), _right(model, mixed)
            inside = [(test.lengths > low) & (test.lengths <= high) for low, high in ranges]
            found.append([*(right[part].float().mean().item() for part in inside), right.float().mean().item(),
                          without.float().mean().item()])  # fmt: skip
        means = np.mean(found, 0).tolist()
        layer = parameters_of(model) - VECTOR * (len(numbers) + 1)
        table.add(name, layer, *means, means[-2] - means[-1], time.perf_counter() - start)
    yield table


def _train(model: nn.Module, data: Reviews, settings: Settings, about: str) -> None:
    """Batches of like lengths, in another order in each reading."""
    batches: list[Tensor] = []

    def loss() -> Tensor:
        if not batches:
            order = torch.randperm(len(data.texts))
            chunks = order.split(BATCH * 50)
            batches.extend(part for chunk in chunks for part in chunk[data.lengths[chunk].argsort()].split(BATCH))
            np.random.shuffle(batches)  # type: ignore[arg-type]
        x, lengths, labels = data.batch(batches.pop())
        return functional.cross_entropy(model(x, lengths), labels)

    steps = settings.steps_of(EPOCHS * len(data.texts) // BATCH)
    learn(model.parameters(), loss, steps, about=about, rate=0.002, weight_decay=0.01)


@torch.no_grad()
def _right(model: nn.Module, data: Reviews) -> Tensor:
    """Which ones the model labels rightly."""
    model.eval()
    order = data.lengths.argsort()
    right = torch.zeros(len(order), dtype=torch.bool)
    for rows in order.split(256):
        x, lengths, labels = data.batch(rows)
        right[rows] = model(x, lengths).argmax(1) == labels
    model.train()
    return right


def phrase(settings: Settings) -> Iterator[Shown]:
    """Learned at one place, sought at another."""
    words, pair = 200, torch.tensor([7, 8])

    def draw(place: int, batch: int = BATCH) -> tuple[Tensor, Tensor]:
        x = torch.randint(10, words, (PHRASE_LENGTH, batch))
        label = torch.randint(0, 2, (batch,))
        for offset, word in enumerate(pair):
            x[place + offset] = torch.where(label == 1, word, x[place + offset])
        return x, label

    table = Table(
        "phrase",
        f"A phrase learned at place {LEARNED_AT} of {PHRASE_LENGTH}: accuracy at finding it there and at {SOUGHT_AT}",
        {"network": "", "parameters": ",d", "there": ".1%", f"at {SOUGHT_AT}": ".1%"},
    )
    networks: dict[str, Make] = {
        "bag of words": _bag, "window of 6": _window, f"fixed net of {PHRASE_LENGTH}": _fixed(PHRASE_LENGTH),
        "GRU, begun anew": _recurrent, "GRU, going on": Onward,
    }  # fmt: skip
    for name, make in networks.items():
        seed_all(0)
        model = make(words)

        def loss(model: nn.Module = model) -> Tensor:
            x, label = draw(LEARNED_AT)
            return functional.cross_entropy(model(x), label)

        learn(model.parameters(), loss, settings.steps_of(PHRASE_STEPS), about=f"phrase, {name}")
        found = []
        for place in (LEARNED_AT, SOUGHT_AT):
            x, label = draw(place, 2000)
            with torch.no_grad():
                found.append((model(x).argmax(1) == label).float().mean().item())
        table.add(name, parameters_of(model) - VECTOR * words, *found)
    yield table


def exclusive_or(settings: Settings) -> Iterator[Shown]:
    """In space, and in time."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    wanted = torch.tensor([0, 1, 1, 0])
    space = Table("xor", "Exclusive or of two bits: best of ten seeds, right of four", {"network": "", "right": "d"})
    networks: dict[str, Callable[[], nn.Module]] = {
        "one layer": lambda: nn.Linear(2, 2),
        "mlp, four hidden units": lambda: nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)),
    }
    for name, make in networks.items():
        best = 0
        for seed in range(10):
            seed_all(seed)
            model = make()
            learn(
                model.parameters(), lambda model=model: functional.cross_entropy(model(x), wanted),
                settings.steps_of(400), about=name, rate=0.05,
            )  # fmt: skip
            best = max(best, int((model(x).argmax(1) == wanted).sum()))
        space.add(name, best)
    yield space

    seed_all(0)
    layer, head = Recurrent("elman", 1, 8), nn.Linear(8, 1)

    def bits(triples: int, batch: int) -> Tensor:
        pairs = torch.randint(0, 2, (triples, 2, batch))
        return torch.cat([pairs, (pairs[:, 0] ^ pairs[:, 1])[:, None]], 1).reshape(3 * triples, batch, 1).float()

    def errors(read: Tensor) -> Tensor:
        y, _ = layer(read[:-1])
        return functional.binary_cross_entropy_with_logits(head(y), read[1:], reduction="none")

    def loss() -> Tensor:
        return errors(bits(20, 32)).mean()

    learn([*layer.parameters(), *head.parameters()], loss, settings.steps_of(3000), about="Elman's", rate=0.01)
    with torch.no_grad():
        found = errors(bits(100, 100)).squeeze(-1).mean(1) / np.log(2)
    by_place = [found[place::3].mean().item() for place in range(3)]
    timed = Table(
        "temporal",
        "Exclusive or in time, an Elman network of 8 units: bits of surprise by the place in a triple",
        {"bit": "", "bits": ".3f"},
    )
    for name, value in zip(("the second", "the third, foreseen", "the first of the next"), by_place, strict=True):
        timed.add(name, value)
    yield timed

    def draw_errors(figure: Any) -> None:
        axes = figure.subplots()
        axes.bar(range(1, 13), found[11:23].numpy())
        axes.set(title="surprise at each of twelve bits in a row, in bits", xlabel="step", ylim=(0, None))

    yield Drawing(
        "temporal", "The surprise falls at every third bit, the only one that can be foreseen.", draw_errors, (736, 240)
    )
