"""What is not finite in the input comes out where it does in plain torch, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import NAMES, Batch, batch_for, gradients, layer_of, run, twin
from unrolled.backends.llvm import narrow
from unrolled.backends.llvm.machine import unavailable
from unrolled.language import parse
from unrolled.layers import Recurrent

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


def assert_same_where_finite(got: list[Tensor], expected: list[Tensor], tolerance: float = 1e-9) -> None:
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert torch.equal(a.isnan(), b.isnan()), index
        assert torch.equal(a.isposinf(), b.isposinf()), index
        assert torch.equal(a.isneginf(), b.isneginf()), index
        finite = torch.isfinite(b)
        torch.testing.assert_close(a[finite], b[finite], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("place", ["x", "state"])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_comes_out_where_the_reference_has_it(
    name: str, value: str, place: str, engine: str
) -> None:
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


MODULES = ["block_diagonal(3)", "block_triangular((1, 2, 4))"]


def modular(structure: str, hidden: int, **options: Any) -> Recurrent:
    """A layer whose units are in three modules; of what a module may read, it leaves every other unit out by itself."""
    made = parse(f"@cell(structure={{'U.h': {structure}}})\ndef modular(x, h):\n    return tanh(W.h @ x + U.h @ h)\n")
    layer = Recurrent(made, 2, hidden, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
            parameter.flatten()[::2] = 0.0
    return layer


@pytest.mark.parametrize("structure", MODULES)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("hidden", [36, 120])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_stays_in_the_modules_that_read_it(
    dtype: torch.dtype, hidden: int, batch: int, value: str, structure: str, engine: str
) -> None:
    layer = modular(structure, hidden, dtype=dtype, backend=engine)
    check_modules(layer, modular(structure, hidden, dtype=dtype, backend="reference"), batch, VALUES[value])


@pytest.mark.parametrize("structure", MODULES)
def test_nan_stays_in_its_modules_where_weights_are_widened(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if unavailable():
        pytest.skip(unavailable())
    monkeypatch.setattr(narrow, "way", lambda machine, batch: narrow.WIDENED)
    layer, exact = (modular(structure, 120, backend=name, precision="bf16") for name in ("llvm", "reference"))
    check_modules(layer, exact, 3, float("nan"), 0.1)


def check_modules(layer: Recurrent, exact: Recurrent, batch: int, value: float, tolerance: float | None = None) -> None:
    """A value in the second module's state, and one in its cotangent, are found where the reference has them."""
    exact.load_state_dict(layer.state_dict())
    given, unit = batch_for(layer, 3, batch), layer.hidden_size // 2
    tolerance = tolerance or (1e-9 if given.x.dtype == torch.float64 else 1e-4)
    first = given.state[0].clone()
    first[-1, unit] = value
    bad = replace(given, state=(first,))
    with torch.no_grad():
        assert_same_where_finite(run(layer, bad), run(exact, bad), tolerance)
    cotangents = [torch.randn_like(result) for result in run(exact, given)]
    cotangents[0][1, -1, unit] = value
    (_, found), (_, expected) = gradients(layer, given, cotangents), gradients(exact, given, cotangents)
    assert any(not torch.isfinite(gradient).all() for gradient in expected)
    assert any(torch.isfinite(gradient[-1]).any() for gradient in expected[1:2])
    assert_same_where_finite(found, expected, tolerance)
