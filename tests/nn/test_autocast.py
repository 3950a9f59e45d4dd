from __future__ import annotations

from typing import Any

import pytest
import torch

import unrolled.nn as nn
from tests.nn.torch_pairs import CELLS, HIDDEN, INPUT, NETWORKS, apply, as_list, as_state, initial, inputs, pair, quiet

NARROW = torch.bfloat16


@pytest.mark.parametrize("form", ["padded", "batch_first", "unbatched", "packed", "unsorted"])
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no-grad"])
@pytest.mark.parametrize("state", [None, torch.float32, NARROW], ids=["zeros", "wide-state", "narrow-state"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_under_autocast_results_have_the_types_of_torch(kind: str, state: Any, grad: bool, form: str) -> None:
    quiet()
    theirs, ours = pair(kind, num_layers=2, bidirectional=True, batch_first=form == "batch_first")
    for dtype in (torch.float32, NARROW):
        x = inputs(form, dtype)
        states = [] if state is None else initial(ours, form, state)
        with torch.set_grad_enabled(grad), torch.autocast("cpu", NARROW):
            y, finals = apply(ours, form, x, states)
            expected, expected_finals = apply(theirs, form, x, states)
        assert y[0].dtype == expected[0].dtype
        assert [value.dtype for value in finals] == [value.dtype for value in expected_finals]
        torch.testing.assert_close(y[0].float(), expected[0].float(), atol=0.04, rtol=0)


@pytest.mark.parametrize("state", [None, torch.float32, NARROW], ids=["zeros", "wide-state", "narrow-state"])
@pytest.mark.parametrize("kind", CELLS)
def test_under_autocast_states_of_cells_have_the_types_of_torch(kind: str, state: Any) -> None:
    name, keywords = CELLS[kind]
    theirs, ours = (getattr(each, name)(INPUT, HIDDEN, **keywords) for each in (torch.nn, nn))
    for dtype in (torch.float32, NARROW):
        x = torch.randn(2, INPUT, dtype=dtype)
        states = [] if state is None else [torch.zeros(2, HIDDEN, dtype=state)] * (2 if kind == "lstm" else 1)
        with torch.autocast("cpu", NARROW):
            found, expected = as_list(ours(x, as_state(states))), as_list(theirs(x, as_state(states)))
        assert [value.dtype for value in found] == [value.dtype for value in expected]


@pytest.mark.parametrize("kind", NETWORKS)
def test_autocast_leaves_float64_alone(kind: str) -> None:
    quiet()
    theirs, ours = (network.double() for network in pair(kind))
    x = inputs("padded", torch.float64)
    with torch.autocast("cpu", NARROW):
        (y, state), (expected, expected_state) = ours(x), theirs(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(as_list(state), as_list(expected_state))


def test_under_autocast_the_state_is_carried_wide_from_step_to_step() -> None:
    torch.manual_seed(0)
    made: Any = nn.LSTM(4, 8)
    with torch.no_grad():
        made.bias_ih_l0[8:16] = 6.0  # the forget gate, nearly open: each step adds little to a large memory
    x, state = 0.1 * torch.randn(200, 1, 4), (torch.zeros(1, 1, 8), torch.full((1, 1, 8), 20.0))
    expected = made(x, state)[1][1]
    with torch.autocast("cpu", NARROW):
        found = made(x, state)[1][1]
    step = 2.0**-7 * expected.abs().max()  # of a bfloat16 of this size
    assert (found.float() - expected).abs().max() < step


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_under_autocast_are_in_the_type_of_the_weights(kind: str) -> None:
    _, ours = pair(kind)
    x = inputs("padded").requires_grad_()
    with torch.autocast("cpu", NARROW):
        loss = ours(x)[0].float().square().sum()
    loss.backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    for value in ours.parameters():
        assert value.grad.dtype == torch.float32
        assert value.grad.abs().max() > 0


def test_whole_numbers_are_refused_under_autocast_too() -> None:
    with torch.autocast("cpu", NARROW), pytest.raises(ValueError, match="does not match weight dtype"):
        nn.GRU(3, 4)(torch.zeros(5, 2, 3, dtype=torch.long))
