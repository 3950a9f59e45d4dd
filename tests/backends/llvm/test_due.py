"""Units that are not due take no products, and what comes out is what the reference computes."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.networks import CELLS, assert_close, batch_for, gradients, run
from unrolled.backends.llvm.machine import unavailable
from unrolled.ir.plan import Plan, make_plan
from unrolled.language import Cell, parse
from unrolled.layers import Recurrent

if unavailable():
    pytest.skip(unavailable(), allow_module_level=True)

from unrolled.backends.llvm.backward import make_reverse
from unrolled.backends.llvm.forward import make_forward
from unrolled.backends.llvm.phases import Pass, Step, make_step
from unrolled.backends.llvm.schedule import Schedule, forced

CLOCKWORK = CELLS["clockwork"]
# Units that are due when those before them are not, and a value that divides what is chosen.
UNEVEN = parse("""
@cell(structure={"U.h": block_triangular("periods")})
def uneven(x, h, c, *, periods=(2, 3)):
    y = tanh(W.h @ x + U.h @ h + b.h)
    z = 1 + exp(V.z @ h)
    h = where(tick(periods), y / z, h)
    c = 0.5 * c + h
    return h, c
""")
# What is computed of units that are not due is read: by a state, and through the other side of the choice.
READ = [
    "y = tanh(W.h @ x + U.h @ h)\n    h = where(tick((1, 2)), y, h)\n    return h, c + y",
    "y = tanh(W.h @ x + U.h @ h)\n    h = where(tick((1, 2)), c, y)\n    return h, c",
    "y = tanh(W.h @ x + U.h @ h)\n    h = where(tick((1, 2)), y, h) + where(tick((1, 4)), y, c)\n    return h, h",
    "h = tanh(W.h @ x + U.h @ where(tick((1, 2)), h, c))\n    return h, c",
]


def forward_passes(plan: Plan, *, train: bool) -> list[Pass]:
    return [each for _, each in make_step(make_forward(plan, train, {}).work).passes]


def reverse_of(plan: Plan) -> Step:
    return make_step(make_reverse(plan, frozenset({"x"})).work)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("cell", [CLOCKWORK, UNEVEN], ids=lambda cell: cell.name)
def test_products_that_are_read_of_due_units_alone_wait_for_the_clock(cell: Cell, train: bool) -> None:
    plan = make_plan(cell.program)
    clocks = {each.due.name for each in forward_passes(plan, train=train) if each.due is not None}
    assert clocks == {f"tick {cell.hyperparameters['periods']}"}
    segments = [segment for _, each in reverse_of(plan).passes for segment in each.segments]
    assert any(segment.due is not None for segment in segments)


@pytest.mark.parametrize("text", READ)
def test_products_that_are_read_at_all_steps_do_not(text: str) -> None:
    plan = make_plan(parse(f"@cell\ndef often(x, h, c):\n    {text}\n").program)
    assert all(each.due is None for train in (False, True) for each in forward_passes(plan, train=train))


def test_a_tap_is_computed_for_all_units() -> None:
    plan = make_plan(CLOCKWORK.program, ("y",))
    assert all(each.due is None for train in (False, True) for each in forward_passes(plan, train=train))


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("cell", "periods", "hidden"), [(CLOCKWORK, (1, 2, 4, 8), 132), (CLOCKWORK, (3, 5), 256), (UNEVEN, (2, 3), 140)]
)
def test_groups_of_units_that_are_not_due_keep_their_state(
    cell: Cell, periods: tuple[int, ...], hidden: int, dtype: torch.dtype, batch: int, members: int
) -> None:
    layer, exact = (
        Recurrent(cell, 3, hidden, periods=periods, backend=name, dtype=dtype) for name in ("llvm", "reference")
    )
    exact.load_state_dict(layer.state_dict())
    given = batch_for(layer, 9, batch)
    with forced(Schedule(1, members)):
        got = gradients(layer, given)
        with torch.no_grad():
            alone = run(layer, given)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for found, expected in zip(got, gradients(exact, given), strict=True):
        assert_close(found, expected, tolerance)
    assert_close(alone, got[0], tolerance)
