"""Every sequence is in one batch, and batches hold little padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data.buckets import buckets, padding
from unrolled.data.rows import Row, rows_of
from unrolled.errors import UsageError


@given(st.lists(st.integers(0, 30), max_size=50), st.integers(1, 100), st.none() | st.integers(0, 3))
@settings(deadline=None)
def test_every_row_is_in_one_batch_and_no_batch_is_over_its_budget(
    lengths: list[int], tokens: int, seed: int | None
) -> None:
    measured = np.array(lengths, np.int64)
    found = buckets(measured, tokens, None if seed is None else (seed, 0))
    assert sorted(row for rows in found for row in rows.tolist()) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * max(1, measured[rows].max()) <= tokens for rows in found)
    assert 0 <= padding(found, measured) < 1


def test_a_seed_and_an_epoch_give_the_same_batches_whenever_they_are_asked_for() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 500)
    first, again, other = (buckets(lengths, 200, (7, epoch)) for epoch in (0, 0, 1))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))
    longest = [int(lengths[rows].max()) for rows in first]
    assert longest != sorted(longest)
    assert padding(buckets(lengths, 200), lengths) <= padding(first, lengths)


def test_a_batch_without_room_is_said() -> None:
    with pytest.raises(UsageError, match="a batch holds 1 token or more, not 0"):
        buckets(np.array([1, 2]), 0)


def test_real_texts_pad_less_than_a_tenth(data: object) -> None:
    rows = rows_of(f"{data}/nsmc/ratings_test.txt", "utf-8").rows()
    lengths = np.array([len(row.values["document"]) for row in rows if isinstance(row, Row)])
    assert padding(buckets(lengths, 4096, (0, 0)), lengths) < 0.1
    together = list(np.array_split(np.random.default_rng(0).permutation(len(lengths)), len(lengths) // 116))
    assert padding(together, lengths) > 0.5
