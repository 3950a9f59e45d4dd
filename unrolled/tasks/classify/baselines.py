"""What a model has to beat: bags of words and of characters, weighed and put through a logistic regression."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.tasks.classify.figures import Probabilities

# Name -> how scikit-learn takes texts apart, and what counts once a text rather than as often as it stands there.
BAGS: dict[str, dict[str, Any]] = {
    "TF-IDF of words": {"analyzer": "word", "token_pattern": r"(?u)\b\w+\b|[^\w\s]"},
    "TF-IDF of characters, 1 to 4": {"analyzer": "char", "ngram_range": (1, 4), "min_df": 2},
}
# Of a regression, at most: of many labels the most frequent features alone.
WEIGHTS = 2**24
REGULARISATION = {"TF-IDF of words": 4.0, "TF-IDF of characters, 1 to 4": 4.0}


class Baseline(NamedTuple):
    """A simple method and what it gives of the texts that are evaluated; `seconds` to learn and to read them."""

    name: str
    probabilities: Probabilities
    seconds: float


def baselines(
    texts: Sequence[str], wanted: NDArray[Any], labels: int, others: Sequence[str], *, several: bool, seed: int
) -> list[Baseline]:
    """Fit the baselines on texts and let them read others; the first needs no library, the rest scikit-learn.

    wanted   (texts,) numbers of labels, or (texts, label), 1 for those that a text has

    Returns nothing but the share of each label where scikit-learn is not installed.
    """
    found = [_shares(wanted, labels, len(others))]
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return found
    return [*found, *(_bag(name, texts, wanted, labels, others, several, seed) for name in BAGS)]


def _shares(wanted: NDArray[Any], labels: int, count: int) -> Baseline:
    """The share of each label, whatever the text: the most frequent one is always given."""
    start = time.perf_counter()
    share = wanted.mean(0) if wanted.ndim == 2 else np.bincount(wanted, minlength=labels) / max(1, len(wanted))
    return Baseline("always the most frequent", np.tile(share, (count, 1)), time.perf_counter() - start)


def _bag(
    name: str, texts: Sequence[str], wanted: NDArray[Any], labels: int, others: Sequence[str], several: bool, seed: int
) -> Baseline:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    start = time.perf_counter()
    most = WEIGHTS // (labels if labels > 2 else 1)
    bag = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, lowercase=True, max_features=most, **BAGS[name])
    # Texts of which nothing is rare or frequent enough to count.
    try:
        seen = bag.fit_transform(texts)
    except ValueError:
        return Baseline(name, _shares(wanted, labels, len(others)).probabilities, time.perf_counter() - start)
    read = bag.transform(others)
    # One regression where a text has one label; else one a label, which may stand in all texts or in none.
    columns = [wanted] if not several else list(wanted.T.astype(int))
    given = np.zeros((len(others), labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for place, column in enumerate(columns):
            if several and len(np.unique(column)) == 1:
                given[:, place] = column[0]
                continue
            regression = LogisticRegression(C=REGULARISATION[name], max_iter=200, random_state=seed)
            found = regression.fit(seen, column).predict_proba(read)
            if several:
                given[:, place] = found[:, 1]
            else:
                given[:, regression.classes_] = found
    return Baseline(name, given, time.perf_counter() - start)
