"""Batches of sequences of like lengths: little padding, and the same share of work in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UsageError

# Sequences that are drawn together and then sorted, in batches: more pad less and mix less.
POOL = 100


def buckets(lengths: NDArray[np.integer], tokens: int, seed: Sequence[int] | None = None) -> list[NDArray[np.int64]]:
    """The rows of each batch; every row is in one.

    A batch takes at most `tokens` steps, padding included, but always a row. With a seed the order is of chance, that
    of the batches and of what is in them, and the same whenever it is asked for; without one all are sorted.

    lengths   of all sequences, in steps
    seed      numbers, such as a seed and an epoch
    Raises   UsageError for fewer than one token
    """
    if tokens < 1:
        raise UsageError(f"a batch holds 1 token or more, not {tokens}")
    if seed is None:
        return _cut(np.argsort(lengths, kind="stable"), lengths, tokens)
    random = np.random.default_rng(list(seed))
    order = random.permutation(len(lengths))
    # As many rows as so many batches of the mean length have.
    pool = max(1, round(POOL * tokens / max(1.0, float(lengths.mean())))) if len(lengths) else 1
    found: list[NDArray[np.int64]] = []
    for first in range(0, len(order), pool):
        rows = order[first : first + pool]
        found += _cut(rows[np.argsort(lengths[rows], kind="stable")], lengths, tokens)
    return [found[place] for place in random.permutation(len(found))]


def in_number(batches: Sequence[NDArray[np.int64]], count: int) -> list[NDArray[np.int64]]:
    """The same rows in so many batches: the smallest are joined, the largest halved.

    Raises   UsageError for more batches than rows, or fewer than one
    """
    if not 1 <= count <= sum(map(len, batches)):
        raise UsageError(f"{sum(map(len, batches))} rows cannot be {count} batches")
    found = list(batches)
    while len(found) > count:
        small = sorted(range(len(found)), key=lambda place: len(found[place]))[:2]
        joined = np.concatenate([found[place] for place in small])
        found[min(small)] = joined
        del found[max(small)]
    while len(found) < count:
        place = max(range(len(found)), key=lambda place: len(found[place]))
        half = len(found[place]) // 2
        found[place : place + 1] = [found[place][:half], found[place][half:]]
    return found


def padding(batches: Sequence[NDArray[np.int64]], lengths: NDArray[np.integer]) -> float:
    """The share of the steps of all batches that is padding."""
    steps = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1 - sum(int(lengths[rows].sum()) for rows in batches) / steps if steps else 0.0


def _cut(rows: NDArray[np.int64], lengths: NDArray[np.integer], tokens: int) -> list[NDArray[np.int64]]:
    """Rows in the order of their lengths, cut into batches."""
    found, first = [], 0
    for place, row in enumerate(rows):
        # What comes is the longest so far.
        if place > first and (place + 1 - first) * max(1, int(lengths[row])) > tokens:
            found.append(rows[first:place])
            first = place
    return [*found, rows[first:]] if len(rows) else found
