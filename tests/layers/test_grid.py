"""A grid is the paper's equations, block by block, in whatever order; depth alone is a feed-forward net."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import assert_close
from unrolled.errors import CellError, ShapeError, UsageError
from unrolled.layers import Bidirectional, DepthLSTM, GridLSTM, Recurrent

BLOCKS = ["grid-block", "priority-grid-block"]


def grid_of(layers: int = 3, **options: Any) -> GridLSTM:
    """A grid in float64 whose weights, biases too, are random."""
    grid = GridLSTM(3, 5, layers, **{"dtype": torch.float64, **options})
    with torch.no_grad():
        for parameter in grid.parameters():
            parameter.copy_(0.6 * torch.randn_like(parameter))
    return grid


def transform(block: Recurrent, suffix: str, joined: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's equation 1, over the joined hidden vectors of all dimensions, with a bias."""
    u, f, o, c = (
        joined @ torch.cat([block.W[gate + suffix], block.U[gate + suffix]], 1).T + block.b[gate + suffix]
        for gate in "ifog"
    )
    memory = torch.sigmoid(f) * memory + torch.sigmoid(u) * torch.tanh(c)
    return torch.tanh(torch.sigmoid(o) * memory), memory


def block_of_the_paper(block: Recurrent, up: Any, on: Any) -> tuple[Any, Any]:
    """The pairs of hidden vector and memory that leave a block, of those that enter it along depth and time."""
    joined = torch.cat([up[0], on[0]], -1)
    on = transform(block, "", joined, on[1])
    if block.cell.name == "priority-grid-block":
        joined = torch.cat([up[0], on[0]], -1)
    return transform(block, "_up", joined, up[1]), on


def paper(grid: GridLSTM, x: Tensor) -> tuple[Tensor, list[Any]]:
    """The grid as the paper has it: all blocks of a diagonal before the next one, from a state of zeros."""
    side, *blocks = grid._carried()
    time, batch, _ = x.shape
    up = {(0, t): (x[t] @ side.W.y.T, x[t] @ side.W.m.T) for t in range(time)}
    zero = x.new_zeros(batch, grid.output_size)
    on = {(layer, 0): (zero, zero) for layer in range(len(blocks))}
    for diagonal in range(time + len(blocks) - 1):
        for layer in range(max(0, diagonal - time + 1), min(len(blocks), diagonal + 1)):
            t = diagonal - layer
            leaves = block_of_the_paper(blocks[layer], up[layer, t], on[layer, t])
            up[layer + 1, t], on[layer, t + 1] = leaves
    y = torch.stack([up[len(blocks), t][0] for t in range(time)])
    return y, [on[layer, time] for layer in range(len(blocks))]


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_grid_is_the_equations_of_the_paper_diagonal_by_diagonal(block: str, tied: bool) -> None:
    grid = grid_of(block=block, tied=tied)
    x = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    y, state = grid(x)
    expected, pairs = paper(grid, x)
    assert_close([y, *[value for each in state[1:] for value in (each.h, each.c)]],
                 [expected, *[value for pair in pairs for value in pair]], 1e-12)  # fmt: skip
    wanted = [x, *grid.parameters()]
    results = [torch.cat([y, state[1].c[None]]), torch.cat([expected, pairs[0][1][None]])]
    weight = torch.randn_like(results[0])
    got, right = (torch.autograd.grad((result * weight).sum(), wanted) for result in results)
    assert_close(got, right, 1e-10)


def test_tied_layers_count_their_parameters_once_and_each_has_a_state() -> None:
    def count(grid: GridLSTM) -> int:
        return sum(parameter.numel() for parameter in grid.parameters())

    one, three = 2 * 5 * 3, 8 * (5 * 5 + 5 * 5 + 5)
    assert count(grid_of(3, tied=True)) == one + three
    assert count(grid_of(3)) == one + 3 * three
    tied = grid_of(3, tied=True)
    assert len(tied.initial_state(2)) == 4
    assert len(tied.state_dict()) == 4
    untied = grid_of(3)
    untied.load_state_dict({
        key.replace("layers.1", f"layers.{place}"): value
        for place in (1, 2, 3)
        for key, value in tied.state_dict().items()
    })  # fmt: skip
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    assert torch.equal(tied(x)[0], untied(x)[0])


def test_time_in_a_grid_of_one_layer_is_an_lstm_over_the_projected_input() -> None:
    grid = grid_of(1)
    block = grid.layers[1]
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    _, state, taps = grid(x, taps=("h",))
    h = c = x.new_zeros(2, 5)
    for t in range(7):
        h, c = transform(block, "", torch.cat([x[t] @ grid.layers[0].W.y.T, h], -1), c)
        assert_close([taps["h"][t]], [h], 1e-12)
    assert_close([state[1].c], [c], 1e-12)


