"""The lecture notes' "i grew up in france … i speak fluent french": a country recalled across words of real text.

Each text is "i grew up in COUNTRY", a stretch of UD English EWT, and "i speak fluent", and the language is to be
named: 20 countries. Networks of 128 units are trained on stretches of the training text, drawn evenly on a logarithmic
scale from 5 words to a length that grows from 5 to 200 in the first half of the training, and measured at single
lengths on the test text. Chance is 5 %. Each network is trained with three learning rates; that which answers best on
stretches of 20 words of the training text is kept.

Then the influence of every word of one text on the answer: the norm of the gradient of the language's logarithmic
probability with respect to the word's vector, as a share of their sum.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shown.learning import learn, seed_all
from shown.showing import Drawing, Settings, Shown, Table
from unrolled.layers import Recurrent

SPOKEN = {
    "france": "french", "germany": "german", "italy": "italian", "spain": "spanish", "japan": "japanese",
    "korea": "korean", "china": "chinese", "russia": "russian", "poland": "polish", "greece": "greek",
    "turkey": "turkish", "sweden": "swedish", "norway": "norwegian", "denmark": "danish", "finland": "finnish",
    "portugal": "portuguese", "hungary": "hungarian", "vietnam": "vietnamese", "thailand": "thai",
    "iceland": "icelandic",
}  # fmt: skip
BEGIN, END = ["i", "grew", "up", "in"], ["i", "speak", "fluent"]
NETWORKS = {"tanh": "elman", "GRU": "gru", "LSTM": "lstm"}
UNITS, VECTOR, KNOWN = 128, 64, 2000
SHORTEST, LONGEST = 5, 200
LENGTHS = (5, 10, 20, 50, 100, 200)
STEPS, BATCH, TEST = 2000, 32, 400
RATES = (0.0003, 0.001, 0.003)
STRETCH = "but my family moved away when i was ten and i have lived in many places since then"


class Texts:
    """The words of a corpus as numbers, and texts made of stretches of them."""

    def __init__(self, folder: Path):
        training, test = (_words(folder / f"en_ewt-ud-{part}.conllu") for part in ("train", "test"))
        told = [*SPOKEN, *BEGIN, *END]
        common = [word for word, _ in Counter(training).most_common(KNOWN) if word not in told]
        self.words = ["?", *dict.fromkeys(told), *common]
        self.numbers = {word: number for number, word in enumerate(self.words)}
        countries = set(SPOKEN)
        self.training, self.test = (
            torch.tensor([self.numbers.get(word, 0) for word in text if word not in countries])
            for text in (training, test)
        )
        self.countries = torch.tensor([self.numbers[country] for country in SPOKEN])

    def draw(self, corpus: Tensor, length: int, batch: int) -> tuple[Tensor, Tensor]:
        """Texts (time, batch) with stretches of a length, and the numbers of their languages."""
        language = torch.randint(len(SPOKEN), (batch,))
        starts = torch.randint(len(corpus) - length, (batch,))
        stretch = corpus[starts + torch.arange(length)[:, None]]
        begin, end = (self._all(words, batch) for words in (BEGIN, END))
        return torch.cat([begin, self.countries[language][None], stretch, end]), language

    def encode(self, text: str) -> Tensor:
        """The numbers of a text's words."""
        return torch.tensor([self.numbers.get(word, 0) for word in text.split()])

    def _all(self, words: list[str], batch: int) -> Tensor:
        return torch.tensor([self.numbers[word] for word in words])[:, None].expand(-1, batch)


def _words(path: Path) -> list[str]:
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#")
    return [row[1].lower() for row in rows if row[0].isdigit()]


class Speaker(nn.Module):
    """A network that reads words and names a language at the end."""

    def __init__(self, cell: str, words: int):
        super().__init__()
        self.vectors = nn.Embedding(words, VECTOR)
        self.layer = Recurrent(cell, VECTOR, UNITS)
        self.head = nn.Linear(UNITS, len(SPOKEN))

    def forward(self, vectors: Tensor) -> Tensor:
        """Scores (batch, language) of the words' vectors (time, batch, vector)."""
        y, _ = self.layer(vectors)
        return self.head(y[-1])


