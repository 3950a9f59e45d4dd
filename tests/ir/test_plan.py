from __future__ import annotations

import numpy as np
import pytest

from tests.ir.hard_cells import (
    HARD_CELLS,
    clockwork,
    context_units,
    gate_recurrence_lstm,
    irregular,
    layer_norm_lstm,
    min_gru,
    mogrifier_lstm,
    mut1,
    projected_lstm,
    qrnn,
    recurrent_highway,
)
from tests.ir.numeric import SIZES, evaluate, random_leaves, results_of
from unrolled.cells import all_cells, get
from unrolled.errors import CellError
from unrolled.ir.backward import Accumulation, Item, values_of
from unrolled.ir.graph import Node, reachable, verify
from unrolled.ir.plan import Plan, make_plan, plan_of_key
from unrolled.ir.program import Program, bind
from unrolled.language import Cell, parse

CELLS = [*all_cells().values(), *HARD_CELLS]


def _plan(cell: Cell, *taps: str) -> Plan:
    return make_plan(bind(cell.program, {**SIZES, **cell.program.axes}), taps)


def _cell(body: str, arguments: str = "x, h", options: str = "") -> Cell:
    lines = "\n".join(f"    {line.strip()}" for line in body.strip().split("\n"))
    return parse(f"@cell({options})\ndef m({arguments}):\n{lines}\n")


def _symbols(nodes: tuple[Node, ...]) -> list[str]:
    return [node.symbol for node in nodes]


def _group_keys(plan: Plan) -> list[str]:
    return [f"{group.family}.{group.key}" for group in plan.groups]


