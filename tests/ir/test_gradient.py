from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.ir import numeric
from tests.ir.hard_cells import HARD_CELLS, context_units, recurrent_highway
from unrolled.cells import all_cells, get
from unrolled.ir.gradient import RULES, cotangents_between, differentiate, gradient, gradient_text
from unrolled.ir.graph import Graph, verify
from unrolled.ir.ops import LAYER_NORM_EPSILON, OPERATIONS
from unrolled.language import parse

CELLS = [*all_cells().values(), *HARD_CELLS]
HIDDEN = ("hidden",)

# Operation -> the axes of its arguments and its attributes; every rule stands here, on vectors and beside numbers.
CASES: dict[str, list[tuple[list[tuple[str, ...]], dict[str, Any]]]] = {
    **{op: [([HIDDEN], {}), ([()], {})] for op in ("neg", "relu", "abs", "sign", "sigmoid", "tanh", "exp", "softplus")},
    **{op: [([HIDDEN], {})] for op in ("log", "sqrt", "softmax", "cumsum", "cumsum_reversed", "sum")},
    **{
        op: [([HIDDEN, HIDDEN], {}), ([HIDDEN, ()], {}), ([(), HIDDEN], {}), ([(), ()], {})]
        for op in ("add", "sub", "mul", "div", "minimum", "maximum", "less", "less_equal", "equal")
    },
    "where": [([HIDDEN, HIDDEN, HIDDEN], {}), ([HIDDEN, (), HIDDEN], {}), ([(), HIDDEN, ()], {})],
    "layer_norm": [([HIDDEN], {"epsilon": LAYER_NORM_EPSILON}), ([HIDDEN], {"epsilon": 0.1})],
    "inverse_deviation": [([HIDDEN], {"epsilon": 0.1})],
    "spread": [([()], {"axis": "hidden"})],
    "repeat": [([("short",)], {"axis": "hidden"})],
    "fold": [([HIDDEN], {"axis": "short"})],
    "raw": [([("same",)], {"axis": "hidden"})],
    "product": [([("hidden", "input"), ("input",)], {})],
    "transposed_product": [([("hidden", "input"), HIDDEN], {})],
    "outer": [([HIDDEN, ("input",)], {})],
}
SIZES = {**numeric.SIZES, "short": 3, "same": 6}


def test_every_operation_is_differentiated_in_these_tests():
    assert set(CASES) == set(RULES)


