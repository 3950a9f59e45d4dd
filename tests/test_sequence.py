from __future__ import annotations

import pytest
import torch
from torch.func import vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from unrolled import sequence
from unrolled.errors import ShapeError


def test_the_mask_is_true_at_the_valid_steps() -> None:
    found = sequence.mask(torch.tensor([2, 0, 3]), 3)
    assert found.int().T.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]


def test_reversal_is_within_each_row_and_leaves_the_padding() -> None:
    x = torch.tensor([[1, 2, 3, 0, 9], [4, 0, 9, 9, 9], [9, 9, 9, 9, 9], [1, 2, 3, 4, 5]]).T
    lengths = torch.tensor([3, 1, 0, 5])
    turned = sequence.reverse(x, lengths)
    assert turned.T.tolist() == [[3, 2, 1, 0, 9], [4, 0, 9, 9, 9], [9, 9, 9, 9, 9], [5, 4, 3, 2, 1]]
    assert torch.equal(sequence.reverse(turned, lengths), x)
    wide = torch.randn(5, 4, 3)
    assert torch.equal(sequence.reverse(wide, lengths)[..., 1], sequence.reverse(wide[..., 1], lengths))
    assert torch.equal(sequence.reverse(wide, None), wide.flip(0))


@pytest.mark.parametrize("time", [0, 4])
@pytest.mark.parametrize("batch", [0, 3])
def test_reversal_of_nothing_is_nothing(time: int, batch: int) -> None:
    x = torch.randn(time, batch, 2)
    assert sequence.reverse(x, torch.zeros(batch, dtype=torch.int64)).equal(x)


def test_a_reversed_segment_restarts_after_its_first_step_was_read() -> None:
    resets = torch.tensor([[1, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0]], dtype=torch.bool).T
    assert sequence.reverse_resets(resets, None).int().T.tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 1, 1, 0]]
    within = sequence.reverse_resets(resets, torch.tensor([3, 2, 5])).int().T.tolist()
    assert [row[:n] for row, n in zip(within, (3, 2, 5), strict=True)] == [[0, 1, 0], [0, 1], [0, 0, 1, 1, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64], ids=str)
def test_lengths_of_any_whole_type_are_taken(dtype: torch.dtype) -> None:
    found = sequence.check_lengths(torch.tensor([0, 4, 2], dtype=dtype), 4, 3)
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 4, 2]


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        (torch.tensor([1, 2]), r"lengths is \(2,\); expected \(batch,\), here \(3,\)"),
        (torch.tensor([[1, 2, 3]]), r"lengths is \(1, 3\)"),
        (torch.tensor([1.0, 2.0, 3.0]), "lengths counts steps and is of whole numbers, not torch.float32"),
        (torch.tensor([True, False, True]), "whole numbers, not torch.bool"),
        (torch.tensor([1, 2, 5]), "lengths run from 1 to 5; the sequences have 4 steps"),
        (torch.tensor([-1, 2, 4]), "lengths run from -1 to 4; the sequences have 4 steps"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_in_words(lengths: torch.Tensor, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        sequence.check_lengths(lengths, 4, 3)


def test_no_rows_have_no_lengths_to_check() -> None:
    assert sequence.check_lengths(torch.zeros(0, dtype=torch.int64), 4, 0).shape == (0,)


def test_values_can_be_looked_at_but_not_under_vmap() -> None:
    plain = torch.tensor([1, 2])
    assert sequence.readable(plain)
    seen = []
    vmap(lambda value: (seen.append(sequence.readable(value)), value)[1])(plain)
    torch.func.grad(lambda value: (seen.append(sequence.readable(value)), value)[1])(torch.tensor(1.0))
    assert seen == [False, True]


@pytest.mark.parametrize(
    ("lengths", "enforce_sorted"), [([4, 3, 1], True), ([4, 3, 1], False), ([1, 4, 3], False), ([2, 2, 2], True)]
)
def test_packing_and_unpacking_keep_the_order(lengths: list[int], enforce_sorted: bool) -> None:
    x = torch.randn(4, 3, 2)
    like = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=enforce_sorted)
    padded, found = sequence.unpack(like)
    assert found.tolist() == lengths
    again = sequence.pack_like(2 * padded, found, like)
    assert torch.equal(again.data, 2 * like.data)
    assert torch.equal(again.batch_sizes, like.batch_sizes)
    for one, other in ((again.sorted_indices, like.sorted_indices), (again.unsorted_indices, like.unsorted_indices)):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    assert torch.equal(pad_packed_sequence(again)[0], 2 * pad_packed_sequence(like)[0])
