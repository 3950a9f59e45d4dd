"""Models whose next symbol is known beforehand, and small texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unrolled.data.corpus import corpus
from unrolled.data.stream import Stream, stream
from unrolled.data.units import UNITS
from unrolled.data.vocabulary import Vocabulary
from unrolled.models.one_to_many import LanguageModel

ENGLISH = "the cat sat on the mat, and the dog sat on the log.\n"
TEXTS = {
    "characters": ENGLISH,
    "bytes": "naïve café, 한글 🙂\n",
    "jamo": "한글은 닭이 아니다. 값과 의미, ok\n",
    "words": ENGLISH,
}


class Chain(LanguageModel):
    """Scores the next symbol by a row of a table, that of the present symbol."""

    def __init__(self, table: Tensor):
        super().__init__("elman", len(table), 1)
        self.register_buffer("table", table)

    def forward(self, x: Tensor, state: Any = None, resets: Tensor | None = None) -> tuple[Tensor, Any]:
        table = self.table
        assert isinstance(table, Tensor)
        return table[x], None

    def next(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self(x)[0][-1], None


def random_chain(vocabulary: Vocabulary, seed: int, scale: float = 1.0) -> Chain:
    size = len(vocabulary)
    return Chain(scale * torch.randn(size, size, generator=torch.Generator().manual_seed(seed)))


def chain(vocabulary: Vocabulary, following: Mapping[str, str]) -> Chain:
    """After each symbol the one that is given for it, almost surely; `""` is the end."""
    number = {vocabulary.raw(index): index for index in range(len(vocabulary))}
    table = torch.zeros(len(vocabulary), len(vocabulary))
    for before, after in following.items():
        table[number[before], number[after]] = 100.0
    return Chain(table)


def vocabulary_of(unit: str, end: bool = False, text: str | None = None) -> Vocabulary:
    return Vocabulary.of(UNITS[unit], [TEXTS[unit] if text is None else text], end)


def stream_of(texts: list[str], vocabulary: Vocabulary, end_token: str = "none") -> Stream:
    return stream(corpus({"text": texts}, column="text"), vocabulary, end_token=end_token)
