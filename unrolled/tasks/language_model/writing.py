"""A language model writes on from a prompt."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from unrolled.data.vocabulary import Vocabulary
from unrolled.errors import UsageError
from unrolled.models.one_to_many import LanguageModel
from unrolled.models.sampling import Sampler, check_whole
from unrolled.options import SEEDS


class Text:
    """A text that grows by symbols; what a later one could still change is held back."""

    def __init__(self, vocabulary: Vocabulary, beginning: str = ""):
        self._vocabulary = vocabulary
        self._pending = ""
        self.shown = ""
        self.ended = False
        self._extend("".join(vocabulary.unit.split(beginning)))

    def add(self, number: int) -> None:
        """Put a symbol at the end."""
        self.ended = number == self._vocabulary.end
        self._extend(self._vocabulary.raw(number))

    def _extend(self, symbols: str) -> None:
        unit = self._vocabulary.unit
        self._pending += symbols
        settled = unit.settled(self._pending)
        self.shown += unit.join(self._pending[:settled])
        self._pending = self._pending[settled:]

    def finish(self) -> None:
        """Show what is held back: nothing follows."""
        self.shown += self._vocabulary.unit.join(self._pending)
        self._pending = ""

    @property
    def broken(self) -> bool:
        """Whether it ends within a character."""
        return bool(self._pending) and self._vocabulary.unit.may_follow is not None

    def restrict(self, allowed: Tensor) -> Tensor:
        """Of the allowed symbols, those that can stand next.

        Shapes   allowed (vocabulary,), bool
        """
        unit, end = self._vocabulary.unit, self._vocabulary.end
        if unit.may_follow is None:
            return allowed
        following = unit.may_follow(self._pending)
        special = len(self._vocabulary) - len(self._vocabulary.symbols)
        fits = [False] * special + [symbol in following for symbol in self._vocabulary.symbols]
        if end is not None:
            fits[end] = not self._pending
        return allowed & torch.tensor(fits)


def write(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompt: str = "",
    *,
    rows: int = 1,
    length: int = 400,
    sampler: Sampler | None = None,
    seed: int = 0,
    allow_unknown: bool = False,
    lines: bool = False,
) -> Iterator[Sequence[Text]]:
    """Go on from a prompt in several texts side by side; the texts are given after each symbol and grow as they are.

    A text ends with the symbol for the end, if the vocabulary has one, or after `length` symbols.

    lines   the end stands for a line break, in the prompt too

    Raises   UsageError for a prompt with symbols that the vocabulary lacks unless `allow_unknown`, or a number that
             makes no sense
    """
    check_whole("length", length, {"from": 0})
    check_whole("samples", rows, {"above": 0})
    check_whole("seed", seed, SEEDS)
    sampler = sampler or Sampler()
    prompt = _normalised(vocabulary, prompt)
    numbers = read_prompt(vocabulary, prompt, allow_unknown, lines)
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.ones(len(vocabulary), dtype=torch.bool)
    if vocabulary.unknown is not None:
        allowed[vocabulary.unknown] = allow_unknown
    texts = [Text(vocabulary, prompt) for _ in range(rows)]

    def draw(scores: Tensor) -> Tensor:
        return sampler(scores, torch.stack([text.restrict(allowed) for text in texts]), generator)

    yield texts
    step = 0
    with closing(model.generate(numbers, draw, rows)) as drawn:
        while any(not text.ended and (step < length or text.broken) for text in texts):
            for text, number in zip(texts, next(drawn).tolist(), strict=True):
                if not text.ended and (step < length or text.broken):
                    text.add(number)
            step += 1
            yield texts
    for text in texts:
        text.finish()
    yield texts


def read_prompt(vocabulary: Vocabulary, prompt: str, allow_unknown: bool = False, lines: bool = False) -> Tensor:
    """The numbers of a text, after the one that a text begins with.

    lines    the end stands for a line break

    Shapes   returns (1 + time,)
    Raises   UsageError for symbols that the vocabulary lacks unless `allow_unknown`
    """
    text = _normalised(vocabulary, prompt)
    missing = [symbol for symbol in vocabulary.missing(text) if not (lines and symbol == "\n")]
    if missing and not allow_unknown:
        raise UsageError(
            f"the model was not trained on {' '.join(repr(symbol) for symbol in missing[:10])}; "
            f"with allow_unknown it reads that as its unknown symbol"
        )
    beginning = vocabulary.encode("\n") if vocabulary.end is None else [vocabulary.end]
    return torch.tensor([*beginning, *vocabulary.encode(text, vocabulary.end if lines else None)], dtype=torch.int64)


def _normalised(vocabulary: Vocabulary, prompt: str) -> str:
    """The prompt in Unicode form NFC; a space at its end would belong to the word that is still to come."""
    text = unicodedata.normalize("NFC", prompt)
    return text.rstrip(" ") if vocabulary.unit.name == "words" else text
