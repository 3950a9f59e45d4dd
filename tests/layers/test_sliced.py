"""Sliced networks: slices of each row's own length, read side by side, level by level."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from tests.conformance.networks import assert_close, layer_of
from unrolled.errors import ShapeError, UsageError
from unrolled.language import parse
from unrolled.layers import Bidirectional, Recurrent, Residual, SequenceLayer, Sliced, Stacked, sliced

LENGTHS = torch.tensor([13, 0, 5, 9, 1, 17])


def recurrent(cell: str, input_size: int, hidden_size: int, **options: Any) -> Recurrent:
    """A layer on the reference: slices know nothing of kernels."""
    return Recurrent(cell, input_size, hidden_size, backend="reference", **options)


LEVELS: dict[str, Any] = {
    "gru": lambda level, size: recurrent("gru", size, 5),
    "bidirectional": lambda level, size: Bidirectional(
        recurrent("lstm", size, 4), recurrent("gru", size, 3, reverse=True)
    ),
    "backward": lambda level, size: recurrent("mgu", size, 5, reverse=True),
    "residual-stack": lambda level, size: Residual(Stacked(recurrent("gru", size, 4), recurrent("elman", 4, 5))),
}


def network(name: str, parts: int, times: int) -> Sliced:
    made = sliced(LEVELS[name], 3, parts=parts, times=times).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return made


def end_of(layer: SequenceLayer, steps: list[Tensor]) -> Tensor:
    """What a layer gives at the end of one row, as `steps` of it."""
    y = layer(torch.stack(steps)[:, None])[0][:, 0]
    ahead = layer.output_size - layer.backward_size
    return torch.cat([y[-1, :ahead], y[0, ahead:]])


def by_hand(made: Sliced, row: Tensor) -> Tensor:
    """The vector of one row, by loops over its slices."""
    count = made.parts ** (len(made.levels) - 1)
    slices = min(count, len(row))
    cuts = [number * len(row) // max(slices, 1) for number in range(slices + 1)]
    steps = [list(row[a:b]) for a, b in pairwise(cuts)]
    for index, level in enumerate(made.levels):
        ends = [end_of(level, each) for each in steps]
        if index == len(made.levels) - 1:
            return ends[0] if ends else row.new_zeros(made.output_size)
        steps = [ends[at : at + made.parts] for at in range(0, len(ends), made.parts)]
    raise AssertionError


@pytest.mark.parametrize(("parts", "times"), [(2, 1), (3, 2), (2, 3), (1, 2)], ids=lambda number: str(number))
@pytest.mark.parametrize("name", LEVELS)
def test_each_row_is_cut_by_its_own_length(name: str, parts: int, times: int) -> None:
    made = network(name, parts, times)
    x = torch.randn(17, len(LENGTHS), 3, dtype=torch.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        x[length:, row] = torch.nan
    expected = [by_hand(made, x[:length, row]) for row, length in enumerate(LENGTHS.tolist())]
    assert_close([made(x, LENGTHS)], [torch.stack(expected)], 1e-12)


@pytest.mark.parametrize("time", [18, 20, 4, 1])
def test_rows_of_full_length_need_no_lengths(time: int) -> None:
    made, x = network("gru", 3, 2), torch.randn(time, 2, 3, dtype=torch.float64)
    expected = torch.stack([by_hand(made, row) for row in x.unbind(1)])
    assert_close([made(x)], [expected], 1e-12)
    assert_close([made(x, [time, time])], [expected], 1e-12)


def test_a_row_is_the_same_alone_and_in_any_padded_batch() -> None:
    made, x = network("bidirectional", 2, 2), torch.randn(17, len(LENGTHS), 3, dtype=torch.float64)
    whole = made(x, LENGTHS)
    longer = made(torch.cat([x, torch.randn(9, *x.shape[1:], dtype=torch.float64)]), LENGTHS)
    assert torch.equal(longer, whole)
    for row, length in enumerate(LENGTHS.tolist()):
        assert_close([made(x[:length, row : row + 1])], [whole[row : row + 1]], 1e-12)


@pytest.mark.parametrize(("parts", "times"), [(4, 0), (1, 1)])
def test_one_slice_is_the_plain_layer(parts: int, times: int) -> None:
    made, x = network("gru", parts, times), torch.randn(17, len(LENGTHS), 3, dtype=torch.float64)
    lowest = made.levels[0]
    _, state = lowest(x, lengths=LENGTHS)
    expected = state.h
    if times:
        expected, _ = made.levels[1](expected[None], lengths=LENGTHS.clamp(max=1))
        expected = expected[0]
    assert_close([made(x, LENGTHS)], [expected], 1e-12)


def test_levels_may_share_their_weights() -> None:
    level, x = recurrent("gru", 3, 3).double(), torch.randn(17, len(LENGTHS), 3, dtype=torch.float64)
    copies = [copy.deepcopy(level) for _ in range(3)]
    assert_close([Sliced(level, level, level, parts=2)(x, LENGTHS)], [Sliced(*copies, parts=2)(x, LENGTHS)], 0.0)


def test_a_linear_network_in_slices_is_the_network_over_all_steps() -> None:
    """The paper's theorem: maps of states that go on as far as the slices reach, and inputs as they are."""
    cell = parse("@cell\ndef linear(x, h):\n    h = W.h @ x + U.h @ h\n    return h\n")
    plain = Recurrent(cell, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        plain.U.h.mul_(0.8)
    made = sliced(lambda level, size: Recurrent(cell, size, 4), 3, parts=3, times=2).double()
    time = 36
    with torch.no_grad():
        for level, reach in zip(made.levels, (1, time // 9, time // 3), strict=True):
            level.U.h.copy_(torch.linalg.matrix_power(plain.U.h, reach))
            level.W.h.copy_(plain.W.h if reach == 1 else torch.eye(4, dtype=torch.float64))
    x = torch.randn(time, 2, 3, dtype=torch.float64)
    assert_close([made(x)], [plain(x)[1].h], 1e-12)


def test_gradients_are_those_of_finite_differences_and_reach_no_padding() -> None:
    made = network("bidirectional", 2, 2)
    x = torch.randn(9, 3, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([9, 3, 0])
    weights = tuple(made.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: made(x, lengths), (x, *weights), fast_mode=True, atol=1e-6)
    (found,) = torch.autograd.grad(made(x, lengths).square().sum(), x)
    valid = torch.arange(9)[:, None] < lengths
    assert torch.equal(found.abs().sum(-1) > 0, valid)


def test_batches_come_batch_first_packed_or_as_whole_numbers() -> None:
    made = network("gru", 2, 2)
    lengths = torch.tensor([3, 7, 5])
    numbers = torch.randint(0, 3, (7, 3))
    x = nn.functional.one_hot(numbers, 3).double()
    expected = made(x, lengths)
    assert_close([made(numbers, lengths)], [expected], 1e-12)
    assert_close([made(pack_padded_sequence(x, lengths, enforce_sorted=False))], [expected], 1e-12)
    turned = Sliced(*made.levels, parts=2, batch_first=True)
    assert_close([turned(x.transpose(0, 1), lengths)], [expected], 1e-12)
    assert_close([made(x[:, :0])], [expected[:0]])
    assert not made(x[:0]).any()


def test_copies_and_pickles_give_the_same() -> None:
    made, x = network("bidirectional", 2, 2), torch.randn(9, 2, 3, dtype=torch.float64)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other(x), made(x))
    assert all(name.startswith("levels.") for name in made.state_dict())


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "parts": (lambda: sliced(LEVELS["gru"], 3, parts=0, times=1), UsageError, "into 1 part or more, not 0"),
    "times": (lambda: sliced(LEVELS["gru"], 3, parts=2, times=-1), UsageError, "cut 0 times or more, not -1"),
    "no-level": (lambda: Sliced(parts=2), UsageError, "needs a level"),
    "sizes": (
        lambda: Sliced(layer_of("gru"), layer_of("gru"), parts=2), ShapeError, "the one above it has input_size 3",
    ),
    "x": (lambda: network("gru", 2, 1)(torch.randn(4, 3)), ShapeError, r"x is \(4, 3\); expected \(time, batch, input"),
    "lengths": (
        lambda: network("gru", 2, 1)(torch.randn(4, 1, 3).double(), [5]), ShapeError, "lengths run from 5 to 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_cut_is_refused_in_words(what: str) -> None:
    make, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        make()
