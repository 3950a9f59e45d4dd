"""One to many: a network that goes on from where it stands, one symbol after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.errors import UsageError
from unrolled.ir.program import Initial
from unrolled.language import Cell
from unrolled.layers import VariationalDropout, network


class LanguageModel(nn.Module):
    """The distribution of the next symbol, given all symbols before.

    Symbols enter as one-hot vectors, which the cell's input map looks up, or with an `embedding_size` as learned ones;
    the last layer's output is mapped to one score a symbol, by those same vectors if `tied`.

    structure   how the layers stand upon each other, see `network`
    options     those of `Recurrent`, for all layers; a `precision` is that of the layers' products alone, because torch
                would round the scores' sums too

    Raises   UsageError for `tied` without vectors of the output's size, or a precision that there is not
    Source   tied: Press & Wolf 2017; variational dropout: Gal & Ghahramani 2016
    """

    def __init__(
        self,
        cell: str | Cell,
        symbols: int,
        hidden_size: int,
        *,
        layers: int = 1,
        embedding_size: int = 0,
        tied: bool = False,
        dropout: float = 0.0,
        variational: bool = False,
        structure: str = "deep",
        **options: Any,
    ):
        super().__init__()
        # One-hot vectors are looked up: what the others' width draws would be far too small.
        lowest: dict[str, Initial] | None = None if embedding_size else {"W": "normal"}

        self.dropout = VariationalDropout(dropout) if variational else nn.Dropout(dropout)
        self.embedding = nn.Embedding(symbols, embedding_size) if embedding_size else None
        self.layers = network(
            cell,
            embedding_size or symbols,
            hidden_size,
            layers,
            structure=structure,
            dropout=self.dropout,
            lowest=lowest,
            **options,
        )
        size = self.layers.output_size
        if tied and embedding_size != size:
            raise UsageError(f"tied needs vectors of the output's size: embedding_size {size}, not {embedding_size}")
        if tied and self.embedding is not None:
            # As small as the scores' map is drawn: the same numbers serve as that.
            nn.init.uniform_(self.embedding.weight, -(size**-0.5), size**-0.5)
        self.head = None if tied else nn.Linear(size, symbols)
        self.bias = nn.Parameter(torch.zeros(symbols)) if tied else None
        self.symbols = symbols

    def forward(self, x: Tensor, state: Any = None, resets: Tensor | None = None) -> tuple[Tensor, Any]:
        """Scores of the next symbol at every step.

        Shapes   x (time, batch) numbers of symbols; resets (time, batch), true where the state begins anew;
                 returns (time, batch, vocabulary), state
        """
        y, state = self._run(x, state, resets)
        return self._scores(y), state

    @torch.no_grad()
    def next(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Scores of what follows the last step alone.

        Shapes   x (time, batch) numbers of symbols; returns (batch, vocabulary), state
        """
        y, state = self._run(x, state, None)
        return self._scores(y[-1]), state

    def _run(self, x: Tensor, state: Any, resets: Tensor | None) -> tuple[Tensor, Any]:
        vectors = x if self.embedding is None else self.dropout(self.embedding(x))
        y, state = self.layers(vectors, state, resets=resets)
        return self.dropout(y), state

    def _scores(self, y: Tensor) -> Tensor:
        if self.head is not None:
            return torch.as_tensor(self.head(y))
        assert self.embedding is not None
        return functional.linear(y, self.embedding.weight, self.bias)

    @torch.no_grad()
    def generate(self, prompt: Tensor, draw: Callable[[Tensor], Tensor], rows: int = 1) -> Generator[Tensor]:
        """Symbols without end, each drawn from the distribution after all before it, in several rows side by side.

        draw     the numbers, one a row, that are drawn from scores
        Shapes   prompt (time,), at least one symbol; draw (batch, vocabulary) to (batch,); yields (batch,)
        """
        training = self.training
        self.eval()
        try:
            scores, state = self.next(prompt[:, None].expand(-1, rows))
            while True:
                symbols = draw(scores)
                yield symbols
                scores, state = self.next(symbols[None], state)
        finally:
            self.train(training)
