from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unrolled.models.bag import DECAY, Bag

GROUPS, TEXTS = 40, 300


def texts(seed: int = 0) -> tuple[Tensor, Tensor, list[list[int]]]:
    draw = np.random.default_rng(seed)
    rows = [sorted(draw.choice(GROUPS, draw.integers(1, 9), replace=False).tolist()) for _ in range(TEXTS)]
    counts = torch.tensor([len(row) for row in rows])
    return torch.tensor([group for row in rows for group in row]), counts.cumsum(0) - counts, rows


def test_it_finds_the_regression_that_scikit_learn_finds() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    pipeline = pytest.importorskip("sklearn.feature_extraction.text")
    groups, starts, rows = texts()
    wanted = torch.tensor([int(sum(row) % 3 == 0) for row in rows])
    bag = Bag(GROUPS, 1)
    bag.learn(groups, starts, lambda s: functional.binary_cross_entropy_with_logits(s[:, 0], wanted.float()))
    counts = np.zeros((TEXTS, GROUPS))
    for place, row in enumerate(rows):
        counts[place, row] = 1
    shares = pipeline.TfidfTransformer().fit_transform(counts)
    regression = linear_model.LogisticRegression(C=1 / (2 * DECAY), max_iter=1000, tol=1e-8).fit(shares, wanted)
    np.testing.assert_allclose(bag(groups, starts)[:, 0], regression.decision_function(shares), atol=2e-3)


def test_several_classes_are_learned_with_their_shares() -> None:
    groups, starts, _ = texts()
    wanted = torch.arange(TEXTS) % 10
    wanted[wanted > 2] = 0
    bag = Bag(GROUPS, 3)
    bag.learn(groups, starts, lambda scores: functional.cross_entropy(scores, wanted))
    # Where nothing is to be found, a regression comes to the share of each label.
    expected = torch.bincount(wanted) / TEXTS
    torch.testing.assert_close(bag(groups, starts).softmax(1).mean(0), expected, atol=1e-3, rtol=0)


def test_what_one_text_had_or_none_counts_nothing() -> None:
    groups, starts = torch.tensor([0, 1, 0, 2, 0]), torch.tensor([0, 2, 4])
    bag = Bag(4, 1)
    bag.learn(groups, starts, lambda scores: functional.binary_cross_entropy_with_logits(scores[:, 0], torch.ones(3)))
    alone, more = bag(torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 1]))
    assert alone == more
    # A text without any such group, and one that is empty: the share of the label alone.
    nothing = bag(torch.tensor([3, 1]), torch.tensor([0, 2]))
    assert torch.equal(nothing[:, 0], bag.offset.expand(2))


def test_it_is_no_concern_of_an_optimiser() -> None:
    bag = Bag(4, 2)
    assert not any(parameter.requires_grad for parameter in bag.parameters())
    groups, starts, _ = texts()
    bag = Bag(GROUPS, 1)
    bag.learn(groups, starts, lambda scores: scores.square().mean())
    assert all(parameter.grad is None for parameter in bag.parameters())
