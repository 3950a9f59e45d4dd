from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ir.numeric import evaluate, random_leaves, results_of, sizes_of
from tests.language.random_cells import cell_texts
from unrolled.ir.gradient import gradient, gradient_text
from unrolled.ir.graph import verify
from unrolled.ir.plan import make_plan
from unrolled.ir.plan_text import plan_text
from unrolled.ir.program import loads, verify_program
from unrolled.ir.simplify import simplest
from unrolled.language import Cell, parse

few = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def by_python(text: str) -> Cell:
    """The cell that Python makes of the text, with no source to look names up in."""
    namespace: dict[str, object] = {}
    exec("from unrolled.language import *\n" + text, namespace)
    made = namespace["made"]
    assert isinstance(made, Cell)
    return made


@few
@given(cell_texts())
def test_a_random_cell_prints_and_parses_back_to_the_same_program(text):
    cell = parse(text)
    verify_program(cell.program)
    assert parse(cell.text) == cell
    assert parse(cell.text).text == cell.text
    assert loads(cell.program.dumps()) == cell.program
    assert pickle.loads(pickle.dumps(cell)) == cell


@few
@given(cell_texts())
def test_the_grammar_reads_what_python_runs(text):
    assert by_python(text) == parse(text)


@few
@given(cell_texts(), st.integers(0, 9))
def test_simplifying_and_planning_a_random_cell_keep_its_values(text, seed):
    program = parse(text).program
    leaves = random_leaves(program, seed)
    expected = results_of(program, leaves)
    simple = program.rewritten(simplest)
    assert simple.rewritten(simplest) == simple
    for other in (simple, make_plan(program).program):
        verify(other.nodes)
        for got, wanted in zip(results_of(other, leaves), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-9)


@settings(few, max_examples=20)
@given(cell_texts())
def test_the_gradient_and_plans_of_a_random_cell_are_well_formed(text):
    program = parse(text).program
    made = gradient(program)
    verify(made.graph.nodes)
    for leaf, cotangent in made.cotangents.items():
        assert cotangent.shape in (leaf.shape, ())
    assert gradient_text(program)
    assert plan_text(make_plan(program, tuple(program.names)))


@settings(few, max_examples=15)
@given(cell_texts())
def test_the_gradient_of_a_random_cell_points_along_its_slope(text):
    program = parse(text).program
    made = gradient(program)
    leaves, sizes = random_leaves(program, 1), sizes_of(program)
    random = np.random.default_rng(2)
    seeds = {name: random.standard_normal([sizes[axis] for axis in shape]) for name, shape in program.states}
    given_leaves = leaves | {f"sequence d_{name}": value for name, value in seeds.items()}
    values = evaluate(made.cotangents.values(), given_leaves, sizes)
    keys = {f"{leaf.op} {leaf['name']}" if leaf.op != "parameter" else leaf.symbol: leaf for leaf in made.cotangents}
    step = 1e-6
    directions = {key: random.standard_normal(np.shape(leaves[key])) for key in keys}

    def loss(sign: float) -> float:
        moved = leaves | {key: leaves[key] + sign * step * direction for key, direction in directions.items()}
        return sum(float(np.sum(a * b)) for a, b in zip(results_of(program, moved), seeds.values(), strict=True))

    slope = (loss(1) - loss(-1)) / (2 * step)
    along = sum(float(np.sum(values[made.cotangents[leaf]] * directions[key])) for key, leaf in keys.items())
    middle = loss(0)
    curvature = abs(loss(1) - 2 * middle + loss(-1)) / step
    if curvature > 1e-2 * max(1.0, abs(slope)):
        return  # a kink or a step lies within the difference
    assert along == pytest.approx(slope, rel=1e-4, abs=1e-4)
