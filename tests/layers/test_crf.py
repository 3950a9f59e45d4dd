"""A chain of labels gives what counting through all of them gives."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from unrolled.errors import ShapeError, UsageError
from unrolled.layers import CRF

LABELS, TIME = 3, 4
LENGTHS = torch.tensor([4, 1, 0, 3])


def crf(**options: Tensor) -> CRF:
    torch.manual_seed(0)
    made = CRF(LABELS, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def scores() -> Tensor:
    return torch.randn(TIME, len(LENGTHS), LABELS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def counted(made: CRF, own: Tensor) -> dict[tuple[int, ...], float]:
    """The score of every sequence of labels of one row, own scores (time, label)."""
    found = {}
    for labels in product(range(made.labels), repeat=len(own)):
        total = sum(float(own[step, label]) for step, label in enumerate(labels))
        total += sum(float(made.pairs[pair]) for pair in pairwise(labels))
        if labels:
            total += float(made.begin[labels[0]] + made.end[labels[-1]])
        found[labels] = total
    return found


def normal(found: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    """Their log-probabilities."""
    whole = float(torch.logsumexp(torch.tensor(list(found.values()), dtype=torch.float64), 0))
    return {labels: total - whole for labels, total in found.items()}


def test_probabilities_are_those_of_all_sequences_counted() -> None:
    made, given = crf(), scores()
    for row, length in enumerate(LENGTHS.tolist()):
        known = normal(counted(made, given[:length, row]))
        for labels, expected in known.items():
            wanted = torch.zeros(TIME, len(LENGTHS), dtype=torch.int64)
            wanted[:length, row] = torch.tensor(labels)
            assert made(given, wanted, LENGTHS)[row].item() == pytest.approx(expected, abs=1e-12)


def test_marginals_are_sums_over_all_sequences_and_are_none_in_the_padding() -> None:
    made, given = crf(), scores()
    found = made.marginals(given, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        expected = torch.zeros(TIME, LABELS, dtype=torch.float64)
        for labels, probability in normal(counted(made, given[:length, row])).items():
            for step, label in enumerate(labels):
                expected[step, label] += torch.tensor(probability, dtype=torch.float64).exp()
        torch.testing.assert_close(found[:, row], expected)
    with torch.inference_mode():
        assert torch.equal(made.marginals(given.clone(), LENGTHS.clone()), found)


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_the_best_sequences_are_the_best_of_all_in_their_order(count: int) -> None:
    made, given = crf(), scores()
    labels, probabilities = made.best(given, LENGTHS, count)
    assert labels.shape == (count, TIME, len(LENGTHS))
    for row, length in enumerate(LENGTHS.tolist()):
        known = sorted(normal(counted(made, given[:length, row])).items(), key=lambda pair: -pair[1])[:count]
        assert [tuple(each[:length, row].tolist()) for each in labels[: len(known)]] == [pair[0] for pair in known]
        assert probabilities[: len(known), row].tolist() == pytest.approx([pair[1] for pair in known], abs=1e-12)
        assert probabilities[len(known) :, row].isinf().all()
        assert (labels[:, length:, row] == -1).all()
    assert torch.equal(made.decode(given, LENGTHS), labels[0])


def test_what_is_not_allowed_is_never_decoded_and_is_as_good_as_impossible() -> None:
    allowed = torch.ones(LABELS, LABELS)
    allowed[0, 1] = 0
    first, last = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    made, given = crf(allowed=allowed, may_begin=first, may_end=last), scores()
    free = crf()
    for row, length in enumerate(LENGTHS.tolist()):
        known = {
            labels: score
            for labels, score in counted(free, given[:length, row]).items()
            if not labels or (first[labels[0]] and last[labels[-1]] and (0, 1) not in pairwise(labels))
        }
        best = max(normal(known).items(), key=lambda pair: pair[1])
        labels, probability = made.best(given, LENGTHS)
        assert tuple(labels[0, :length, row].tolist()) == best[0]
        assert probability[0, row].item() == pytest.approx(best[1], abs=1e-9)
        for labels in counted(free, given[:length, row]):
            wanted = torch.zeros(TIME, len(LENGTHS), dtype=torch.int64)
            wanted[:length, row] = torch.tensor(labels)
            alone = made, given[:, [row]], wanted[:, [row]], LENGTHS[[row]]
            if labels in known:
                alone[0](*alone[1:])
            else:
                with pytest.raises(ShapeError, match=r"labels in row 0 that may not (follow one another|begin|end)"):
                    alone[0](*alone[1:])
        labels, probability = made.best(given, LENGTHS, 100)
        assert probability[:, row].isfinite().sum() == len(known)
        assert (labels[len(known) :, :, row] == -1).all()


def test_a_row_that_nothing_is_allowed_for_has_no_labels() -> None:
    made = CRF(2, may_begin=torch.tensor([True, False]), may_end=torch.tensor([False, True]))
    labels, probability = made.best(torch.zeros(2, 2, 2), [1, 2])
    assert labels[0].tolist() == [[-1, 0], [-1, 1]]
    assert probability[0].tolist() == [-float("inf"), 0]


def test_gradients_are_finite_differences_and_padding_means_nothing() -> None:
    made, given = crf(), scores()
    wanted = torch.randint(LABELS, (TIME, len(LENGTHS)), generator=torch.Generator().manual_seed(2))
    parameters = tuple(made.parameters())
    assert torch.autograd.gradcheck(
        lambda given, *_: made(given, wanted, LENGTHS), (given.requires_grad_(), *parameters)
    )  # fmt: skip
    poisoned, other = given.detach().clone(), wanted.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        poisoned[length:, row], other[length:, row] = float("nan"), -100
    poisoned.requires_grad_()
    torch.testing.assert_close(made(poisoned, other, LENGTHS), made(given, wanted, LENGTHS))
    made(poisoned, other, LENGTHS).sum().backward()
    assert poisoned.grad is not None
    assert poisoned.grad.isfinite().all()


def test_a_chain_learns_that_a_label_never_follows_another() -> None:
    torch.manual_seed(0)
    made = CRF(2)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.1)
    wanted = (torch.arange(6)[:, None] + torch.arange(8)) % 2
    for _ in range(100):
        loss = -made(torch.zeros(6, 8, 2), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    unsure = torch.zeros(6, 1, 2)
    unsure[2, 0, 1] = 1
    assert made.decode(unsure)[:, 0].tolist() == [1, 0, 1, 0, 1, 0]


def test_no_steps_are_one_sequence_of_no_labels() -> None:
    made = CRF(3)
    nothing = torch.zeros(0, 2, 3)
    assert made(nothing, torch.zeros(0, 2, dtype=torch.int64)).tolist() == [0, 0]
    assert made.marginals(nothing).shape == (0, 2, 3)
    labels, probabilities = made.best(nothing, count=2)
    assert labels.shape == (2, 0, 2)
    assert probabilities.tolist() == [[0, 0], [-float("inf")] * 2]


def test_what_does_not_fit_is_said() -> None:
    made = CRF(3)
    with pytest.raises(UsageError, match="labels is a whole number above 0, not 0"):
        CRF(0)
    with pytest.raises(ShapeError, match=r"what is allowed of pairs is \(2, 2\); expected \(3, 3\)"):
        CRF(3, torch.ones(2, 2))
    with pytest.raises(ShapeError, match=r"scores is \(4, 2, 2\); expected \(time, batch, 3\)"):
        made.decode(torch.zeros(4, 2, 2))
    with pytest.raises(ShapeError, match="wanted holds 0 to 3; there are 3 labels"):
        made(torch.zeros(4, 1, 3), torch.tensor([[0], [1], [3], [0]]))
    with pytest.raises(ShapeError, match=r"wanted is torch\.float32 \(4, 1\); expected whole numbers"):
        made(torch.zeros(4, 1, 3), torch.zeros(4, 1))
    with pytest.raises(ShapeError, match="lengths run from 5 to 5; the sequences have 4 steps"):
        made.decode(torch.zeros(4, 1, 3), [5])
