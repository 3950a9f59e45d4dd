from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from unrolled.errors import UsageError
from unrolled.models.sampling import Sampler

DRAWS = 40_000


def draw(sampler: Sampler, scores: Tensor, allowed: Tensor | None = None, seed: int = 0) -> Tensor:
    allowed = torch.ones_like(scores, dtype=torch.bool) if allowed is None else allowed
    return sampler(scores, allowed, torch.Generator().manual_seed(seed))


def drawn_from(sampler: Sampler, weights: list[float], seed: int = 0) -> set[int]:
    """All that is drawn from probabilities, in a few thousand draws."""
    scores = torch.tensor(weights, dtype=torch.float64).log().expand(4000, -1)
    return set(draw(sampler, scores, seed=seed).tolist())


def assert_frequent(found: Tensor, expected: Tensor) -> None:
    """That frequencies are those of the probabilities, within five standard deviations."""
    counts = torch.bincount(found, minlength=len(expected)).double()
    deviation = (expected * (1 - expected) * len(found)).sqrt()
    assert bool(((counts - expected * len(found)).abs() <= 5 * deviation + 1e-9).all())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_symbols_are_as_frequent_as_the_softmax_of_their_scores(temperature: float) -> None:
    scores = torch.tensor([1.0, -0.5, 0.0, 2.0, -3.0, 1.5])
    found = draw(Sampler(temperature), scores.expand(DRAWS, -1))
    assert_frequent(found, torch.softmax(scores.double() / temperature, -1))


def test_rows_are_drawn_independently_each_from_its_own_scores() -> None:
    first, second = torch.tensor([0.0, 1.0, -1.0]), torch.tensor([2.0, 0.0, 0.0])
    found = draw(Sampler(), torch.stack([first, second]).repeat(DRAWS, 1)).view(DRAWS, 2)
    one, other = torch.softmax(first.double(), -1), torch.softmax(second.double(), -1)
    assert_frequent(found[:, 0], one)
    assert_frequent(found[:, 1], other)
    assert_frequent(found[:, 0] * 3 + found[:, 1], torch.outer(one, other).flatten())


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    scores = torch.randn(50, 20, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = draw(Sampler(0.9, 10, 0.9), scores)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(found, draw(Sampler(0.9, 10, 0.9), scores))
    assert not torch.equal(found, draw(Sampler(0.9, 10, 0.9), scores, seed=1))


def test_temperature_0_takes_the_likeliest_that_is_allowed_and_needs_no_seed() -> None:
    scores = torch.tensor([[0.0, 3.0, 2.0, 3.0], [5.0, 1.0, 4.0, 0.0]])
    allowed = torch.tensor([[True, True, True, True], [False, True, True, True]])
    for seed in range(5):
        assert draw(Sampler(0), scores, allowed, seed).tolist() == [1, 2]
        assert draw(Sampler(0, top_k=1, top_p=0.1), scores, allowed, seed).tolist() == [1, 2]


@pytest.mark.parametrize("temperature", [1e-3, 1e-38, 1e-308, 5e-324])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_a_low_temperature_takes_the_likeliest(temperature: float, scale: float) -> None:
    scores = torch.randn(100, 9, generator=torch.Generator().manual_seed(0)) * scale
    found = draw(Sampler(temperature), scores * 10)
    assert torch.equal(found, scores.argmax(-1))


@pytest.mark.parametrize("temperature", [1e6, 1e38, 1.7e308])
def test_a_high_temperature_draws_all_alike(temperature: float) -> None:
    scores = torch.tensor([[-50.0, 0.0, 50.0, 1.0]])
    allowed = torch.tensor([True, True, True, False]).expand(DRAWS, -1)
    found = draw(Sampler(temperature), scores.expand(DRAWS, -1), allowed)
    assert_frequent(found, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    "sampler",
    [Sampler(), Sampler(0), Sampler(1e-300), Sampler(1e300), Sampler(top_k=1), Sampler(top_k=5), Sampler(top_p=1e-9)],
    ids=str,
)
def test_what_is_not_allowed_is_never_drawn(sampler: Sampler) -> None:
    scores = torch.tensor([100.0, 0.0, 99.0, -200.0, -300.0])
    for mask in itertools.product([False, True], repeat=5):
        if any(mask):
            found = draw(sampler, scores.expand(50, -1), torch.tensor(mask).expand(50, -1))
            assert all(mask[number] for number in found.tolist())


def test_what_is_allowed_is_drawn_as_often_as_if_nothing_else_were_there() -> None:
    scores = torch.tensor([9.0, 1.0, 0.0, 2.0])
    allowed = torch.tensor([False, True, True, True])
    found = draw(Sampler(), scores.expand(DRAWS, -1), allowed.expand(DRAWS, -1))
    assert_frequent(found, torch.softmax(scores.double().masked_fill(~allowed, -math.inf), -1))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 99])