def run(settings: Settings) -> Iterator[Shown]:
    """Accuracy against distance, and the influence of each word."""
    texts = Texts(settings.data / "ud_english_ewt")
    table = Table(
        "accuracy",
        f"The language named across n words of text: accuracy, mean of the seeds; {UNITS} units, {STEPS:,} steps of "
        f"{BATCH}",
        {"network": "", "parameters": ",d", **{f"n = {length}": ".1%" for length in LENGTHS}, "seconds": ".0f"},
    )
    curves, influences = {}, {}
    for name, cell in NETWORKS.items():
        start, found = time.perf_counter(), []
        for seed in settings.seeds_of(3):
            model = _best(cell, texts, seed, settings.steps_of(STEPS), name)
            found.append([_accuracy(model, texts, texts.test, length) for length in LENGTHS])
            influences.setdefault(name, _influence(model, texts))
        curves[name] = np.mean(found, 0)
        count = sum(p.numel() for p in model.layer.parameters())
        table.add(name, count, *map(float, curves[name]), time.perf_counter() - start)
    yield table

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, curve in curves.items():
            axes.semilogx(LENGTHS, curve, "o-", label=name)
        axes.axhline(1 / len(SPOKEN), color="grey", linestyle=":", label="chance")
        axes.set(xlabel="words between the country and the question", title="accuracy", ylim=(0, 1.03))
        axes.set_xticks(LENGTHS, map(str, LENGTHS))
        axes.legend()

    yield Drawing("accuracy", "Accuracy against the number of words between country and question.", draw)
    sentence = _sentence()

    def bars(figure: Any) -> None:
        panels = figure.subplots(len(influences), 1, sharex=True)
        for axes, (name, (shares, said)) in zip(np.atleast_1d(panels), influences.items(), strict=True):
            axes.bar(range(len(sentence)), shares)
            axes.set(title=f"{name}: “{said}”", ylim=(0, None))
        axes.set_xticks(range(len(sentence)), sentence, rotation=60, ha="right")

    yield Drawing(
        "influence", "The influence of each word of the lecture notes' sentence on the last.", bars, (736, 480)
    )
    words = Table(
        "influence",
        "The same in numbers: the five words of most influence, with their shares",
        {"network": "", "says": "", "words": ""},
    )
    for name, (shares, said) in influences.items():
        best = np.argsort(-shares)[:5]
        words.add(name, said, ", ".join(f"{sentence[place]} {shares[place]:.0%}" for place in best))
    yield words


def _sentence() -> list[str]:
    return [*BEGIN, "france", *STRETCH.split(), *END]


def _best(cell: str, texts: Texts, seed: int, steps: int, name: str) -> Speaker:
    """The network of the rate that is best on what it was trained on."""
    models = []
    for rate in RATES:
        seed_all(seed)
        models.append(Speaker(cell, len(texts.words)))
        _train(models[-1], texts, steps, rate, f"{name}, rate {rate}, seed {seed}")
    return max(models, key=lambda model: _accuracy(model, texts, texts.training, 20))


def _train(model: Speaker, texts: Texts, steps: int, rate: float, about: str) -> None:
    done = 0

    def loss() -> Tensor:
        nonlocal done
        done += 1
        grown = min(1.0, 2 * done / steps) * math.log(LONGEST / SHORTEST)
        length = round(SHORTEST * math.exp(np.random.uniform(0, grown)))
        read, language = texts.draw(texts.training, length, BATCH)
        return functional.cross_entropy(model(model.vectors(read)), language)

    learn(model.parameters(), loss, steps, about=about, rate=rate)


@torch.no_grad()
def _accuracy(model: Speaker, texts: Texts, corpus: Tensor, length: int) -> float:
    read, language = texts.draw(corpus, length, TEST)
    return (model(model.vectors(read)).argmax(1) == language).float().mean().item()


def _influence(model: Speaker, texts: Texts) -> tuple[np.ndarray, str]:
    """The share of each word, and the language that is said."""
    vectors = model.vectors(texts.encode(" ".join(_sentence()))[:, None]).detach().requires_grad_()
    scores = functional.log_softmax(model(vectors)[0], 0)
    (gradient,) = torch.autograd.grad(scores[list(SPOKEN).index("france")], vectors)
    lengths = gradient[:, 0].norm(dim=1).numpy()
    return lengths / lengths.sum(), list(SPOKEN.values())[int(scores.argmax())]
