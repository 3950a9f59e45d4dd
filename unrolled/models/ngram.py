"""Interpolated Witten-Bell: the n-gram model that a neural one has to beat.

Source   Witten & Bell 1991, method C; interpolation as in Chen & Goodman 1998
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict


class WittenBell:
    """The next character from the last `order`, each order mixed with the next shorter one by how often it was new."""

    def __init__(self, text: str, order: int = 5):
        self.order = order
        self._symbols = len(set(text)) + 1
        self._following: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order + 1)]
        for position, character in enumerate(text):
            for length in range(min(order, position) + 1):
                self._following[length][text[position - length : position]][character] += 1
        self._totals = [
            {context: (sum(counts.values()), len(counts)) for context, counts in table.items()}
            for table in self._following
        ]

    def probability(self, context: str, character: str) -> float:
        """The probability of a character after a context."""
        probability = 1 / self._symbols
        for length in range(min(self.order, len(context)) + 1):
            tail = context[len(context) - length :]
            if tail not in self._totals[length]:
                break
            total, kinds = self._totals[length][tail]
            probability = (self._following[length][tail][character] + kinds * probability) / (total + kinds)
        return probability

    def bits(self, text: str) -> float:
        """Mean bits per character of a text read from its beginning."""
        total = 0.0
        for position, character in enumerate(text):
            total -= math.log2(self.probability(text[max(0, position - self.order) : position], character))
        return total / len(text)