def _weighted(values: Any, weights: Any) -> float:
    return float(np.sum(np.asarray(values) * weights))


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [pytest.param(op, *case, id=f"{op}-{number}") for op, cases in CASES.items() for number, case in enumerate(cases)],
)
def test_a_rule_gives_the_slope_of_its_operation(op, shapes, attributes):
    graph = Graph()
    args = [graph.leaf("state", f"a{index}", shape) for index, shape in enumerate(shapes)]
    node = graph.add(op, *args, **attributes)
    seed = graph.leaf("sequence", "seed", node.shape)
    found = differentiate(graph, [(node, seed)], lambda leaf: leaf.op == "state")
    verify(graph.nodes)
    random = np.random.default_rng(3)
    leaves = {
        f"state a{index}": 0.3 + random.random([SIZES[axis] for axis in shape]) for index, shape in enumerate(shapes)
    }
    leaves["sequence seed"] = random.standard_normal([SIZES[axis] for axis in node.shape])
    values = numeric.evaluate([node, *found.values()], leaves, SIZES)
    for arg in args:
        key = numeric.leaf_key(arg)

        def loss(value: Any, key: str = key) -> float:
            value_of = numeric.evaluate([node], {**leaves, key: value}, SIZES)[node]
            return _weighted(value_of, leaves["sequence seed"])

        expected = numeric.finite_difference(loss, leaves[key])
        got = values[found[arg]] if arg in found else 0.0
        np.testing.assert_allclose(np.broadcast_to(got, expected.shape), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize(("op", "first"), [("minimum", 0.5), ("maximum", 0.5)])
def test_at_a_tie_each_argument_gets_half(op, first):
    graph = Graph()
    a, b = graph.leaf("state", "a", HIDDEN), graph.leaf("state", "b", HIDDEN)
    seed = graph.leaf("sequence", "seed", HIDDEN)
    found = differentiate(graph, [(graph.add(op, a, b), seed)], lambda leaf: leaf.op == "state")
    leaves = {"state a": np.ones(6), "state b": np.ones(6), "sequence seed": np.full(6, 2.0)}
    values = numeric.evaluate(found.values(), leaves)
    np.testing.assert_allclose(values[found[a]], 1.0)
    np.testing.assert_allclose(values[found[b]], 1.0)


@pytest.mark.parametrize("op", ["relu", "abs"])
def test_at_a_kink_the_slope_is_zero(op):
    graph = Graph()
    a, seed = graph.leaf("state", "a", HIDDEN), graph.leaf("sequence", "seed", HIDDEN)
    found = differentiate(graph, [(graph.add(op, a), seed)], lambda leaf: leaf.op == "state")
    values = numeric.evaluate(found.values(), {"state a": np.zeros(6), "sequence seed": np.ones(6)})
    np.testing.assert_allclose(values[found[a]], 0.0)


def test_the_rules_of_the_gradient_s_own_operations_are_there_for_a_second_gradient():
    internal = {name for name, row in OPERATIONS.items() if row.internal}
    assert internal <= set(RULES)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_gradient_of_a_cell_is_that_of_finite_differences(cell):
    program = cell.program
    made = gradient(program)
    verify(made.graph.nodes)
    sizes = numeric.sizes_of(program)
    leaves = numeric.random_leaves(program)
    random = np.random.default_rng(5)
    seeds = {name: random.standard_normal([sizes[axis] for axis in shape]) for name, shape in program.states}
    given = leaves | {f"sequence d_{name}": value for name, value in seeds.items()}
    values = numeric.evaluate(made.cotangents.values(), given, sizes)

    for leaf, cotangent in made.cotangents.items():
        key = numeric.leaf_key(leaf)

        def loss(value: Any, key: str = key) -> float:
            states = numeric.results_of(program, {**leaves, key: value})
            return sum(_weighted(state, seed) for state, seed in zip(states, seeds.values(), strict=True))

        expected = numeric.finite_difference(loss, leaves[key])
        np.testing.assert_allclose(values[cotangent], expected, atol=2e-8, rtol=1e-5, err_msg=key)


def test_what_no_output_depends_on_has_no_cotangent():
    graph = Graph()
    a, b = graph.leaf("state", "a", HIDDEN), graph.leaf("state", "b", HIDDEN)
    seed = graph.leaf("sequence", "seed", HIDDEN)
    found = differentiate(graph, [(graph.add("tanh", a), seed)], lambda leaf: leaf.op == "state")
    assert a in found
    assert b not in found


def test_a_tap_brings_a_cotangent_of_its_own():
    made = gradient(get("lstm").program, ("f",))
    assert set(made.seeds) == {"h", "c", "tap_f"}
    assert made.seeds["tap_f"] in made.flowing[made.image[get("lstm").program.tap("f")]].args


def test_all_cotangents_between_seed_and_leaf_can_be_had():
    graph = Graph()
    a, seed = graph.leaf("state", "a", HIDDEN), graph.leaf("sequence", "seed", HIDDEN)
    inner = graph.add("tanh", a)
    outer = graph.add("exp", inner)
    found = cotangents_between(graph, [(outer, seed)], lambda leaf: leaf is a)
    assert list(found) == [a, inner, outer]
    assert found[outer] is seed


NAMESPACE = {
    **{name: numeric.FUNCTIONS[name] for name in ("sigmoid", "tanh", "exp", "log", "sqrt", "softplus", "softmax")},
    **{name: numeric.FUNCTIONS[name] for name in ("where", "relu", "sign", "minimum", "maximum", "outer", "cumsum")},
    "layer_norm": numeric._layer_norm,
    "inverse_deviation": numeric.inverse_deviation,
    "transpose": np.transpose,
    "sum": np.sum,
    "mean": np.mean,
    "raw": lambda x, axis="hidden": x,
}


def _as_python(line: str) -> str:
    """A printed equation with symbols as look-ups: d_W.f becomes gradient['W.f'], U.h[0] becomes symbol['U.h[0]']."""
    line = re.sub(r"\bd_([WUVbps]\.\w+(?:\[\d+\])*)", r"gradient['\1']", line)
    line = re.sub(r"(?<!')\b([WUVbps])\.(\w+(?:\[\d+\])*)", r"symbol['\1.\2']", line)
    line = re.sub(r"size\(('\w+')\)", r"size[\1]", line)
    return re.sub(r"tick\((\(.*?\))\)", r"tick[\1]", line).replace(" += ", " = ")


def _printed_gradients(cell: Any, leaves: dict[str, Any], seeds: dict[str, Any]) -> dict[str, Any]:
    """What the printed gradient computes, its lines run one after the other."""
    program = cell.program
    names: dict[str, Any] = {**NAMESPACE, "symbol": {}, "gradient": {}, "tick": {}}
    names["size"] = sizes = numeric.sizes_of(program)
    names["spread"] = lambda number, axis: np.full(sizes[axis], number)
    for key, value in leaves.items():
        kind, _, name = key.partition(" ")
        if not name:
            names["symbol"][key] = value
        elif kind == "tick":
            names["tick"][eval(name)] = value
        else:
            names[f"{name}_before" if kind == "state" else name] = value
    names |= {f"d_{state}_after": value for state, value in seeds.items()}
    text = gradient_text(program)
    forward_is_printed = len(text.split("\n\n")) == 3
    if not forward_is_printed:
        values = numeric.evaluate([node for _, node in program.equations], leaves, numeric.sizes_of(program))
        names |= {name: values[node] for name, node in program.equations}
    assigned: set[str] = set()
    for line in filter(None, text.split("\n")):
        target = line.split(" ")[0]
        assert target not in assigned | set(names), f"{target} is given a value twice"
        assigned.add(target)
        exec(_as_python(line), names)
    return names


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_printed_gradient_computes_the_gradient(cell):
    program = cell.program
    leaves = numeric.random_leaves(program)
    sizes = numeric.sizes_of(program)
    random = np.random.default_rng(5)
    seeds = {name: random.standard_normal([sizes[axis] for axis in shape]) for name, shape in program.states}
    names = _printed_gradients(cell, leaves, seeds)
    for key, value in leaves.items():
        kind, _, name = key.partition(" ")
        if kind in ("scalar", "tick"):
            continue

        def loss(changed: Any, key: str = key) -> float:
            states = numeric.results_of(program, {**leaves, key: changed})
            return sum(_weighted(state, seed) for state, seed in zip(states, seeds.values(), strict=True))

        expected = numeric.finite_difference(loss, value)
        got = names["gradient"][key] if not name else names[f"d_{name}_before" if kind == "state" else f"d_{name}"]
        np.testing.assert_allclose(got, expected, atol=2e-8, rtol=1e-5, err_msg=key)


def test_the_printed_gradient_of_the_lstm_reads_as_a_textbook_has_it():
    assert gradient_text(get("lstm").program).startswith(
        "d_net_o = d_h_after * tanh(c) * (o * (1 - o))\n"
        "d_c = d_c_after + d_h_after * o * (1 - tanh(c) * tanh(c))\n"
        "d_net_g = d_c * i * (1 - g * g)\n"
        "d_net_i = d_c * g * (i * (1 - i))\n"
        "d_net_f = d_c * c_before * (f * (1 - f))\n"
        "\n"
        "d_x = transpose(W.g) @ d_net_g + transpose(W.i) @ d_net_i"
    )


def test_the_printed_gradient_of_cho_s_gru_names_what_the_candidate_reads():
    text = gradient_text(get("gru-cho").program)
    assert "d_read_g = transpose(U.g) @ d_net_g\n" in text
    assert "d_U.g += outer(d_net_g, r * h_before)\n" in text


def test_where_a_name_is_given_twice_the_printed_gradient_numbers_the_values():
    text = gradient_text(recurrent_highway.program)
    assert "t_2 = sigmoid(q_3)\n" in text
    assert "d_a_3 = d_h_2 * t_2 * (1 - tanh(a_3) * tanh(a_3))\n" in text


def test_the_printed_gradient_keeps_values_and_seeds_of_one_name_apart():
    text = gradient_text(context_units.program)
    assert "d_s = d_s_after + transpose(V.h) @ d_net_h\n" in text
    assert "d_s_before = d_s * alpha\n" in text


def test_a_value_called_as_the_old_state_would_be_gets_a_number():
    cell = parse("@cell\ndef m(x, h):\n    h_before = tanh(W.h @ x)\n    h = h * h_before\n    return h")
    assert "d_h_before = d_h_after * h_before_1\n" in gradient_text(cell.program)