def test_a_grid_whose_depth_does_not_read_time_is_depth_alone_at_every_step() -> None:
    grid = grid_of(3)
    alone = DepthLSTM(3, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        alone.grid.layers[0].load_state_dict(grid.layers[0].state_dict())
        for block, other in zip(grid.layers[1:], alone.grid.layers[1:], strict=True):
            for gate in "ifgo":
                block.U[f"{gate}_up"].zero_()
                other.W[gate].copy_(block.W[f"{gate}_up"])
                other.b[gate].copy_(block.b[f"{gate}_up"])
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    assert_close([grid(x)[0]], [torch.stack([alone(step) for step in x])], 1e-12)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_depth_alone_is_an_lstm_along_the_layers_without_an_input(tied: bool) -> None:
    alone = DepthLSTM(4, 5, 3, tied=tied, dtype=torch.float64)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    side, *blocks = alone.grid._carried()
    h, c = x @ side.W.y.T, x @ side.W.m.T
    for block in blocks:
        i, f, g, o = (h @ block.W[gate].T + block.b[gate] for gate in "ifgo")
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.tanh(torch.sigmoid(o) * c)
    y = alone(x)
    assert_close([y], [h], 1e-12)
    wanted, weight = [x, *alone.parameters()], torch.randn_like(y)
    got, right = (torch.autograd.grad((result * weight).sum(), wanted) for result in (y, h))
    assert_close(got, right)
    assert torch.equal(alone(torch.tensor([3, 1])), alone(torch.eye(4, dtype=torch.float64)[[3, 1]]))


def test_padding_never_changes_a_grid_and_the_state_is_that_of_the_last_valid_step() -> None:
    grid = grid_of(2)
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    y, state = grid(x, lengths=[3, 0, 5])
    for row, length in enumerate([3, 0, 5]):
        alone, own = grid(x[:length, row : row + 1])
        assert_close([y[:length, row : row + 1]], [alone], 1e-12)
        assert torch.equal(y[length:, row], torch.zeros(5 - length, 5, dtype=torch.float64))
        for layer in (1, 2):
            assert_close([each[row : row + 1] for each in state[layer]], own[layer], 1e-12)


def test_the_state_of_a_grid_carries_over_calls_and_a_reset_begins_anew() -> None:
    grid = grid_of(2, tied=True)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    whole, _ = grid(x)
    first, state = grid(x[:2])
    second, _ = grid(x[2:], state)
    assert_close([torch.cat([first, second])], [whole], 1e-12)
    resets = torch.zeros(6, 2, dtype=torch.bool)
    resets[2, 1] = True
    again, _ = grid(x, resets=resets)
    assert_close([again[:, 0], again[:2, 1], again[2:, 1]], [whole[:, 0], whole[:2, 1], grid(x[2:])[0][:, 1]], 1e-12)


def test_a_grid_is_one_direction_of_two_and_runs_one_step_at_a_time() -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    ahead, behind = grid_of(2), grid_of(2, reverse=True)
    y, _ = Bidirectional(ahead, behind)(x)
    assert_close([y], [torch.cat([ahead(x)[0], behind(x)[0]], -1)], 1e-12)
    stream = ahead.stream(batch=2)
    assert_close([torch.stack([stream.step(step).clone() for step in x])], [ahead(x)[0]], 1e-12)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "no-layers": (lambda: grid_of(0), UsageError, "a grid has 1 layer or more, not 0"),
    "no-block": (lambda: grid_of(block="lstm"), UsageError, "cell 'lstm' is no block of a grid, which reads x and"),
    "no-such-block": (lambda: grid_of(block="grid-blok"), UsageError, r"Did you mean grid-block\?"),
    "no-memory-below": (
        lambda: Recurrent("grid-block", 3, 5)(torch.randn(2, 1, 3)),
        ShapeError,
        "cell 'grid-block' reads a further input: below_m=… is missing",
    ),
    "sequences": (
        lambda: DepthLSTM(3, 5, 2)(torch.randn(2, 1, 3)), ShapeError, r"x is \(2, 1, 3\); expected \(batch, input\)",
    ),
    "batch-first": (
        lambda: DepthLSTM(3, 5, 2, batch_first=True), UsageError, "a net of depth alone has no time",
    ),
    "input": (lambda: grid_of()(torch.randn(2, 1, 4).double()), ShapeError, "x has 4 on its last axis"),
    "tap": (lambda: grid_of()(torch.randn(2, 1, 3).double(), taps=("z",)), CellError, "has no value named 'z'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_grid_is_refused_in_words(what: str) -> None:
    make, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        make()
