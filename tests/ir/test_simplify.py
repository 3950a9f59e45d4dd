from __future__ import annotations

import math

import numpy as np
import pytest

from tests.ir.hard_cells import HARD_CELLS
from tests.ir.numeric import random_leaves, results_of
from unrolled.cells import all_cells
from unrolled.ir.graph import Graph, verify
from unrolled.ir.regroup import regroup_into
from unrolled.ir.show import Scope, expression
from unrolled.ir.simplify import FOLD, constant_of, filled, simplest
from unrolled.language import parse


def _simplified(right: str) -> str:
    """The simplest form of an expression of a, b (units), k (a number)."""
    text = (
        f"@cell\ndef m(a: Input['hidden'], b, *, k=0.5):\n    q = {right}\n    b = q + 7 * (W.z @ (V.i @ a)) * b * k\n"
    )
    text = text.replace("V.i @ a", "V.i @ a").replace("@cell", "@cell(axes={'V.i': 'input'})") + "    return b\n"
    program = parse(text).program.rewritten(simplest)
    return expression(program.equations[0][1], Scope.of(program), whole=True)


@pytest.mark.parametrize(
    ("written", "simplest_form"),
    [
        ("a + 0", "a"),
        ("0 + a", "a"),
        ("a - 0", "a"),
        ("a * 1", "a"),
        ("1 * a", "a"),
        ("a / 1", "a"),
        ("a * -1", "-a"),
        ("-1 * a", "-a"),
        ("-1 * -a", "a"),
        ("--a", "a"),
        ("-(-(-a))", "-a"),
        ("a + -b", "a - b"),
        ("-a + b", "b - a"),
        ("-a * b", "-(a * b)"),
        ("a * -b", "-(a * b)"),
        ("-a * -b", "a * b"),
        ("a * maximum(0, 1)", "a"),
        ("a + tanh(0)", "a"),
        ("a * relu(-3)", "a * 0"),
        ("a + minimum(2, 3) * abs(-2)", "a + 4"),
        ("a * (1 * k)", "a * k"),
    ],
)
def test_identities_and_constants_are_removed(written, simplest_form):
    assert _simplified(written) == simplest_form


@pytest.mark.parametrize("written", ["a * 0", "0 - a", "1 / a", "a / b", "a * k", "a + 1", "exp(a) * exp(b)", "a - b"])
def test_what_is_no_identity_stays(written):
    assert _simplified(written) == written


def test_a_number_is_not_taken_for_a_vector():
    graph = Graph()
    k = graph.leaf("scalar", "k", ())
    h = graph.leaf("state", "h", ("hidden",))
    spread = graph.add("spread", graph.constant(0.0), axis="hidden")
    assert simplest(graph, graph.add("add", k, spread), (k, spread)).shape == ("hidden",)
    negated = graph.add("neg", k)
    assert simplest(graph, graph.add("mul", negated, h), (negated, h)).shape == ("hidden",)
    assert simplest(graph, graph.add("add", h, negated), (h, negated)).shape == ("hidden",)


def test_a_number_at_every_unit_is_a_number_and_keeps_its_axis():
    graph = Graph()
    h = graph.leaf("state", "h", ("hidden",))
    one, zero = filled(graph, 1.0, ("hidden",)), filled(graph, 0.0, ("hidden",))
    assert simplest(graph, graph.add("mul", one, h), (one, h)) is h
    assert simplest(graph, graph.add("add", h, zero), (h, zero)) is h
    assert simplest(graph, graph.add("sub", one, one), (one, one)) is zero
    k = graph.leaf("scalar", "k", ())
    assert simplest(graph, graph.add("div", k, one), (k, one)).shape == ("hidden",)


@pytest.mark.parametrize("op", sorted(FOLD))
def test_a_folded_constant_is_what_the_operation_gives(op):
    from tests.ir.numeric import FUNCTIONS

    arity = 1 if op in ("neg", "relu", "abs", "sign", "tanh") else 2
    for values in [(-1.5, 0.5), (0.0, 0.0), (2.0, -3.0)]:
        graph = Graph()
        args = tuple(graph.constant(value) for value in values[:arity])
        folded = constant_of(simplest(graph, graph.add(op, *args), args))
        assert folded == pytest.approx(float(FUNCTIONS[op](*values[:arity])))


def test_a_division_of_constants_is_left_to_the_machine():
    assert _simplified("a * (minimum(1, 2) / maximum(0, 0))") == "a * (1 / 0)"


@pytest.mark.parametrize("cell", [*all_cells().values(), *HARD_CELLS], ids=lambda cell: cell.name)
def test_the_simplified_program_computes_the_same(cell):
    program = cell.program
    simple = program.rewritten(simplest)
    verify(simple.nodes)
    leaves = random_leaves(program)
    for got, expected in zip(results_of(simple, leaves), results_of(program, leaves), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_simplifying_twice_changes_nothing():
    for cell in HARD_CELLS:
        once = cell.program.rewritten(simplest)
        assert once.rewritten(simplest) == once


def _regrouped(right: str, early: set[str]) -> str:
    text = f"@cell\ndef m(x, a, b, c, d):\n    a = {right}\n    e = W.x @ x\n    return a, b, c, d + a\n"
    program = parse(text.replace("d + a", "d + a + b * c * a + e")).program
    graph = Graph()
    root = program.equations[0][1]
    ready = {node for node in program.nodes if node.op == "state" and node["name"] in early}
    image = regroup_into(graph, [root], lambda node: node in ready)
    verify(graph.nodes)
    scope = Scope()
    for node in graph.nodes:
        if node.op == "state":
            scope.bind(node["name"], node)
    return expression(image[root], scope, whole=True)


@pytest.mark.parametrize(
    ("written", "early", "regrouped"),
    [
        ("a + b + c", "c", "c + a + b"),
        ("a + b + c + d", "bd", "b + d + a + c"),
        ("a - b + c", "c", "c + a - b"),
        ("a - (b - c)", "c", "c + a - b"),
        ("a - (b + c)", "c", "a - c - b"),
        ("a * b * c", "c", "c * a * b"),
        ("a * (b + c) * d", "d", "d * a * (b + c)"),
        ("a + b", "b", "a + b"),
        ("a + b + c", "", "a + b + c"),
        ("a + b + c", "abc", "a + b + c"),
        ("tanh(a + b + c) + d", "c", "tanh(c + a + b) + d"),
    ],
)
def test_terms_that_wait_for_nothing_come_first(written, early, regrouped):
    assert _regrouped(written, set(early)) == regrouped


def test_regrouping_keeps_the_value():
    generator = np.random.default_rng(0)
    values = {name: float(generator.standard_normal()) for name in "abcd"}
    for written in ("a - (b - c) + d", "a - (b + c) - d", "-a - b - (c - (d - a))", "a * -b * (c * d) - a"):
        for early in ("a", "b", "cd", "bd"):
            assert math.isclose(eval(_regrouped(written, set(early)), {}, values), eval(written, {}, values))
