"""Every operation in torch has the value that the definition in numpy has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.ir.numeric import FUNCTIONS, inverse_deviation
from unrolled.backends import backends, choose
from unrolled.backends.operations import OPERATIONS
from unrolled.ir.ops import OPERATIONS as ALL

NOT_HERE = {"product", "transposed_product", "outer"}
PLAIN = sorted(set(OPERATIONS) & set(FUNCTIONS) - NOT_HERE)


class Stub(dict[str, Any]):
    """A node of one argument, which is on the short axis."""

    args = (SimpleNamespace(shape=("short",)),)


def value_of(name: str, *args: torch.Tensor, sizes: dict[str, int] | None = None, **attributes: Any) -> torch.Tensor:
    node: Any = Stub(attributes)
    return OPERATIONS[name](node, sizes or {})(*args)


def test_the_table_covers_the_operations_that_compute() -> None:
    computing = {name for name, row in ALL.items() if row.kind in ("elementwise", "units")}
    assert computing <= set(OPERATIONS) | NOT_HERE


@pytest.mark.parametrize("name", PLAIN)
def test_an_operation_is_its_definition(name: str) -> None:
    torch.manual_seed(0)
    count = ALL[name].arity
    args = [torch.randn(7, dtype=torch.float64) for _ in range(count)]
    if name in ("log", "sqrt"):
        args = [arg.abs() + 0.1 for arg in args]
    if name in ("equal", "less", "less_equal", "where", "maximum", "minimum", "relu", "abs", "sign"):
        args[0][:3] = args[-1][:3] = 0.0
    expected = torch.as_tensor(np.array(FUNCTIONS[name](*(arg.numpy() for arg in args))))
    torch.testing.assert_close(value_of(name, *args).reshape(expected.shape), expected, atol=1e-14, rtol=1e-14)


def test_operations_over_units_are_their_definitions() -> None:
    x = torch.randn(2, 6, dtype=torch.float64)
    deviation = torch.as_tensor([inverse_deviation(row.numpy()) for row in x])[:, None]
    torch.testing.assert_close(value_of("inverse_deviation", x, epsilon=1e-5), deviation)
    normed = (x - x.mean(-1, keepdim=True)) * deviation
    torch.testing.assert_close(value_of("layer_norm", x, epsilon=1e-5), normed)
    sizes = {"short": 2, "long": 6}
    assert value_of("repeat", x[:, :2], sizes=sizes, axis="long")[0].tolist() == [*[x[0, 0]] * 3, *[x[0, 1]] * 3]
    torch.testing.assert_close(value_of("fold", x, sizes=sizes, axis="short"), x.unflatten(-1, (2, 3)).sum(-1))
    assert value_of("spread", x[:, :1], sizes=sizes, axis="long").shape == (2, 6)
    assert value_of("spread", x[0, 0], sizes=sizes, axis="long").shape == (6,)


@pytest.mark.parametrize("x", [-800.0, -50.0, 0.0, 25.0, 800.0])
def test_softplus_is_exact_far_from_zero(x: float) -> None:
    value = torch.tensor(x, dtype=torch.float64)
    expected = torch.log1p(torch.exp(-value.abs())) + value.clamp(min=0)
    torch.testing.assert_close(value_of("softplus", value), expected, atol=0, rtol=1e-14)


def test_the_reference_runs_everywhere() -> None:
    assert "reference" in backends()
    assert choose(torch.device("cpu"), "reference").name == "reference"
    assert all(backends()["reference"].available(torch.device(name)) == "" for name in ("cpu", "cuda", "mps"))
