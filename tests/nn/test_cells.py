from __future__ import annotations

from typing import Any

import pytest
import torch

import unrolled.nn as nn
from tests.nn.torch_pairs import BATCH, CELLS, HIDDEN, INPUT, as_list, as_state, assert_same


def pair(kind: str, **options: Any) -> tuple[Any, Any]:
    name, keywords = CELLS[kind]
    theirs = getattr(torch.nn, name)(INPUT, HIDDEN, **keywords, **options)
    ours = getattr(nn, name)(INPUT, HIDDEN, **keywords, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def results(cell: Any, x: torch.Tensor, states: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    states = [state.clone().requires_grad_() for state in states]
    cell.zero_grad()
    finals = as_list(cell(x, as_state(states)))
    sum((value * value).sum() + value.sum() for value in finals).backward()
    found = {"d_x": x.grad, **{f"final {index}": value.detach() for index, value in enumerate(finals)}}
    found |= {f"d_state {index}": value.grad for index, value in enumerate(states)}
    return found | {f"d_{name}": value.grad for name, value in cell.named_parameters()}


@pytest.mark.parametrize("batched", [True, False], ids=["batch", "single"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("kind", CELLS)
def test_one_step_and_its_gradients_are_those_of_torch(kind: str, bias: bool, batched: bool) -> None:
    theirs, ours = pair(kind, bias=bias)
    batch = (BATCH,) if batched else ()
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 4e-6)):
        theirs.to(dtype)
        ours.to(dtype)
        x = torch.randn(*batch, INPUT, dtype=dtype)
        given = [torch.randn(*batch, HIDDEN, dtype=dtype) for _ in range(2 if kind == "lstm" else 1)]
        for states in ([], given):
            assert_same(results(ours, x, states), results(theirs, x, states), tolerance)


@pytest.mark.parametrize("kind", CELLS)
def test_an_empty_batch_gives_an_empty_state(kind: str) -> None:
    _, ours = pair(kind)
    assert all(value.shape == (0, HIDDEN) for value in as_list(ours(torch.zeros(0, INPUT))))


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_applied_step_by_step_is_the_network(kind: str) -> None:
    _, ours = pair(kind)
    name, keywords = CELLS[kind]
    network = getattr(nn, name.removesuffix("Cell"))(INPUT, HIDDEN, **keywords)
    network.load_state_dict({f"{key}_l0": value for key, value in ours.state_dict().items()})
    x = torch.randn(4, BATCH, INPUT)
    y, _ = network(x)
    state = None
    for step in range(4):
        state = ours(x[step], state)
        torch.testing.assert_close(as_list(state)[0], y[step])


@pytest.mark.parametrize("kind", CELLS)
def test_a_compiled_cell_has_no_graph_break(kind: str) -> None:
    _, ours = pair(kind)
    x, h = torch.randn(BATCH, INPUT), torch.randn(BATCH, HIDDEN)
    state = (h, h) if kind == "lstm" else h
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for value, expected in zip(as_list(compiled(x, state)), as_list(ours(x, state)), strict=True):
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("kind", CELLS)
def test_the_state_may_be_the_input_itself(kind: str) -> None:
    name, keywords = CELLS[kind]
    ours = getattr(nn, name)(HIDDEN, HIDDEN, **keywords)
    theirs = getattr(torch.nn, name)(HIDDEN, HIDDEN, **keywords)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(BATCH, HIDDEN)
    state = (x, x) if kind == "lstm" else x
    torch.testing.assert_close(as_list(ours(x, state)), as_list(theirs(x, state)))
