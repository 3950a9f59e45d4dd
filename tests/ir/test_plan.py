from __future__ import annotations

import numpy as np
import pytest

from tests.ir.hard_cells import (
    HARD_CELLS,
    clockwork,
    context_units,
    irregular,
    mogrifier_lstm,
    recurrent_highway,
)
from tests.ir.numeric import SIZES, random_leaves, results_of
from unrolled.cells import all_cells, get
from unrolled.errors import CellError
from unrolled.ir.graph import Node, reachable, verify
from unrolled.ir.plan import Plan, make_plan, plan_of_key
from unrolled.ir.plan_text import plan_text
from unrolled.ir.program import bind
from unrolled.language import Cell, parse

CELLS = list({cell.name: cell for cell in [*all_cells().values(), *HARD_CELLS]}.values())


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
    assert plan_text(again) == plan_text(plan)


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
    plan = _plan(get("lstm-fgr"))
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
            options="structure={'U.c': antisymmetric()}",
        )
    )
    (stage,) = plan.stages
    assert [_symbols(p.maps) for p in stage.products] == [["U.a", "U.d"], ["U.c"]]
    assert _group_keys(plan) == ["U.a_d", "U.c", "W.x"]


def test_a_diagonal_map_is_no_product_but_multiplies_each_unit():
    plan = _plan(
        _cell(
            """h = U.h @ h + W.x @ x
            return h""",
            options="structure={'U.h': diagonal()}",
        )
    )
    assert [stage.products for stage in plan.stages] == [()]
    assert tuple(plan.linear) == ("h",)
    assert _group_keys(plan) == ["U.h", "W.x"]


def test_kernels_are_shared_by_cells_that_differ_in_what_no_kernel_depends_on():
    def plan(alpha: float, name: str) -> Plan:
        text = (
            f"@cell(init={{'b.h': {alpha}}})\ndef {name}(x, h, *, alpha={alpha}):\n"
            f"    h = alpha * tanh(W.h @ x + U.h @ h + b.h)\n    return h"
        )
        return make_plan(bind(parse(text).program, SIZES))

    assert plan(0.5, "one").key == plan(0.25, "other").key


def test_a_reduction_over_units_ends_a_stage():
    plan = _plan(get("layer-norm-lstm-per-gate"))
    kinds = [(len(stage.products), [node.op for node in stage.reductions]) for stage in plan.stages]
    assert kinds == [(1, []), (0, ["layer_norm"] * 4), (0, ["layer_norm"])]


def test_reductions_of_the_input_are_hoisted():
    assert [node.op for node in _plan(get("layer-norm-lstm")).hoisted].count("sum") == 2


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
    plan = _plan(get("qrnn"))
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


@pytest.mark.parametrize("cell", [get("lstm"), get("elman"), clockwork, get("mut1")], ids=lambda cell: cell.name)
def test_a_recurrence_with_a_product_is_not_linear(cell):
    assert not _plan(cell).linear


def test_a_linear_element_wise_recurrence_is_recognised():
    assert tuple(_plan(get("mingru")).linear) == ("h",)
    assert tuple(_plan(get("qrnn")).linear) == ("c",)


@pytest.mark.parametrize(
    ("body", "arguments", "linear"),
    [
        ("h = sigmoid(W.f @ x) * h + W.g @ x\nreturn h", "x, h", ("h",)),
        ("h = h / softplus(W.f @ x) - W.g @ x\nreturn h", "x, h", ("h",)),
        ("h = where(W.f @ x > 0, h, W.g @ x)\nreturn h", "x, h", ("h",)),
        ("h = h * h + W.g @ x\nreturn h", "x, h", ()),
        ("h = tanh(h) + W.g @ x\nreturn h", "x, h", ()),
        ("h = where(h > 0, h, W.g @ x)\nreturn h", "x, h", ()),
        ("h = where(h > 0, W.f @ x, W.g @ x) + p.a * h\nreturn h", "x, h", ()),
        ("h = where(p.a * h, W.f @ x, W.g @ x) + h\nreturn h", "x, h", ()),
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
    assert tuple(_plan(_cell(body, arguments)).linear) == linear


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
