from __future__ import annotations

import pytest

from tests.ir import numeric
from unrolled.backends import maps, operations
from unrolled.errors import ShapeError
from unrolled.ir import latex
from unrolled.ir.gradient import RULES
from unrolled.ir.ops import OPERATIONS
from unrolled.ir.simplify import FOLD
from unrolled.ir.structure import STRUCTURES
from unrolled.language.functions import FUNCTIONS
from unrolled.language.values import language_operations

COMPUTED = {name for name, row in OPERATIONS.items() if row.kind != "leaf"}
PRODUCTS = {name for name, row in OPERATIONS.items() if row.kind == "map"}
TABLES = {
    "the derivative, ir.gradient.RULES": set(RULES),
    "LaTeX, ir.latex.ROWS": set(latex.ROWS),
    "torch, backends.operations.OPERATIONS with backends.maps.MAPS": set(operations.OPERATIONS) | PRODUCTS,
    "numpy, tests.ir.numeric": {
        *numeric.FUNCTIONS,
        *("layer_norm", "inverse_deviation", "spread", "repeat", "fold", "raw"),
    },
}


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_a_row_for_every_operation_and_no_other(table):
    missing, foreign = COMPUTED - TABLES[table], TABLES[table] - COMPUTED
    assert not missing, f"{table} has no row for {', '.join(sorted(missing))}"
    assert not foreign, f"{table} has rows for what is no operation: {', '.join(sorted(foreign))}"


def test_the_torch_table_leaves_exactly_the_products_to_the_maps():
    assert COMPUTED - set(operations.OPERATIONS) == PRODUCTS
    assert set(maps.MAPS) == set(STRUCTURES)


def test_every_row_of_the_maps_multiplies_in_all_three_ways():
    for name, row in maps.MAPS.items():
        assert callable(row.product), name
        assert callable(row.transposed), name
        assert callable(row.gradient), name


def test_constants_fold_only_through_operations():
    assert set(FOLD) <= COMPUTED


def test_every_operation_of_the_language_can_be_called_by_its_name():
    assert set(language_operations()) <= set(FUNCTIONS)


def test_operations_that_only_the_gradient_makes_are_not_offered_to_cells():
    internal = {name for name, row in OPERATIONS.items() if row.internal}
    assert not internal & set(FUNCTIONS)
    assert not internal & set(language_operations())
    assert "inverse_deviation" in internal


HIDDEN, INPUT, NUMBER, MAP = ("hidden",), ("input",), (), ("hidden", "input")


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "expected"),
    [
        ("add", (HIDDEN, HIDDEN), {}, HIDDEN),
        ("mul", (NUMBER, HIDDEN), {}, HIDDEN),
        ("sub", (NUMBER, NUMBER), {}, NUMBER),
        ("where", (HIDDEN, NUMBER, NUMBER), {}, HIDDEN),
        ("softmax", (INPUT,), {}, INPUT),
        ("sum", (HIDDEN,), {}, NUMBER),
        ("spread", (NUMBER,), {"axis": "hidden"}, HIDDEN),
        ("repeat", (INPUT,), {"axis": "hidden"}, HIDDEN),
        ("raw", (INPUT,), {"axis": "hidden"}, HIDDEN),
        ("product", (MAP, INPUT), {}, HIDDEN),
        ("transposed_product", (MAP, HIDDEN), {}, INPUT),
        ("outer", (HIDDEN, INPUT), {}, MAP),
    ],
)
def test_an_operation_gives_the_axes_of_its_rule(op, shapes, attributes, expected):
    assert OPERATIONS[op].shape(shapes, attributes) == expected


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("add", (HIDDEN, INPUT), {}),
        ("where", (HIDDEN, INPUT, NUMBER), {}),
        ("softmax", (NUMBER,), {}),
        ("cumsum", (MAP,), {}),
        ("spread", (HIDDEN,), {"axis": "hidden"}),
        ("product", (MAP, HIDDEN), {}),
        ("transposed_product", (MAP, INPUT), {}),
        ("outer", (HIDDEN, NUMBER), {}),
    ],
)
def test_an_operation_refuses_axes_that_its_rule_does_not_take(op, shapes, attributes):
    with pytest.raises(ShapeError):
        OPERATIONS[op].shape(shapes, attributes)
