"""Text as numbers: the characters of a vocabulary, and streams of them cut into windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from unrolled.errors import UsageError

UNKNOWN = "\ufffd"


class Vocabulary:
    """The symbols of a text in a fixed order; the first stands for whatever is not among the others."""

    def __init__(self, symbols: Iterable[str]):
        self.symbols = list(symbols)
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """The characters of a text, after the symbol for unknown ones."""
        return cls([UNKNOWN, *sorted(set(text) - {UNKNOWN})])

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> Tensor:
        """The numbers of a text's characters, (time,)."""
        return torch.tensor([self._numbers.get(character, 0) for character in text], dtype=torch.int64)

    def decode(self, numbers: Tensor) -> str:
        """The text of numbers."""
        return "".join(self.symbols[number] for number in numbers.tolist())


def read_text(path: Path) -> str:
    """A whole file as text.

    Raises   UsageError, in one line, when it cannot be read, is empty or is no UTF-8
    """
    try:
        # A byte order mark is no part of the text.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is no UTF-8 text: byte {error.object[error.start]:#x} at position {error.start}"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    if not text:
        raise UsageError(f"{path} is empty")
    return text


def columns(stream: Tensor, batch_size: int) -> Tensor:
    """A stream cut into `batch_size` pieces that are read side by side.

    Shapes   stream (time,); returns (time // batch_size, batch)
    """
    steps = len(stream) // batch_size
    return stream[: steps * batch_size].view(batch_size, steps).t()


def windows(side_by_side: Tensor, window: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Successive windows of at most `window` steps, with what follows each symbol.

    Shapes   side_by_side (time, batch); yields inputs and targets, each (window, batch)
    """
    for start in range(0, len(side_by_side) - 1, window):
        stop = min(start + window, len(side_by_side) - 1)
        yield side_by_side[start:stop], side_by_side[start + 1 : stop + 1]
