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
    x = torch.randn(6, 4, 8, requires_grad=True)
    expected, expected_state = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x)
        from_narrow, _ = layer(x.bfloat16())
    assert {v.dtype for v in (y, from_narrow, *state)} == {torch.float32}
    assert not torch.equal(y, expected)
    wanted = [x, *layer.parameters()]
    got, full = torch.autograd.grad(y.square().sum(), wanted), torch.autograd.grad(expected.square().sum(), wanted)
    assert {g.dtype for g in got} == {torch.float32}
    assert_close([y, *state], [expected, *expected_state], 2e-2)
    assert_close(got, full, 2e-2)


def test_autocast_leaves_double_precision_be() -> None:
    layer = layer_of("lstm")
    given = batch_for(layer, ragged=True)
    expected = gradients(layer, given)
    with torch.autocast("cpu", torch.bfloat16):
        got = gradients(layer, given)
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 0.0)
