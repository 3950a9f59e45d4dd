from __future__ import annotations

import pytest

from tests.cells.texts import MINE
from unrolled.cells import all_cells, get, resolve
from unrolled.ir.plan import groups_of
from unrolled.ir.program import bind
from unrolled.ir.structure import STRUCTURES
from unrolled.ir.summary import ENTRIES, Formula, flop_formula, parameter_formula, summary, typical_plan
from unrolled.language import parse

MANY_STRUCTURES = """\
@cell(axes={"V.q": "slots", "V.k": "slots", "V.m": "hidden", "b.q": "slots"}, structure={
    "U.a": diagonal(), "U.c": block_diagonal(4), "U.d": block_triangular((1, 2, 4)), "U.e": antisymmetric(),
    "U.f": low_rank(2)})
def many(x, h, m: State["slots"], *, slots=6):
    a = U.a @ h + U.c @ h + U.d @ h + U.e @ h + U.f @ h
    m = m * s.decay + V.q @ x + V.k @ h + b.q
    h = tanh(raw(x) + a + V.m @ m + p.h * h)
    return h, m
"""


def counted(cell: str, sizes: dict[str, int]) -> int:
    program = bind(resolve(cell).program, sizes)
    total = 0
    for group in groups_of(program):
        axes = [sizes[name] for name in group.shape]
        each = group.structure.count(*axes) if len(axes) == 2 else axes[0] if axes else 1
        total += each * len(group.names)
    return total


@pytest.mark.parametrize("name", all_cells())
@pytest.mark.parametrize("sizes", [(3, 24), (48, 24), (120, 240)], ids=lambda sizes: f"I{sizes[0]}-H{sizes[1]}")
def test_the_formula_counts_the_parameters_of_every_cell(name: str, sizes: tuple[int, int]) -> None:
    program = get(name).program
    at = {**program.axes, "input": sizes[0], "hidden": sizes[1]}
    assert parameter_formula(typical_plan(program)).at(at) == counted(name, at)


@pytest.mark.parametrize("hidden", [12, 24, 60])
def test_the_formula_counts_what_structured_maps_store(hidden: int) -> None:
    program = parse(MANY_STRUCTURES).program
    at = {"slots": 6, "input": 7, "hidden": hidden}
    assert parameter_formula(typical_plan(program)).at(at) == counted(MANY_STRUCTURES, at)


def test_every_structure_has_a_formula() -> None:
    assert set(ENTRIES) == set(STRUCTURES)


@pytest.mark.parametrize(
    ("cell", "formula"),
    [
        ("lstm", "4·hidden·(input + hidden + 1)"),
        ("gru", "hidden·(3·input + 3·hidden + 4)"),
        ("peephole-lstm", "hidden·(4·input + 4·hidden + 7)"),
        (MINE.replace("W.h @ x", "p.h * raw(x)"), "hidden·(input + hidden + 1)"),
        (MINE.replace("W.h @ x", "W.h @ (s.k * x)"), "hidden·(input + hidden) + 1"),
        (
            '@cell(structure={"U.h": antisymmetric()})\ndef anti(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h',
            "hidden·(2·input + hidden - 1)/2",
        ),
    ],
)
def test_formulas_read_as_they_are_written_by_hand(cell: str, formula: str) -> None:
    assert str(parameter_formula(typical_plan(resolve(cell).program))) == formula


@pytest.mark.parametrize(
    ("cell", "formula"),
    [
        ("lstm", "hidden·(8·input + 8·hidden + 17)"),  # 8 products, 2 + 1 a gate, 3 for c, 2 for h
        ("elman", "hidden·(2·input + 2·hidden + 3)"),
        # p.h * p.k is computed once a call, and raw is a map where the sizes differ.
        (MINE.replace("W.h @ x", "p.h * p.k * raw(x)"), "hidden·(2·input + 2·hidden + 3)"),
        (
            '@cell(structure={"U.h": antisymmetric()})\ndef anti(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h',
            "2·hidden·(input + hidden)",  # the zeros of the diagonal are left out
        ),
        ('@cell(structure={"U.h": diagonal()})\ndef own(x, h):\n    h = W.h @ x + U.h @ h\n    return h', None),
    ],
)
def test_operations_are_two_for_an_entry_of_a_map_and_one_for_a_unit(cell: str, formula: str | None) -> None:
    assert str(flop_formula(typical_plan(resolve(cell).program))) == (formula or "2·hidden·(input + 1)")


def test_an_empty_formula_is_zero() -> None:
    assert str(Formula({})) == "0"


def test_the_summary_tells_what_each_map_reads_and_when() -> None:
    rows = [" ".join(row.split()) for row in summary(get("gru-cho").program).splitlines()]
    assert "U[g] @ (r * h) hidden² stage 2" in rows
    assert "W[r, z, g] @ x 3·hidden·input over all time" in rows
    assert "stages 2" in rows


def test_the_summary_writes_an_operand_by_the_name_that_it_has_there() -> None:
    cell = parse(MINE.replace("    return h", "    h = h + U.k @ h\n    return h"))
    assert "U[h] @ h " in summary(cell.program)
    assert "U[k] @ h " in summary(cell.program)
