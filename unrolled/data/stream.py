"""A corpus as one long row of numbers, and windows over it for training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.cache import cache_folder
from unrolled.data.corpus import Corpus
from unrolled.data.numbering import Numbering
from unrolled.data.store import stored
from unrolled.data.vocabulary import Vocabulary

IGNORED = -100
# Characters above which the numbers are kept on the disk.
IN_MEMORY = 2**24


@dataclass(frozen=True)
class Stream:
    """Documents as numbers, one after the other, each after a separator.

    Shapes   numbers (time,), on the disk when there are many; starts (documents,), the positions at which the state
    begins anew, in their order
    Units    characters: of the text, whatever its symbols; unknown: symbols of the text that the vocabulary lacks
    """

    numbers: NDArray[Any]
    starts: NDArray[np.int64]
    characters: int
    unknown: int
    # Where the numbers lie on the disk, if they do.
    path: Path | None


class Window(NamedTuple):
    """Some steps of a stream that is read in rows side by side.

    Shapes   each (time, batch); targets are IGNORED where nothing follows; resets None if no state begins anew
    """

    inputs: Tensor
    targets: Tensor
    resets: Tensor | None


def stream(
    corpus: Corpus,
    vocabulary: Vocabulary,
    *,
    end_token: str,
    start: int = 0,
    stop: int | None = None,
    cache: Path | None = None,
) -> Stream:
    """The numbers of a corpus from the character `start` to the character `stop`.

    A separator stands before each document, the end if the vocabulary has one, else a line break; the state begins anew
    as it is read. With the end token "document" an end closes the last document too. With "line" ends stand for line
    breaks, each line has one, and that of a document's last line is the separator of the next document; words are then
    read without the white space around a line, and without empty lines.

    Raises   UsageError for an end token that there is not, or that the vocabulary has no number for; UnrolledError when
    a long stream cannot be kept in the folder `cache`
    """
    wanted = range(corpus.characters)[start:stop]
    numbering = Numbering(corpus, vocabulary, end_token, wanted)
    if len(wanted) > IN_MEMORY:
        kept = stored(numbering, cache or cache_folder() / "streams")
        return Stream(kept.numbers, kept.starts, len(wanted), kept.unknown, kept.path)
    numbers = np.concatenate([np.empty(0, vocabulary.dtype), *numbering])
    return Stream(numbers, np.array(numbering.starts, np.int64), len(wanted), numbering.unknown, None)


class SideBySide:
    """A stream cut into rows that are read side by side, and windows over them."""

    def __init__(self, stream: Stream, rows: int):
        self.rows = rows
        # Nothing follows the last number.
        self.steps = math.ceil(max(0, len(stream.numbers) - 1) / rows)
        self._stream = stream

    def window(self, first: int, length: int) -> Window:
        """The steps from `first` on, at most `length`; row r reads numbers[r·steps : (r+1)·steps]."""
        times = np.arange(first, min(first + length, self.steps))
        positions = times[:, None] + self.steps * np.arange(self.rows)
        numbers, starts = self._stream.numbers, self._stream.starts
        last = len(numbers) - 1
        inputs = numbers[np.minimum(positions, last)].astype(np.int64)
        targets = numbers[np.minimum(positions + 1, last)].astype(np.int64)
        targets[positions >= last] = IGNORED
        resets = np.searchsorted(starts, positions, "right") > np.searchsorted(starts, positions, "left")
        return Window(
            torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(resets) if resets.any() else None
        )

    def windows(self, length: int, first: int = 0) -> Iterator[Window]:
        """Successive windows of `length` steps, the last one shorter if need be."""
        for begin in range(first, self.steps, length):
            yield self.window(begin, length)
