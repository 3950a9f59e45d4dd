"""What is not finite in the input comes out where it does in plain torch, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import NAMES, Batch, batch_for, gradients, layer_of, run, twin

VALUES = {"nan": float("nan"), "inf": float("inf"), "minus-inf": float("-inf")}


def spoiled(given: Batch, place: str, value: float) -> Batch:
    """One number of row 1 is another."""
    if place == "x":
        x = given.x.clone()
        x[1, 1, 0] = value
        return replace(given, x=x)
    first = given.state[0].clone()
    first[1, -1] = value
    return replace(given, state=(first, *given.state[1:]))


def assert_same_where_finite(got: list[Tensor], expected: list[Tensor]) -> None:
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert torch.equal(a.isnan(), b.isnan()), index
        assert torch.equal(a.isposinf(), b.isposinf()), index
        assert torch.equal(a.isneginf(), b.isneginf()), index
        finite = torch.isfinite(b)
        torch.testing.assert_close(a[finite], b[finite], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("place", ["x", "state"])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_comes_out_where_the_reference_has_it(
    name: str, value: str, place: str, engine: str
) -> None:
    # Units of two modules share a vector, in which what a module may not read counts as zero times NaN.
    if (name, engine, value, place) == ("clockwork", "llvm", "nan", "x"):
        pytest.xfail("NaN reaches the units that share a vector with a module that reads it")
    layer = layer_of(name, 3, 36, backend=engine)
    given = spoiled(batch_for(layer, 4, 3, taps=True), place, VALUES[value])
    with torch.no_grad():
        got, expected = run(layer, given), run(twin(layer, "reference"), given)
    assert_same_where_finite(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_a_row_reaches_no_gradient_of_another_row(name: str, engine: str) -> None:
    layer = layer_of(name, 3, 36, backend=engine)
    clean = batch_for(layer, 4, 3)
    _, expected = gradients(layer, clean)
    _, found = gradients(layer, spoiled(clean, "x", float("nan")))
    inputs = 1 + len(clean.inputs)
    for index, (a, b) in enumerate(zip(found[: len(clean.flat)], expected, strict=False)):
        others = [0, 2]
        assert torch.equal(a[:, others], b[:, others]) if index < inputs else torch.equal(a[others], b[others])
