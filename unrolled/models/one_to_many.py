"""One to many: a network that goes on from where it stands, one symbol after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.ir.program import Initial
from unrolled.language import Cell
from unrolled.layers import Recurrent, deep


class LanguageModel(nn.Module):
    """The distribution of the next symbol, given all symbols before.

    Symbols enter as one-hot vectors, which the cell's input map looks up; the last layer's output is mapped to one
    score a symbol.
    """

    def __init__(
        self,
        cell: str | Cell,
        symbols: int,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        backend: str = "",
    ):
        super().__init__()
        lowest: dict[str, Initial] = {"W": "normal"}

        def make(index: int, input_size: int) -> Recurrent:
            return Recurrent(cell, input_size, hidden_size, init=lowest if index == 0 else None, backend=backend)

        self.dropout = nn.Dropout(dropout)
        self.layers = deep(make, symbols, layers, self.dropout)
        self.head = nn.Linear(self.layers.output_size, symbols)
        self.symbols = symbols

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Scores of the next symbol at every step.

        Shapes   x (time, batch) numbers of symbols; returns (time, batch, vocabulary), state
        """
        y, state = self.layers(x, state)
        return self.head(self.dropout(y)), state

    @torch.no_grad()
    def generate(
        self, prompt: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Iterator[int]:
        """Sample symbols without end, each from the distribution after all before it; the first symbol, which stands
        for unknown ones, is never drawn.

        Shapes   prompt (time,), at least one symbol
        """
        training = self.training
        self.eval()
        try:
            scores, state = self(prompt[:, None])
            while True:
                # The largest becomes 0, so that no temperature, however low, makes an infinity of it.
                known = scores[-1, 0, 1:].double()
                weights = torch.softmax((known - known.max()) / temperature, -1)
                symbol = 1 + int(torch.multinomial(weights, 1, generator=generator))
                yield symbol
                scores, state = self(torch.tensor([[symbol]]), state)
        finally:
            self.train(training)
