from __future__ import annotations

from dataclasses import replace

import pytest

from tests.ir.hard_cells import HARD_CELLS, clockwork
from unrolled.cells import all_cells, get
from unrolled.errors import CellError, ShapeError
from unrolled.ir.program import bind, loads, verify_program
from unrolled.language import parse

CELLS = [*all_cells().values(), *HARD_CELLS]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_program_written_as_json_reads_back_equal(cell):
    again = loads(cell.program.dumps())
    assert again == cell.program
    assert hash(again) == hash(cell.program)
    assert again.dumps() == cell.program.dumps()


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_the_verifier_accepts_every_cell(cell):
    verify_program(cell.program)


@pytest.mark.parametrize(
    "change", ["name", "source", "doc", "init", "initial", "equations", "scalars", "axes", "results"]
)
def test_programs_that_differ_in_one_field_are_unequal(change):
    program = get("lstm").program
    other = {
        "name": "other",
        "source": "other",
        "doc": "other",
        "init": {},
        "initial": {"c": 1.0},
        "equations": program.equations[:-1],
        "scalars": {"alpha": 1.0},
        "axes": {"heads": 2},
        "results": program.results[::-1],
    }
    assert replace(program, **{change: other[change]}) != program


def test_a_program_equals_no_other_kind_of_thing():
    assert get("lstm").program != "lstm"


def test_the_order_in_which_nodes_were_made_does_not_show():
    one = parse("@cell\ndef m(x, h):\n    a = tanh(h)\n    h = W.h @ x + a\n    return h")
    other = parse("@cell\ndef m(x, h):\n    a = tanh(h)\n    h = W.h @ x + tanh(h)\n    return h")
    assert one == other


def test_a_name_means_its_last_value():
    program = parse("@cell\ndef m(x, h):\n    a = tanh(h)\n    a = W.h @ x + a\n    return a").program
    assert program.tap("a").op == "add"
    assert program.tap("h") is program.tap("a")


def test_an_unknown_tap_names_the_nearest():
    with pytest.raises(CellError, match=r"cell 'lstm' has no value named 'ff'. Did you mean f\?"):
        get("lstm").program.tap("ff")


def test_the_verifier_counts_the_next_states():
    program = get("lstm").program
    with pytest.raises(CellError, match="returns 1 values for 2 states"):
        verify_program(replace(program, results=program.results[:1]))


def test_the_verifier_compares_the_axes_of_the_next_states():
    program = get("lstm").program
    with pytest.raises(ShapeError, match="state c is"):
        verify_program(replace(program, states=(program.states[0], ("c", ("context",)))))


def test_raw_stays_itself_where_the_sizes_agree_and_becomes_a_map_where_not():
    same = bind(get("mut1").program, {"input": 5, "hidden": 5})
    other = bind(get("mut1").program, {"input": 4, "hidden": 5})
    assert "W.raw" not in {node.symbol for node in same.parameters}
    assert "W.raw" in {node.symbol for node in other.parameters}
    assert not any(node.op == "raw" for node in other.nodes)


@pytest.mark.parametrize(
    ("text", "sizes", "message"),
    [
        (
            "@cell(structure={'U.h': diagonal(), 'W.h': diagonal()})\n"
            "def m(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h",
            {"input": 3, "hidden": 4},
            r"cell 'm': structure diagonal\(\): a diagonal map is square, not 4 x 3",
        ),
        (
            "@cell(structure={'U.h': block_diagonal(3)})\ndef m(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h",
            {"input": 3, "hidden": 4},
            "3 blocks do not divide a map of 4 x 4",
        ),
        (
            "@cell(structure={'U.h': low_rank(5)})\ndef m(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h",
            {"input": 3, "hidden": 4},
            "rank 5 is above that of a map of 4 x 4",
        ),
        (
            "@cell\ndef m(x, h):\n    h = W.h @ x + h * repeat(x)\n    return h",
            {"input": 3, "hidden": 4},
            r"repeat: 3 \(input\) does not divide 4 \(hidden\)",
        ),
        (
            "@cell\ndef m(x, h):\n    h = W.h @ x + h * tick((1, 2, 3))\n    return h",
            {"input": 3, "hidden": 4},
            "tick: 3 modules do not divide 4 units",
        ),
    ],
    ids=["square", "divide", "rank", "repeat", "tick"],
)
def test_binding_refuses_sizes_that_do_not_fit(text, sizes, message):
    with pytest.raises(ShapeError, match=message):
        bind(parse(text).program, sizes)


def test_only_a_cell_with_tick_reads_the_clock():
    assert clockwork.program.uses_clock
    assert not get("lstm").program.uses_clock


def test_scalars_keep_the_order_of_the_signature_through_text() -> None:
    cell = parse("@cell\ndef two(x, h, *, zeta=0.9, alpha=0.1):\n    h = zeta * h + alpha * (W.h @ x)\n    return h")
    assert list(loads(cell.program.dumps()).scalars.items()) == [("zeta", 0.9), ("alpha", 0.1)]
