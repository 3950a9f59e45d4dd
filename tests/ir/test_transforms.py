"""Programs made of programs, held against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.hard_cells import projected_lstm
from tests.ir.numeric import random_leaves, results_of
from unrolled.cells import get
from unrolled.errors import CellError
from unrolled.ir.plan import make_plan, plan_of_key
from unrolled.ir.program import bind, verify_program
from unrolled.ir.show import equations
from unrolled.ir.transforms import (
    RECURRENT_MASK,
    clamped,
    recurrent_maps,
    with_recurrent_mask,
    with_zoneout,
    without_biases,
    zoneout_name,
)
from unrolled.language import parse

SIZES = {"input": 4, "hidden": 6}


def test_without_biases_no_bias_is_left_and_the_rest_is_the_same():
    program = get("gru").program
    bare = without_biases(program)
    assert not any(node["family"] == "b" for node in bare.parameters)
    leaves = random_leaves(program)
    zero = {key: np.zeros_like(value) if key.startswith("b.") else value for key, value in leaves.items()}
    for got, expected in zip(results_of(bare, zero), results_of(program, zero), strict=True):
        np.testing.assert_allclose(got, expected)


def test_without_biases_a_bias_beside_a_product_is_zero_too():
    program = parse("@cell\ndef m(x, h):\n    h = tanh(W.h @ x) * b.g + h\n    return h").program
    bare = without_biases(program)
    leaves = random_leaves(program)
    np.testing.assert_allclose(results_of(bare, leaves)[0], leaves["state h"])


def test_without_biases_forgets_how_biases_begin():
    assert get("lstm").program.init == {"b.f": 1.0}
    assert without_biases(get("lstm").program).init == {}


def test_the_recurrent_mask_reaches_maps_of_states_and_no_element_wise_use():
    program = get("gru").program
    masked = with_recurrent_mask(program)
    assert masked.rows == ((RECURRENT_MASK, ("hidden",)),)
    leaves = random_leaves(program)
    mask = np.array([0.0, 2.0, 1.0, 0.0, 1.0, 2.0])
    (got,) = results_of(masked, {**leaves, f"row {RECURRENT_MASK}": mask})
    scaled = {key: value * mask if key.startswith("U.") else value for key, value in leaves.items()}
    np.testing.assert_allclose(got, results_of(program, scaled)[0])


def test_the_recurrent_mask_of_ones_changes_nothing():
    for cell in (get("lstm"), projected_lstm):
        masked = with_recurrent_mask(cell.program)
        leaves = random_leaves(masked)
        leaves[f"row {RECURRENT_MASK}"] = np.ones_like(leaves[f"row {RECURRENT_MASK}"])
        for got, expected in zip(results_of(masked, leaves), results_of(cell.program, leaves), strict=True):
            np.testing.assert_allclose(got, expected)


def test_the_recurrent_mask_leaves_maps_of_further_inputs_alone():
    program = parse(
        "@cell\ndef m(x, h, below: Input['hidden']):\n    h = tanh(W.h @ x + V.h @ below + U.h @ h)\n    return h"
    ).program
    leaves = random_leaves(program) | {f"row {RECURRENT_MASK}": np.zeros(6)}
    (got,) = results_of(with_recurrent_mask(program), leaves)
    np.testing.assert_allclose(got, results_of(program, leaves | {"U.h": np.zeros((6, 6))})[0])


def test_recurrent_maps_are_those_that_read_what_depends_on_a_state():
    assert recurrent_maps(get("gru").program) == {"U.r", "U.z", "U.g"}
    program = parse(
        "@cell\ndef m(x, h, below: Input['hidden']):\n    a = tanh(h)\n"
        "    h = tanh(W.x @ x + U.x @ below + V.a @ a)\n    return h"
    ).program
    assert recurrent_maps(program) == {"V.a"}


def test_a_held_value_is_a_number_wherever_it_is_read_and_what_0_multiplies_is_gone():
    held = clamped(get("lstm").program, {"f": 1, "i": 0})
    verify_program(held)
    assert held.results[1].op == "state"
    leaves = random_leaves(get("lstm").program)
    _, c = results_of(held, leaves)
    np.testing.assert_array_equal(c, leaves["state c"])
    assert {node.symbol for node in held.parameters} >= {"W.o", "U.o", "b.o"}
    assert "b.f" not in {node.symbol for node in held.parameters}


def test_zeros_that_follow_from_a_held_value_are_held_too_and_those_of_the_author_are_not():
    held = clamped(get("gru").program, {"z": 1})
    assert held.results[0].op == "state"
    written = parse("@cell\ndef m(x, h):\n    a = tanh(W.a @ x)\n    h = a * h + 0 * (W.h @ x)\n    return h").program
    assert equations(clamped(written, {"a": 0.5}))[-1] == "h = a * h + 0 * (W.h @ x)"


def test_a_name_that_stands_twice_is_held_by_its_last_value():
    program = parse("@cell\ndef m(x, h):\n    a = tanh(h)\n    a = a + W.h @ x\n    h = 2 * a\n    return h").program
    (got,) = results_of(clamped(program, {"a": 3}), random_leaves(program))
    np.testing.assert_array_equal(got, np.full(6, 6.0))


def test_a_plan_with_held_values_stores_the_symbols_of_the_cell_and_is_made_again_from_its_key():
    program = bind(get("gru-cho").program, SIZES)
    plan, plain = make_plan(program, ("z",), {"z": 1, "r": 1}), make_plan(program, ("z",))
    assert plan.groups == plain.groups
    assert plan.key != plain.key
    again = plan_of_key(plan.key)
    assert again.program == plan.program
    assert again.key == plan.key == make_plan(program, ("z",), {"r": 1, "z": 1}).key


def test_what_is_no_computed_value_cannot_be_held():
    program = parse("@cell\ndef m(x, h, old):\n    h = tanh(W.h @ x + old)\n    return h, old").program
    with pytest.raises(CellError, match="cell 'm': old is handed on as it is, so clamp cannot hold it"):
        clamped(program, {"old": 1})


@pytest.mark.parametrize("drawn", [True, False])
def test_zoneout_mixes_a_state_with_its_old_value_after_all_has_read_the_new_one(drawn):
    program = get("lstm").program
    zoned = with_zoneout(program, {"c": 0.5}, drawn)
    verify_program(zoned)
    leaves = random_leaves(program)
    h, c = results_of(program, leaves)
    mask = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0]) if drawn else 0.25
    key = f"{'sequence' if drawn else 'scalar'} {zoneout_name('c')}"
    new_h, new_c = results_of(zoned, {**leaves, key: mask})
    np.testing.assert_array_equal(new_h, h)
    np.testing.assert_allclose(new_c, mask * leaves["state c"] + (1 - mask) * c)
    assert zoned.tap("c") is zoned.results[1]
