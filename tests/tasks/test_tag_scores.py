"""Figures of labels: those of entities are what seqeval gives."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data.entities import SCHEMES, converted
from unrolled.tasks.tag.scores import Score, figures, mistaken, of_entities, of_labels

seqeval = pytest.importorskip("seqeval.metrics")


@st.composite
def pairs(draw: st.DrawFn, scheme: str) -> tuple[list[list[str]], list[list[str]]]:
    tags = ["O", *(f"{letter}-{kind}" for letter in SCHEMES[scheme] for kind in ("x", "long-y"))]
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    rows = [
        [draw(st.lists(st.sampled_from(tags), min_size=length, max_size=length)) for length in lengths]
        for _ in range(2)
    ]
    return rows[0], rows[1]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_entities_score_as_seqeval_scores_them(scheme: str, data: st.DataObject) -> None:
    wanted, found = data.draw(pairs(scheme))
    # What does not fit is mended on both sides, as it is in data and in predictions.
    wanted, found = ([converted(row, scheme, scheme) for row in rows] for rows in (wanted, found))
    whole, kinds = of_entities(wanted, found, scheme)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [getattr(seqeval, f"{name}_score")(wanted, found) for name in ("precision", "recall", "f1")]
        report = seqeval.classification_report(wanted, found, output_dict=True)
    assert whole[1:] == pytest.approx(expected)
    for kind, score in kinds.items():
        row = report[kind]
        assert score == pytest.approx((row["support"], row["precision"], row["recall"], row["f1-score"]))


def test_labels_are_scored_one_by_one_and_pairs_that_are_mistaken_counted() -> None:
    wanted, found = [["N", "V"], ["N"]], [["N", "N"], ["D"]]
    scores = of_labels(wanted, found)
    assert scores == {"D": Score(0, 0, 0, 0), "N": Score(2, 0.5, 0.5, 0.5), "V": Score(1, 0, 0, 0)}
    assert mistaken(wanted, found, 5) == [("N", "D", 1), ("V", "N", 1)]
    unknown = [np.array([False, True]), np.array([True])]
    measured = figures(wanted, found, "", unknown)
    assert measured == pytest.approx({"accuracy": 1 / 3, "macro_f1": 1 / 6, "unknown_accuracy": 0})


def test_where_there_are_entities_their_f1_comes_first() -> None:
    wanted, found = [["B-x", "I-x", "O"]], [["B-x", "O", "O"]]
    measured = figures(wanted, found, "BIO", [np.zeros(3, bool)])
    assert list(measured) == ["entity_f1", "entity_precision", "entity_recall", "accuracy", "macro_f1"]
    assert (measured["entity_f1"], measured["accuracy"]) == (0, pytest.approx(2 / 3))
