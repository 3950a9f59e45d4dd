from __future__ import annotations

import math

import numpy as np
import pytest

from tests.report.pages import metrics
from unrolled.report.history import History, spread
from unrolled.report.text import clean, duration, losses, measured


def test_a_curve_has_at_most_400_points_and_keeps_the_mean() -> None:
    history = History.of(metrics(50_000, evaluations=0))
    curve = history.curve(history.learning_rate, 0, 1)
    assert len(curve.numbers) == 400
    assert np.mean(curve.middle) == pytest.approx(np.mean(history.learning_rate), rel=1e-6)
    assert (curve.low <= curve.middle).all()
    assert (curve.middle <= curve.high).all()


def test_a_short_training_is_drawn_step_by_step() -> None:
    history = History.of(metrics(100))
    curve = history.curve(history.loss, 0, 1)
    assert history.steps_a_point == 1
    assert np.array_equal(curve.middle, history.loss, equal_nan=True)


def test_values_that_are_not_finite_do_not_count_in_a_mean() -> None:
    rows = [{"event": "step", "number": n, "loss": None if n % 2 else 3.0} for n in range(4000)]
    history = History.of(rows)
    assert set(history.curve(history.loss, 0, 1).middle) == {3.0}


def test_of_two_rows_for_one_step_the_later_one_holds() -> None:
    rows = [
        {"event": "step", "number": n, "loss": loss} for n, loss in [(1, 5.0), (2, 4.0), (3, 9.0), (3, 3.0), (2, 2.0)]
    ]
    assert list(History.of(rows).loss) == [5.0, 2.0, 3.0]


def test_the_best_is_what_was_marked_last_else_the_lowest_finite_loss() -> None:
    rows = [{"event": "evaluation", "number": n, "loss": loss} for n, loss in [(1, 3.0), (2, 2.0), (3, None), (4, 2.5)]]
    lowest = History.of(rows).best
    assert lowest is not None
    assert lowest.number == 2
    marked = History.of([*rows, {"event": "evaluation", "number": 5, "loss": 2.7, "best": True}]).best
    assert marked is not None
    assert marked.number == 5


def test_skipped_steps_have_no_more_places_than_can_be_seen() -> None:
    rows = [{"event": "step", "number": n, "loss": None, "skipped": True} for n in range(50_000)]
    assert len(History.of(rows).skipped_places()) <= 401


def test_what_is_spread_keeps_the_first_and_the_last() -> None:
    assert spread(range(3), 6) == [0, 1, 2]
    chosen = spread(range(1000), 6)
    assert (len(chosen), chosen[0], chosen[-1]) == (6, 0, 999)


def test_text_is_cleaned_of_what_cannot_be_shown_and_of_nothing_else() -> None:
    assert clean("a\tb\r\nc\rd\x7f") == "a\tb\nc␍d␡"
    assert clean("가\u0301 😀 שלום") == "가\u0301 😀 שלום"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.94, "1.9 s"), (59.6, "1 min 0 s"), (155, "2 min 35 s"), (3725, "1 h 2 min"), (math.nan, "an unknown time")],
)
def test_a_time_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.2345, "1.234"), (0.01234, "0.0123"), (0, "0.000"), (12345.6, "12,346"), (math.inf, "not finite")],
)
def test_a_number_has_the_digits_that_say_something(value: float, words: str) -> None:
    assert measured(value) == words


def test_a_loss_is_told_in_nats_and_bits() -> None:
    assert losses(math.log(2)) == "0.693 nats (1.000 bits)"
