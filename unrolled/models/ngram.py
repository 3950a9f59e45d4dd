"""Interpolated n-gram models, those that a neural one has to beat: Witten-Bell and Kneser-Ney."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Protocol


class WittenBell:
    """The next character from the last `order`, each order mixed with the next shorter one by how often it was new.

    Source   Witten & Bell 1991, method C; interpolation as in Chen & Goodman 1998
    """

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
        return mean_bits(self, text)


class KneserNey:
    """The next character from the last `order`; shorter contexts count in how many longer ones a character occurred.

    What was seen once, twice, or more often is discounted each by an amount of its own, found for each order.

    Source   Kneser & Ney 1995; modified and interpolated as in Chen & Goodman 1998
    """

    def __init__(self, text: str, order: int = 5):
        self.order = order
        symbols = len(set(text)) + 1
        padded = _START * order + text
        following: dict[str, Counter[str]] = defaultdict(Counter)
        for position in range(order, len(padded)):
            following[padded[position - order : position]][padded[position]] += 1
        tables = [following]
        for _ in range(order):
            shorter: dict[str, Counter[str]] = defaultdict(Counter)
            for context, counts in tables[0].items():
                for character in counts:
                    shorter[context[1:]][character] += 1
            tables.insert(0, shorter)
        self._lowest = 1 / symbols
        self._tables = [_discounted(table) for table in tables]

    def probability(self, context: str, character: str) -> float:
        """The probability of a character after a context; before its beginning stands that of a text."""
        context = (_START * self.order + context)[len(context) :] if self.order else ""
        probability = self._lowest
        for length, table in enumerate(self._tables):
            found = table.get(context[self.order - length :])
            if found is None:
                break
            shares, rest = found
            probability = shares.get(character, 0.0) + rest * probability
        return probability

    def bits(self, text: str) -> float:
        """Mean bits per character of a text read from its beginning."""
        return mean_bits(self, text)


# Stands before the first character of a text.
_START = "\N{START OF TEXT}"


def _discounted(table: dict[str, Counter[str]]) -> dict[str, tuple[dict[str, float], float]]:
    """For each context the share of each character after the discount, and what is left for shorter contexts."""
    kinds = Counter(count for counts in table.values() for count in counts.values())
    seen = [kinds[count] for count in (1, 2, 3, 4)]
    share = seen[0] / (seen[0] + 2 * seen[1]) if seen[0] else 0.0
    amounts = [0.0]
    for count in (1, 2, 3):
        after = seen[count] / seen[count - 1] if seen[count - 1] else 0.0
        amounts.append(min(max(count - (count + 1) * share * after, 0.0), count))
    found = {}
    for context, counts in table.items():
        total = sum(counts.values())
        taken = {character: amounts[min(count, 3)] for character, count in counts.items()}
        shares = {character: (count - taken[character]) / total for character, count in counts.items()}
        found[context] = shares, sum(taken.values()) / total
    return found


class _Model(Protocol):
    order: int

    def probability(self, context: str, character: str) -> float: ...


def mean_bits(model: _Model, text: str) -> float:
    """Mean bits per character that a model needs for a text read from its beginning."""
    total = 0.0
    for position, character in enumerate(text):
        total -= math.log2(model.probability(text[max(0, position - model.order) : position], character))
    return total / len(text)
