"""Mistakes in the signature or in @cell: their errors name the cell, quote no line, and say what to try."""

from __future__ import annotations

import math

import pytest

from unrolled.errors import CellError
from unrolled.language import cell, parse, tanh


def _as_function(source):
    exec("from unrolled.language import *\n" + source, {})


HEAD = {
    "an unknown key of init": (
        "(init={'b.ff': 1.0})",
        "x, h",
        r"init names 'b\.ff', which the cell does not have\. Did you mean b\.f\?",
    ),
    "an unknown key of axes": ("(axes={'V.q': 'input'})", "x, h", "axes names 'V.q', which the cell does not have"),
    "an axis for a family": ("(axes={'U': 'input'})", "x, h", "axes names 'U', which cannot have one"),
    "an unknown key of structure": (
        "(structure={'U.ff': diagonal()})",
        "x, h",
        r"structure names 'U\.ff', which the cell does not have\. Did you mean U\.f\?",
    ),
    "a structure of a bias": (
        "(structure={'b.f': diagonal()})",
        "x, h",
        "structure names 'b.f', which cannot have one",
    ),
    "an unknown key of initial": (
        "(initial={'hh': 1.0})",
        "x, h",
        r"initial names 'hh', which is no state\. Did you mean h\?",
    ),
    "an unknown keyword": (
        "(initialise={'b.f': 1.0})",
        "x, h",
        r"@cell has no keyword 'initialise'\. Did you mean initial\?",
    ),
    "a source that is no text": ("(source=1)", "x, h", "source is a text, not 1"),
    "an init that is no dictionary": ("(init=1)", "x, h", "init is a dictionary by name, not 1"),
    "an unknown initialiser": (
        "(init={'W': 'gloro'})",
        "x, h",
        r"init gives 'W' 'gloro', which is no initialiser\. Did you mean glorot\?",
    ),
    "an initial value that is no number": ("(initial={'h': 'one'})", "x, h", "initial gives 'h' a number, not 'one'"),
    "an axis that nothing names": (
        "(axes={'V.f': 'contxt'})",
        "x, h, *, context=3",
        r"no axis 'contxt'\. Did you mean context\?",
    ),
    "a structure of no whole number": ("(structure={'U.f': low_rank(0)})", "x, h", "takes a positive integer"),
    "a structure of an unknown hyperparameter": (
        "(structure={'U.f': block_diagonal('heads')})",
        "x, h",
        r"structure block_diagonal\('heads'\): takes a positive integer",
    ),
    "a wrong annotation": ("", "x, h: int", "annotate with State"),
    "an annotation without an axis": ("", "x, h: State", "annotate with State"),
    "an annotation by number": (
        "",
        "x, h: State[3]",
        r"State\[…\] takes the name of an axis, or \(\) for a number, not 3",
    ),
    "a quoted annotation that is none": ("", "x, h: 'Stat[3]'", "annotate with State"),
    "a quoted annotation that cannot be read": ("", "x, h: 'State['", "annotate with State"),
    "an unknown axis": (
        "",
        "x, h, c: State['contxt'], *, context=3",
        r"there is no axis 'contxt'\. Did you mean context\?\n  An axis of its own size is an integer",
    ),
    "a first argument that is a state": (
        "",
        "x: State['hidden'], h",
        "the first argument, x, is the input, not a state",
    ),
    "no state": ("", "x", "has no state"),
    "no argument": ("", "", "needs an input and a state"),
    "a state with a default": ("", "x, h=0", "positional without default"),
    "a hyperparameter without a default": ("", "x, h, *, k", "stand after * and have one".replace("*", r"\*")),
    "an axis without units": ("", "x, h, c: State['k'], *, k=0", "the axis k needs a size of at least 1, not 0"),
    "a hyperparameter called as an axis": (
        "",
        "x, h, *, hidden=3",
        "hidden is the name of an axis that the layer sets",
    ),
}


@pytest.mark.parametrize("reader", ["function", "text"])
@pytest.mark.parametrize("name", HEAD)
def test_a_mistake_in_the_head_names_the_cell_and_what_to_try(name, reader):
    options, arguments, says = HEAD[name]
    source = f"@cell{options}\ndef mine({arguments}):\n    h = tanh(W.f @ x + U.f @ h + b.f)\n    return h\n"
    read = parse if reader == "text" else _as_function
    with pytest.raises(CellError, match=says) as caught:
        read(source)
    # Python itself evaluates State[3], before there is a cell.
    assert "mine" in str(caught.value) or (reader, name) == ("function", "an annotation by number")


def test_a_lambda_is_no_cell():
    with pytest.raises(CellError, match="a cell has a name"):
        cell(lambda x, h: tanh(h))


def test_an_annotation_that_cannot_be_read_names_the_cell():
    namespace = {"cell": cell, "tanh": tanh}
    with pytest.raises(CellError, match="cell 'mine': an annotation cannot be read, name 'Stat' is not defined"):
        exec("from __future__ import annotations\n@cell\ndef mine(x, h: Stat['c']):\n    return h", namespace)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rat": 0.5}, r"cell 'mine' has no hyperparameter 'rat'\. Did you mean rate\?"),
        ({"rate": "fast"}, "hyperparameter rate of cell 'mine' is a float, not 'fast'"),
        ({"depth": 2.5}, "hyperparameter depth of cell 'mine' is a int, not 2.5"),
        ({"depth": True}, "hyperparameter depth of cell 'mine' is a int, not True"),
        ({"rate": math.inf}, "hyperparameter rate is inf, not a finite number"),
    ],
)
def test_a_wrong_hyperparameter_is_named(changes, says):
    text = (
        "@cell\ndef mine(x, h, *, rate=0.5, depth=2):\n    for k in range(depth):\n"
        "        h = rate * h + U.h[k] @ h + W.h @ x\n    return h"
    )
    with pytest.raises(CellError, match=says):
        parse(text).configure(**changes)