def test_top_k_keeps_the_k_likeliest_in_their_proportions(k: int) -> None:
    scores = torch.tensor([0.0, 0.5, -0.5, 1.0, 0.2, -0.1])
    kept = scores.argsort(descending=True)[:k]
    weights = torch.zeros(6, dtype=torch.float64)
    weights[kept] = scores.double()[kept].exp()
    assert_frequent(draw(Sampler(top_k=k), scores.expand(DRAWS, -1)), weights / weights.sum())


def test_top_k_counts_only_what_is_allowed() -> None:
    scores = torch.tensor([9.0, 8.0, 1.0, 0.5, 0.0]).expand(500, -1)
    allowed = torch.tensor([False, False, True, True, True]).expand(500, -1)
    assert set(draw(Sampler(top_k=2), scores, allowed).tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (1.0, {0, 1, 2, 3}),
        (0.96, {0, 1, 2, 3}),
        (0.9, {1, 2, 3}),
        (0.75, {1, 3}),
        (0.49, {3}),
        (1e-300, {3}),
    ],
)
def test_top_p_keeps_the_fewest_that_hold_the_share(share: float, kept: set[int]) -> None:
    # In the order of their probability 3, 1, 2, 0, whose sums are .5, .8, .95 and 1.
    assert drawn_from(Sampler(top_p=share), [0.05, 0.3, 0.15, 0.5]) == kept


def test_of_what_is_equally_likely_top_p_keeps_no_more_than_it_needs_and_the_same_at_each_step() -> None:
    assert drawn_from(Sampler(top_p=0.5), [0.25] * 4) == {0, 1}
    assert drawn_from(Sampler(top_p=0.6), [0.25] * 4) == {0, 1, 2}
    assert drawn_from(Sampler(top_p=0.01), [0.25] * 4, seed=1) == {0}


def test_top_p_keeps_proportions_and_always_one_at_least_in_large_vocabularies() -> None:
    found = draw(Sampler(top_p=0.79), torch.tensor([0.5, 0.3, 0.2]).log().expand(DRAWS, -1))
    assert_frequent(found, torch.tensor([0.625, 0.375, 0.0], dtype=torch.float64))
    flat = draw(Sampler(top_p=1e-12), torch.zeros(3, 50_000))
    assert flat.tolist() == [0, 0, 0]


def test_top_p_takes_its_share_of_what_top_k_leaves() -> None:
    # Of the two likeliest, .5 and .3, the first alone holds more than .6.
    assert drawn_from(Sampler(top_k=2, top_p=0.6), [0.5, 0.3, 0.1, 0.1]) == {0}
    assert drawn_from(Sampler(top_p=0.6), [0.5, 0.3, 0.1, 0.1]) == {0, 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_scores_of_every_type_are_drawn_from(dtype: torch.dtype) -> None:
    scores = torch.tensor([[0.0, 60.0, -60.0]], dtype=dtype)
    assert draw(Sampler(), scores).tolist() == [1]
    assert torch.equal(scores, torch.tensor([[0.0, 60.0, -60.0]], dtype=dtype))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0, not -1.0"),
        ({"temperature": math.nan}, "temperature must be at least 0, not nan"),
        ({"temperature": math.inf}, "temperature must be at least 0, not inf"),
        ({"top_k": -1}, "top_k must be at least 0, not -1"),
        ({"top_k": 2.5}, "top_k must be a whole number, not 2.5"),
        ({"top_p": 0}, "top_p must be above 0, not 0"),
        ({"top_p": 1.5}, "top_p is a share of the probability, at most 1, not 1.5"),
        ({"top_p": math.nan}, "top_p must be above 0, not nan"),
    ],
    ids=str,
)
def test_a_number_that_makes_no_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Sampler(**options)
