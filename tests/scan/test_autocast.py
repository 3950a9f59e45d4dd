"""The scan under autocast."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.networks import assert_close, batch_for, gradients, layer_of
from unrolled.cells import all_cells
from unrolled.layers import Recurrent


@pytest.mark.parametrize("backend", ["", "reference"], ids=["plan", "reference"])
@pytest.mark.parametrize("name", all_cells())
def test_autocast_multiplies_in_bfloat16_and_keeps_float32(name: str, backend: str) -> None:
    layer = Recurrent(name, 8, 16, backend=backend)
    given = batch_for(layer, 6, 4)
    x, begun = given.x.requires_grad_(), tuple(1 + value.abs() for value in given.state)
    expected, expected_state = layer(x, begun, **given.inputs)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x, begun, **given.inputs)
        from_narrow, _ = layer(x.bfloat16(), begun, **given.inputs)
    state, expected_state = state[: len(given.state)], expected_state[: len(given.state)]  # without the clock
    assert {v.dtype for v in (y, from_narrow, *state)} == {torch.float32}
    assert not torch.equal(y, expected)
    wanted = [x, *layer.parameters()]
    got, full = torch.autograd.grad(y.square().sum(), wanted), torch.autograd.grad(expected.square().sum(), wanted)
    assert {g.dtype for g in got} == {torch.float32}
    assert_close([y, *state], [expected, *expected_state], 4e-2)
    assert_close(got, full, 4e-2)


def test_autocast_leaves_double_precision_be() -> None:
    layer = layer_of("lstm")
    given = batch_for(layer, ragged=True)
    expected = gradients(layer, given)
    with torch.autocast("cpu", torch.bfloat16):
        got = gradients(layer, given)
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 0.0)
