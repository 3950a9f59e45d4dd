"""How well a model of the next symbol predicts a text."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.data.stream import IGNORED, SideBySide, Stream
from unrolled.layers.state import detached
from unrolled.models.one_to_many import LanguageModel

# A text is read in pieces side by side, as many as this length allows, each begun without what stands before it: a
# little dearer than one reading, never cheaper.
PIECE = 2048
ROWS = 16
STEPS = 256
# Scores that are held at once, at most.
SCORES = 2**24
RANKS = (1, 3, 5)
DYNAMIC_CLIP = 1.0


@dataclass(frozen=True)
class Score:
    """What was measured over `tokens`: nats in all, and how often the next one was among the k likeliest."""

    tokens: int
    nats: float
    among: Mapping[int, int]


class Tally:
    """Adds up a score, window by window."""

    def __init__(self) -> None:
        self.tokens, self.nats = 0, 0.0
        self._among = dict.fromkeys(RANKS, 0)

    def add(self, scores: Tensor, targets: Tensor) -> None:
        """Count a window.

        Shapes   scores (time, batch, vocabulary); targets (time, batch), IGNORED where nothing follows
        """
        asked = targets != IGNORED
        scores, targets = scores[asked], targets[asked]
        self.tokens += len(targets)
        self.nats += float(functional.cross_entropy(scores, targets, reduction="sum"))
        best = scores.topk(min(max(RANKS), scores.shape[-1])).indices == targets[:, None]
        for rank in RANKS:
            self._among[rank] += int(best[:, :rank].sum())

    def score(self) -> Score:
        """All that was counted."""
        return Score(self.tokens, self.nats, dict(self._among))


def score(model: LanguageModel, stream: Stream, at_most: int | None = None) -> Score:
    """Read a stream and measure how well its tokens are predicted.

    at_most   tokens to read, from the beginning
    """
    tokens = len(stream.numbers) - 1
    tokens = tokens if at_most is None else min(at_most, tokens)
    rows = max(1, min(ROWS, tokens // PIECE))
    length = max(1, min(STEPS, SCORES // (rows * model.symbols)))
    tally, state = Tally(), None
    with _set_to(model, training=False), torch.no_grad():
        for window in SideBySide(replace(stream, numbers=stream.numbers[: tokens + 1]), rows).windows(length):
            scores, state = model(window.inputs, state, window.resets)
            tally.add(scores, window.targets)
    return tally.score()


@torch.enable_grad()
def score_dynamically(model: LanguageModel, stream: Stream, learning_rate: float, window: int) -> Iterator[Score]:
    """Read a stream in one piece and go on learning from it: after each window, once it is scored, a step of plain
    gradient descent. Yields the score so far; the model itself stays as it is.

    window   steps between two cuts of the gradient
    Source   Mikolov, Karafiát, Burget, Černocký & Khudanpur 2010; Krause, Kahembwe, Murray & Renals 2018
    """
    learner = copy.deepcopy(model).eval()
    optimiser = torch.optim.SGD(learner.parameters(), learning_rate)
    tally, state = Tally(), None
    for read in SideBySide(stream, 1).windows(window):
        scores, state = learner(read.inputs, state, read.resets)
        tally.add(scores.detach(), read.targets)
        state = detached(state)
        optimiser.zero_grad()
        functional.cross_entropy(scores.flatten(0, 1), read.targets.flatten(), ignore_index=IGNORED).backward()
        norm = nn.utils.clip_grad_norm_(learner.parameters(), DYNAMIC_CLIP)
        if bool(norm.isfinite()):
            optimiser.step()
        yield tally.score()


def log_probabilities(model: LanguageModel, numbers: Tensor) -> Tensor:
    """The log-probability of each symbol but the first, given all before it.

    Shapes   numbers (time,); returns (time - 1,), nats
    """
    found, state = [], None
    with _set_to(model, training=False), torch.no_grad():
        for inputs, targets in zip(numbers[:-1].split(STEPS), numbers[1:].split(STEPS), strict=True):
            scores, state = model(inputs[:, None], state)
            found.append(torch.log_softmax(scores[:, 0].double(), -1).gather(-1, targets[:, None])[:, 0])
    return torch.cat(found)


@contextmanager
def _set_to(model: nn.Module, training: bool) -> Iterator[None]:
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)
