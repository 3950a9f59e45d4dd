from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from unrolled.models.ngram import KneserNey, WittenBell


def direct(text: str, order: int, context: str, character: str) -> Fraction:
    """The definition, counted anew for each context: c(hw) + N(h) p(w | shorter h), over c(h) + N(h)."""
    lower = Fraction(1, len(set(text)) + 1)
    for length in range(min(order, len(context)) + 1):
        tail = context[len(context) - length :]
        after = [text[at + length] for at in range(len(text) - length) if text[at : at + length] == tail]
        if not after:
            return lower
        kinds = len(set(after))
        lower = (after.count(character) + kinds * lower) / (len(after) + kinds)
    return lower


def test_a_small_text_by_hand() -> None:
    model = WittenBell("aab", order=1)
    # Alone: a 2 and b 1 of 3, two kinds, mixed with 1/3 for each of a, b and the unknown.
    assert model.probability("", "a") == pytest.approx((2 + 2 / 3) / 5)
    assert model.probability("", "?") == pytest.approx((2 / 3) / 5)
    # After a: a once, b once.
    assert model.probability("a", "b") == pytest.approx((1 + 2 * (1 + 2 / 3) / 5) / 4)
    # b is the end: nothing follows it.
    assert model.probability("b", "a") == model.probability("", "a")


@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
def test_every_probability_is_that_of_the_definition(order: int) -> None:
    text = "abracadabra, a bar and a cab"
    model = WittenBell(text, order)
    for context in ("", "a", "ra", "abra", "cada", "a ca", "zebra", "bra, a b"):
        for character in sorted(set(text) | {"z"}):
            expected = direct(text, order, context, character)
            assert model.probability(context, character) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("context", ["", "a", "abra", "cadab", "zzzzz", "brazz"])
def test_probabilities_sum_to_one_over_the_vocabulary_and_the_unknown(context: str) -> None:
    text = "abracadabra, a bar and a cab"
    for model in (WittenBell(text), KneserNey(text), KneserNey(text, order=0)):
        total = math.fsum(model.probability(context, character) for character in [*set(text), "unknown"])
        assert total == pytest.approx(1)


def direct_kneser_ney(text: str, order: int, context: str, character: str) -> float:
    """The definition: counts of the longest contexts, below them in how many longer ones a character was seen."""
    padded = "^" * order + text
    longest = Counter(padded[at - order : at + 1] for at in range(order, len(padded)))
    counts = {order: longest}
    for length in range(order - 1, -1, -1):
        counts[length] = Counter(gram[1:] for gram in counts[length + 1])
    context = ("^" * order + context)[len(context) :] if order else ""
    probability = 1 / (len(set(text)) + 1)
    for length in range(order + 1):
        kinds = Counter(counts[length].values())
        share = kinds[1] / (kinds[1] + 2 * kinds[2]) if kinds[1] else 0.0
        amounts = [
            min(max(n - (n + 1) * share * (kinds[n + 1] / kinds[n] if kinds[n] else 0.0), 0.0), n) for n in (1, 2, 3)
        ]
        tail = context[order - length :]
        after = {gram[-1]: count for gram, count in counts[length].items() if gram[:-1] == tail}
        if not after:
            break
        total = sum(after.values())
        taken = {letter: amounts[min(count, 3) - 1] for letter, count in after.items()}
        own = (after.get(character, 0) - taken.get(character, 0.0)) / total
        probability = own + sum(taken.values()) / total * probability
    return probability


@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
def test_every_probability_of_kneser_ney_is_that_of_the_definition(order: int) -> None:
    text = "abracadabra, a bar and a cab; barbara"
    model = KneserNey(text, order)
    for context in ("", "a", "ra", "abra", "cada", "a ca", "zebra", "bra, a b"):
        for character in sorted(set(text) | {"z"}):
            expected = direct_kneser_ney(text, order, context, character)
            assert model.probability(context, character) == pytest.approx(expected, rel=1e-12)


def test_bits_are_the_mean_over_every_character() -> None:
    model = WittenBell("abracadabra", order=2)
    held_out = "cab?"
    each = [-math.log2(direct("abracadabra", 2, held_out[:at], held_out[at])) for at in range(len(held_out))]
    assert model.bits(held_out) == pytest.approx(sum(each) / len(each))


def test_more_context_tells_more_of_real_text(data: Path) -> None:
    text = next((data / "tinyshakespeare").glob("*.txt")).read_text(encoding="utf-8")
    known, held_out = text[:100_000], text[100_000:110_000]
    bits = [WittenBell(known, order).bits(held_out) for order in (0, 1, 3)]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] == pytest.approx(4.8, abs=0.2)
    assert KneserNey(known, 3).bits(held_out) < bits[2]
