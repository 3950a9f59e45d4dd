"""What a tagger has to beat: the most frequent label of each word, whatever stands beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


class MostFrequent:
    """The label that a word has most often; of a word that is unknown, the label that is the most frequent of all.

    The same of sentences as wholes, whose words are not looked at.
    """

    name = "most frequent label of each word"

    def __init__(self, sentences: Iterable[tuple[Sequence[str], Sequence[str], str]]):
        words: dict[str, Counter[str]] = {}
        labels: Counter[str] = Counter()
        intents: Counter[str] = Counter()
        for tokens, given, intent in sentences:
            for token, label in zip(tokens, given, strict=True):
                words.setdefault(token, Counter())[label] += 1
            labels.update(given)
            intents[intent] += 1
        self._labels = {word: _first(counts) for word, counts in words.items()}
        self._usual, self.intent = _first(labels), _first(intents)

    def labels(self, tokens: Sequence[str]) -> list[str]:
        """The labels of a sentence."""
        return [self._labels.get(token, self._usual) for token in tokens]


def _first(counts: Counter[str]) -> str:
    """The most frequent; of several the first as texts are sorted."""
    return min(counts, key=lambda label: (-counts[label], label), default="")