def _depends_on_a_state(node: Node, delays: tuple[str, ...] = ()) -> bool:
    return any(leaf.op == "state" and leaf["name"] not in delays for leaf in reachable([node]))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_every_node_of_the_step_has_exactly_one_place(cell):
    plan = _plan(cell)
    placed = [*plan.once, *plan.hoisted, *plan.step_nodes]
    assert len(placed) == len(set(placed))
    assert set(placed) == {node for node in plan.program.nodes if node.args}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_nothing_runs_before_what_it_reads(cell):
    plan = _plan(cell)
    ready = {node for node in plan.program.nodes if not node.args} | set(plan.once)
    for node in plan.hoisted:
        assert set(node.args) <= ready
        ready.add(node)
    for node in plan.prelude:
        assert set(node.args) <= ready
        ready.add(node)
    for stage in plan.stages:
        side_by_side = [*(node for product in stage.products for node in product.outputs), *stage.reductions]
        assert all(set(node.args) <= ready for node in side_by_side)
        ready |= set(side_by_side)
        for node in stage.elementwise:
            assert set(node.args) <= ready
            ready.add(node)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_what_is_hoisted_waits_for_no_state_and_what_is_not_does(cell):
    plan = _plan(cell)
    assert not any(_depends_on_a_state(node, plan.delays) for node in (*plan.once, *plan.hoisted))
    assert all(_depends_on_a_state(node, plan.delays) for node in plan.step_nodes)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_planned_program_computes_the_same(cell):
    program = cell.program
    plan = make_plan(program)
    verify(plan.program.nodes)
    leaves = random_leaves(program)
    for got, expected in zip(results_of(plan.program, leaves), results_of(program, leaves), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_plan_is_made_again_from_its_key(cell):
    plan = _plan(cell, *list(cell.program.names)[:2])
    again = plan_of_key(plan.key)
    assert again.key == plan.key
    assert str(again) == str(plan)


def test_the_key_ignores_what_the_kernel_does_not_see():
    text = get("lstm").text
    plain = text.replace("init={'b.f': 1.0}", "init={'b.f': 2.0}").replace("Keep a memory", "Hold a memory")
    assert plain != text
    assert _plan(parse(plain)).key == _plan(get("lstm")).key


def test_the_key_tells_taps_apart():
    assert _plan(get("lstm"), "f").key != _plan(get("lstm")).key


def test_gates_of_one_operand_are_one_product_in_source_order():
    plan = _plan(get("lstm"))
    (stage,) = plan.stages
    (product,) = stage.products
    assert _symbols(product.maps) == ["U.i", "U.f", "U.g", "U.o"]
    assert [_symbols(p.maps) for p in plan.hoisted_products] == [["W.i", "W.f", "W.g", "W.o"]]
    assert _group_keys(plan) == ["W.i_f_g_o", "U.i_f_g_o", "b.i_f_g_o"]


def test_source_order_is_the_author_s_not_the_alphabet_s():
    plan = _plan(
        _cell(
            """o = sigmoid(W.o @ x + U.o @ h)
            a = tanh(W.a @ x + U.a @ h)
            h = o * a
            return h"""
        )
    )
    assert _group_keys(plan) == ["W.o_a", "U.o_a"]


def test_a_product_that_waits_for_a_gate_makes_a_second_stage():
    plan = _plan(get("gru-cho"))
    assert [[_symbols(p.maps) for p in stage.products] for stage in plan.stages] == [[["U.r", "U.z"]], [["U.g"]]]
    assert _group_keys(plan) == ["W.r_z_g", "U.r_z", "b.r_z_g", "U.g"]


def test_the_gru_of_the_libraries_has_one_stage():
    assert len(_plan(get("gru")).stages) == 1


def test_micro_steps_are_stages():
    assert len(_plan(recurrent_highway).stages) == 3
    assert len(_plan(recurrent_highway.configure(depth=5)).stages) == 5


def test_mogrifier_rounds_hold_back_the_input_products():
    plan = _plan(mogrifier_lstm)
    assert [sorted(symbol for p in stage.products for symbol in _symbols(p.maps)) for stage in plan.stages] == [
        ["V.q[0]"],
        ["V.r[1]"],
        ["V.q[2]"],
        ["V.r[3]", "W.f", "W.g", "W.i", "W.o"],
        ["U.f", "U.g", "U.i", "U.o"],
    ]
    assert plan.hoisted_products == ()


def test_a_stage_may_have_several_operands():
    plan = _plan(gate_recurrence_lstm)
    (first,) = plan.stages
    assert {product.operand["name"] for product in first.products} == {"h", "i", "f", "o"}
    assert [symbol for p in first.products if p.operand["name"] == "h" for symbol in _symbols(p.maps)] == [
        "U.i",
        "U.f",
        "U.g",
        "U.o",
    ]


def test_a_map_with_a_structure_is_multiplied_and_stored_alone():
    plan = _plan(
        _cell(
            """a = tanh(U.a @ h)
            c = tanh(U.c @ h + U.d @ h)
            h = a * c + W.x @ x
            return h""",
            options="structure={'U.c': diagonal()}",
        )
    )
    (stage,) = plan.stages
    assert [_symbols(p.maps) for p in stage.products] == [["U.a", "U.d"], ["U.c"]]
    assert _group_keys(plan) == ["U.a_d", "U.c", "W.x"]


def test_a_reduction_over_units_ends_a_stage():
    plan = _plan(layer_norm_lstm)
    kinds = [(len(stage.products), [node.op for node in stage.reductions]) for stage in plan.stages]
    assert kinds == [(1, []), (0, ["layer_norm"] * 4), (0, ["layer_norm"])]


def test_layer_norms_of_the_input_are_hoisted():
    assert [node.op for node in _plan(layer_norm_lstm).hoisted].count("layer_norm") == 4


def test_an_operand_element_wise_in_old_states_is_no_stage_of_its_own():
    plan = _plan(irregular)
    (stage,) = plan.stages
    assert [node.op for node in plan.prelude] == ["mul"]
    assert stage.products[0].operand is plan.prelude[0]


def test_what_is_of_parameters_alone_is_computed_once():
    assert [node.op for node in _plan(irregular).once] == ["softplus"]


def test_two_state_sizes_keep_their_maps_apart():
    plan = _plan(context_units)
    assert _group_keys(plan) == ["V.s", "W.h", "U.h", "V.h", "b.h"]
    assert [p.operand.shape for stage in plan.stages for p in stage.products] == [("hidden",), ("context",)]


def test_a_state_of_no_state_is_a_delay_and_its_maps_are_hoisted():
    plan = _plan(qrnn)
    assert plan.delays == ("before",)
    assert [_symbols(p.maps) for p in plan.hoisted_products] == [["W.z", "W.f", "W.o"], ["V.z", "V.f", "V.o"]]
    assert not any(stage.products for stage in plan.stages)


def test_a_delay_of_a_delay_is_one_too():
    plan = _plan(
        _cell(
            """h = h * sigmoid(V.c @ two) + W.a @ x
            return h, x, one""",
            arguments="x, h, one: State['input'], two: State['input']",
        )
    )
    assert plan.delays == ("one", "two")


@pytest.mark.parametrize("cell", [get("lstm"), get("elman"), clockwork, mut1], ids=lambda cell: cell.name)
def test_a_recurrence_with_a_product_is_not_linear(cell):
    assert _plan(cell).linear == ()


def test_a_linear_element_wise_recurrence_is_recognised():
    assert _plan(min_gru).linear == ("h",)
    assert _plan(qrnn).linear == ("c",)


@pytest.mark.parametrize(
    ("body", "arguments", "linear"),
    [
        ("h = sigmoid(W.f @ x) * h + W.g @ x\nreturn h", "x, h", ("h",)),
        ("h = h / softplus(W.f @ x) - W.g @ x\nreturn h", "x, h", ("h",)),
        ("h = where(W.f @ x > 0, h, W.g @ x)\nreturn h", "x, h", ("h",)),
        ("h = h * h + W.g @ x\nreturn h", "x, h", ()),
        ("h = tanh(h) + W.g @ x\nreturn h", "x, h", ()),
        ("h = where(h > 0, h, W.g @ x)\nreturn h", "x, h", ()),
        ("h = relu(p.a * h + W.g @ x)\nreturn h", "x, h", ()),
        ("h = p.a * h + cumsum(h) + W.g @ x\nreturn h", "x, h", ()),
        ("c = p.a * c + W.g @ x\nh = tanh(c)\nreturn h, c", "x, h, c", None),
        ("c = p.a * c + W.g @ x\nh = p.r * h + c\nreturn h, c", "x, h, c", ()),
        ("c = p.a * c + W.g @ x\nh = p.r * h + W.k @ x\nreturn h, c", "x, h, c", ("h", "c")),
    ],
)
def test_linearity_is_read_from_the_equations(body, arguments, linear):
    if linear is None:
        linear = ("c",)
    assert _plan(_cell(body, arguments)).linear == linear


def test_a_tap_that_is_hoisted_or_elsewhere_is_handed_out():
    plan = _plan(get("lstm"), "f", "g", "f")
    assert plan.taps == ("f", "g")
    assert [name for name, _ in plan.program.equations] == ["f", "g"]


def test_an_unknown_tap_is_refused():
    with pytest.raises(CellError, match="no value named 'q'"):
        _plan(get("lstm"), "q")


def test_what_no_result_and_no_tap_reads_is_not_computed():
    cell = _cell("a = exp(h)\nh = tanh(W.h @ x + U.h @ h)\nreturn h")
    assert "exp" not in {node.op for node in _plan(cell).program.nodes}
    assert "exp" in {node.op for node in _plan(cell, "a").program.nodes}


def test_a_symbol_that_only_a_dropped_equation_reads_keeps_its_place_in_the_parameters():
    cell = _cell("a = W.a @ x\nh = tanh(W.h @ x + U.h @ h)\nreturn h")
    assert _group_keys(_plan(cell)) == _group_keys(_plan(cell, "a"))


# The backward plan.


def _inner(items: tuple[Item, ...]) -> list[Node]:
    return [arg for item in items for arg in (item.args if isinstance(item, Node) else _reads(item))]


def _reads(item: Accumulation) -> tuple[Node, ...]:
    return (*item.maps, *item.cotangents, *item.rest)


def _available(program: Program, plan: Plan) -> set[Node]:
    backward = plan.backward
    found = {node for node, _ in backward.saved} | {node for node, _ in backward.next_values}
    found |= {node for items in (backward.before, backward.loop, backward.after) for node in values_of(items)}
    return found


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
@pytest.mark.parametrize("tapped", [False, True], ids=["plain", "tapped"])
def test_backward_reads_only_what_is_kept_or_computed(cell, tapped):
    plan = _plan(cell, *(cell.program.names if tapped else ()))
    backward = plan.backward
    have = _available(plan.program, plan)
    kept = {*backward.kept_states, *plan.delays}
    for node in [*_inner(backward.before), *_inner(backward.loop), *_inner(backward.after)]:
        if node.op == "state":
            assert node["name"] in kept
        elif node.args:
            assert node in have


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_only_what_the_states_cotangents_need_is_in_the_reverse_loop(cell):
    backward = _plan(cell).backward
    needed = set(reachable(backward.carried.values()))
    flowing = {backward.seeds[name] for name, _ in cell.program.states}
    for node in values_of(backward.loop):
        assert node in needed
        assert flowing & set(reachable([node]))
    for node in values_of(backward.before):
        assert not flowing & set(reachable([node]))
    assert not any(node.op == "outer" for node in values_of(backward.loop))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_what_is_read_after_the_reverse_loop_is_kept_from_it(cell):
    backward = _plan(cell).backward
    loop = set(values_of(backward.loop))
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
    (fused,) = [item for item in _plan(get("lstm")).backward.loop if isinstance(item, Accumulation)]
    assert _symbols(fused.maps) == ["U.i", "U.f", "U.g", "U.o"]


def test_the_backward_of_a_linear_recurrence_has_no_product_in_its_loop():
    assert {item.op for item in _plan(min_gru).backward.loop} == {"mul"}


def test_the_carried_cotangents_are_the_states_own():
    for cell in CELLS:
        backward = _plan(cell).backward
        shapes = dict(cell.program.states)
        assert set(backward.carried) <= set(shapes)
        for name, node in backward.carried.items():
            assert node.shape in (shapes[name], ())


def test_the_backward_plan_of_projections_waits_for_the_projection():
    backward = _plan(projected_lstm).backward
    assert [i for i in backward.loop if not isinstance(i, Accumulation) and i.op == "transposed_product"]
    assert {leaf.symbol for leaf in backward.results if leaf.op == "parameter"} == {
        node.symbol for node in projected_lstm.program.parameters
    }


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_backward_plan_computes_the_same_cotangents_as_the_gradient(cell):
    from unrolled.ir.gradient import gradient

    program = cell.program
    plan, made = make_plan(program), gradient(program)
    leaves = random_leaves(program)
    sizes = {**SIZES, **program.axes}
    sizes |= {"input": sizes["hidden"]} if any(node.op == "raw" for node in program.nodes) else {}
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
            (node,) = [d for own, d in backward.results.items() if (own.op, own.attributes) == (leaf.op, leaf.attributes)]
        np.testing.assert_allclose(got[node], expected[cotangent], rtol=1e-9, atol=1e-12, err_msg=repr(leaf))
