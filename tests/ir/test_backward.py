from __future__ import annotations

import numpy as np
import pytest

from tests.ir.hard_cells import HARD_CELLS, projected_lstm
from tests.ir.numeric import SIZES, evaluate, random_leaves, sizes_of
from unrolled.cells import all_cells, get
from unrolled.ir.backward import Accumulation, Backward, Item
from unrolled.ir.gradient import gradient
from unrolled.ir.graph import Node, reachable
from unrolled.ir.plan import Plan, make_plan
from unrolled.ir.program import bind
from unrolled.language import Cell

CELLS = list({cell.name: cell for cell in [*all_cells().values(), *HARD_CELLS]}.values())


def _plan(cell: Cell, *taps: str) -> Plan:
    return make_plan(bind(cell.program, {**SIZES, **cell.program.axes}), taps)


def values_of(items: tuple[Item, ...]) -> list[Node]:
    return [item if isinstance(item, Node) else item.node for item in items]


def loop_items(backward: Backward) -> tuple[Item, ...]:
    return tuple(item for stage in backward.loop for item in stage.items)


def _symbols(nodes: tuple[Node, ...]) -> list[str]:
    return [node.symbol for node in nodes]


def _inner(items: tuple[Item, ...]) -> list[Node]:
    return [arg for item in items for arg in (item.args if isinstance(item, Node) else _reads(item))]


def _reads(item: Accumulation) -> tuple[Node, ...]:
    return (*item.maps, *item.cotangents, *item.rest)


def _available(backward: Backward) -> set[Node]:
    found = {node for node, _ in backward.saved} | {node for node, _ in backward.next_values}
    found |= {node for items in (backward.before, loop_items(backward), backward.after) for node in values_of(items)}
    return found


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
@pytest.mark.parametrize("tapped", [False, True], ids=["plain", "tapped"])
def test_backward_reads_only_what_is_kept_or_computed(cell, tapped):
    plan = _plan(cell, *(cell.program.names if tapped else ()))
    backward = plan.backward
    have = _available(backward)
    kept = {*backward.kept_states, *plan.delays}
    for node in [*_inner(backward.before), *_inner(loop_items(backward)), *_inner(backward.after)]:
        if node.op == "state":
            assert node["name"] in kept
        elif node.args:
            assert node in have


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_only_what_the_states_cotangents_need_is_in_the_reverse_loop(cell):
    backward = _plan(cell).backward
    needed = set(reachable(backward.carried.values()))
    flowing = {backward.seeds[name] for name, _ in cell.program.states}
    for node in values_of(loop_items(backward)):
        assert node in needed
        assert flowing & set(reachable([node]))
    for node in values_of(backward.before):
        assert not flowing & set(reachable([node]))
    assert not any(node.op == "outer" for node in values_of(loop_items(backward)))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_what_is_read_after_the_reverse_loop_is_kept_from_it(cell):
    backward = _plan(cell).backward
    loop = set(values_of(loop_items(backward)))
    read = {node for node in _inner(backward.after) if node in loop} | (set(backward.results.values()) & loop)
    assert read <= set(backward.kept)


def test_cheap_values_are_computed_again_and_costly_ones_saved():
    plan = _plan(get("lstm"))
    assert [node.op for _, node in plan.backward.saved] == ["sigmoid", "sigmoid", "tanh", "sigmoid", "tanh"]
    assert plan.backward.kept_states == ("h", "c")
    assert plan.backward.saved_floats({"hidden": 10, "input": 3}) == 7 * 10


def test_the_output_is_not_saved_twice():
    backward = _plan(get("elman")).backward
    assert backward.saved == ()
    assert backward.kept_states == ("h",)
    assert [name for _, name in backward.next_values] == ["h"]


def test_transposed_products_of_the_gates_are_one_product():
    (fused,) = [item for item in loop_items(_plan(get("lstm")).backward) if isinstance(item, Accumulation)]
    assert _symbols(fused.maps) == ["U.i", "U.f", "U.g", "U.o"]


def test_the_backward_of_a_linear_recurrence_has_no_product_in_its_loop():
    assert {item.op for item in loop_items(_plan(get("mingru")).backward)} == {"mul"}


def test_the_carried_cotangents_are_the_states_own():
    for cell in CELLS:
        backward = _plan(cell).backward
        shapes = dict(cell.program.states)
        assert set(backward.carried) <= set(shapes)
        for name, node in backward.carried.items():
            assert node.shape in (shapes[name], ())


def test_the_backward_plan_of_projections_waits_for_the_projection():
    backward = _plan(projected_lstm).backward
    assert [i for i in loop_items(backward) if isinstance(i, Accumulation) and len(i.maps) == 1]
    assert {leaf.symbol for leaf in backward.results if leaf.op == "parameter"} == {
        node.symbol for node in projected_lstm.program.parameters
    }


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_backward_plan_computes_the_same_cotangents_as_the_gradient(cell):
    program = cell.program
    plan, made = make_plan(program), gradient(program)
    leaves = random_leaves(program)
    sizes = sizes_of(program)
    random = np.random.default_rng(1)
    for name, shape in program.states:
        leaves[f"sequence d_{name}"] = random.standard_normal([sizes[axis] for axis in shape])
    expected = evaluate(made.cotangents.values(), leaves, sizes)
    backward = plan.backward
    got = evaluate([*backward.carried.values(), *backward.results.values()], leaves, sizes)
    for leaf, cotangent in made.cotangents.items():
        if leaf.op == "state":
            node = backward.carried[leaf["name"]]
        else:
            (node,) = [
                d for own, d in backward.results.items() if (own.op, own.attributes) == (leaf.op, leaf.attributes)
            ]
        np.testing.assert_allclose(got[node], expected[cotangent], rtol=1e-9, atol=1e-12, err_msg=repr(leaf))
