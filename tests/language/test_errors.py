"""What a mistaken cell is told: the kind, the cell, the equation, the line, the mark under it, and what to try."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from unrolled.errors import CellError, Place, ShapeError, at, did_you_mean
from unrolled.language import (
    Input,
    State,
    U,
    V,
    W,
    b,
    cell,
    layer_norm,
    p,
    parse,
    raw,
    repeat,
    s,
    sigmoid,
    size,
    softmax,
    tanh,
    tick,
)


class Case:
    """A wrong line in a cell, as a function and as text, and what its error says."""

    def __init__(self, line, marked, kind, says, equation="g", arguments="x, h", options="", before="", text=True):
        self.line, self.marked, self.kind, self.says = line, marked, kind, says
        self.equation, self.arguments, self.options, self.before, self.text = equation, arguments, options, before, text

    def source(self):
        lines = [*([self.before] if self.before else []), self.line]
        states = ", ".join(part.split(":")[0] for part in self.arguments.split(", *")[0].split(", ")[1:])
        body = "\n".join(f"    {line}" for line in lines)
        returned = "" if self.line.startswith("return") else f"    return {states}\n"
        return f"@cell{self.options}\ndef mine({self.arguments}):\n{body}\n{returned}"

    def expected(self):
        where = "in cell 'mine'" + (f", equation {self.equation}" if self.equation else "") + ":\n"
        column = self.line.index(self.marked)
        return f"{where}    {self.line}\n    {' ' * column}{'~' * len(self.marked)}\n"


CASES = {
    "unequal axes": Case(
        "g = tanh(W.g @ x + U.g @ (f * x) + b.g)",
        "f * x",
        ShapeError,
        r"'\*' needs equal axes; f is \(hidden\), x is \(input\)\.\n  W maps inputs to the units",
        before="f = sigmoid(W.f @ x)",
    ),
    "unequal axes of a declared size": Case(
        "g = c + V.c @ x",
        "c + V.c @ x",
        ShapeError,
        r"c is \(context\), V\.c @ x is \(hidden\)\.\n  @cell\(axes=\{'V\.c': 'context'\}\) makes V\.c give",
        arguments="x, h, c: State['context'], *, context=4",
    ),
    "unequal axes behind wide letters": Case(
        "g = 게이트 + h * x",
        "h * x",
        ShapeError,
        r"'\*' needs equal axes; h is \(hidden\), x is \(input\)",
        before="게이트 = sigmoid(W.f @ x)",
    ),
    "a truth value": Case(
        "g = tanh(h) if h > 0 else h", "h > 0", CellError, "has no truth value.*\n  Choose.*where", None, text=False
    ),
    "and": Case("g = h and x", "h and x", CellError, "h has no truth value", None, text=False),
    "a chain of comparisons": Case("g = 0 < h < 1", "0 < h < 1", CellError, "has no truth value", None, text=False),
    "a power": Case("g = h ** 2", "h ** 2", CellError, r"'\*\*' is no operation of the language; write x \* x"),
    "a power of a number": Case("g = 2 ** h", "2 ** h", CellError, r"'\*\*' is no operation"),
    "a function of math": Case(
        "g = math.sin(h)", "math.sin(h)", CellError, "h has no number yet.*sigmoid, tanh", text=False
    ),
    "a function of torch": Case(
        "g = torch.cos(h)", "torch.cos(h)", CellError, "operations of a cell are .*tanh", text=False
    ),
    "an array": Case(
        "g = h * np.ones(3)",
        "h * np.ones(3)",
        CellError,
        "takes values of the cell and numbers, not ndarray",
        text=False,
    ),
    "an array on the left": Case(
        "g = np.ones(3) * h",
        "np.ones(3) * h",
        CellError,
        "takes values of the cell and numbers, not ndarray",
        text=False,
    ),
    "a method": Case(
        "g = h.tanh()", "h.tanh", CellError, r"h has no attribute 'tanh'\. Did you mean tanh\?", text=False
    ),
    "an index": Case("g = h[0]", "h[0]", CellError, "h cannot be indexed: it stands for all units at once"),
    "taking apart": Case("g, c = h", "g, c", CellError, "cannot be taken apart", text=False),
    "a name that is not there": Case("g = tahn(h)", "tahn", CellError, None, text=False),
    "W on a state": Case(
        "g = W.g @ h", "W.g @ h", ShapeError, r"W maps the input; h is \(hidden\)\.\n  Did you mean U\.g @ h\?"
    ),
    "W on a context": Case(
        "g = W.g @ c",
        "W.g @ c",
        ShapeError,
        r"c is \(context\)\.\n  Did you mean V\.g @ c\?",
        arguments="x, h, c: State['context'], *, context=4",
    ),
    "U on the input": Case(
        "g = U.g @ (x * 2)",
        "U.g @ (x * 2)",
        ShapeError,
        r"U maps what has the axis \(hidden\); x \* 2 is \(input\)\.\n  Did you mean W\.g @ \(x \* 2\)\?",
    ),
    "a map of a number": Case(
        "g = V.g @ dt", "V.g @ dt", ShapeError, "'@' maps a vector; dt is a number", arguments="x, h, dt: Input[()]"
    ),
    "a bias as a map": Case("g = b.g @ h", "b.g @ h", CellError, r"b\.g is a bias: it multiplies with '\*', not '@'"),
    "a map without a product": Case("g = h + W.g", "h + W.g", CellError, r"W\.g is a map: write W\.g @ …"),
    "a map without a name": Case("g = U @ h", "U @ h", CellError, r"U needs a name: U\.h @ …", text=False),
    "a map on the right": Case("g = h @ U.g", "h @ U.g", CellError, "'@' needs a map on its left"),
    "a symbol at two shapes": Case(
        "g = V.g @ x + V.g @ h",
        "V.g @ h",
        ShapeError,
        r"V\.g is used at two shapes: \(hidden x input\) before, \(hidden x hidden\) here\.\n  Give the second",
    ),
    "a bias at two shapes": Case(
        "g = x * b.g", "x * b.g", ShapeError, r"b\.g is used at two shapes: \(hidden\) before", before="f = h + b.g"
    ),
    "a subscript": Case("g = U.g['a'] @ h", "U.g['a']", CellError, "subscripted by integers, not 'a'"),
    "units of a number": Case(
        "g = softmax(dt)",
        "softmax(dt)",
        ShapeError,
        "softmax works over the units; dt is a number",
        arguments="x, h, dt: Input[()]",
    ),
    "repeat of the whole axis": Case("g = repeat(h)", "repeat(h)", ShapeError, r"h is \(hidden\) already"),
    "an axis that is not there": Case(
        "g = repeat(x, 'hiden')",
        "repeat(x, 'hiden')",
        ShapeError,
        "there is no axis 'hiden'; the cell has hidden, input",
    ),
    "raw to an axis that is not there": Case("g = raw(x, 'q')", "raw(x, 'q')", ShapeError, "there is no axis 'q'"),
    "a size that is not there": Case("g = h / size('q')", "size('q')", ShapeError, "size: there is no axis 'q'"),
    "periods": Case("g = h * tick((0, 1))", "tick((0, 1))", CellError, "tick takes a tuple of periods"),
    "an endless number": Case("g = h * 1e999", "h * 1e999", CellError, "a constant is a finite number"),
    "an epsilon": Case(
        "g = layer_norm(h, epsilon=0)", "layer_norm(h, epsilon=0)", CellError, "epsilon is a small positive"
    ),
    "a state that no equation reads": Case(
        "return h, c",
        "return h, c",
        CellError,
        "state c is never used: no equation reads it. Remove it, or use it",
        None,
        "x, h, c",
        before="h = tanh(W.h @ x + U.h @ h)",
    ),
    "an input that no equation reads": Case(
        "return h",
        "return h",
        CellError,
        "input dt is never used",
        None,
        "x, h, dt: Input[()]",
        before="h = tanh(W.h @ x + h)",
    ),
    "a hyperparameter that no equation reads": Case(
        "return h",
        "return h",
        CellError,
        "hyperparameter a is never used",
        None,
        "x, h, *, a=0.5",
        before="h = tanh(W.h @ x + h)",
    ),
    "a next state of another axis": Case(
        "return x", "return x", ShapeError, r"state h is \(hidden\), the value returned for it, x, is \(input\)", None
    ),
}
NAMESPACE = {
    **{"cell": cell, "U": U, "V": V, "W": W, "b": b, "p": p, "s": s, "State": State, "Input": Input},
    **{"tanh": tanh, "sigmoid": sigmoid, "softmax": softmax, "repeat": repeat, "raw": raw, "layer_norm": layer_norm},
    **{"size": size, "tick": tick, "math": math, "np": np, "torch": torch},
}


def _as_function(source, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(source, encoding="utf-8")
    exec(compile(source, str(file), "exec"), dict(NAMESPACE))


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_in_a_function_is_shown_at_its_place(name, tmp_path):
    case = CASES[name]
    with pytest.raises(CellError) as caught:
        _as_function(case.source(), tmp_path)
    message = str(caught.value)
    assert type(caught.value) is case.kind
    if name == "a name that is not there":
        assert "NameError: name 'tahn' is not defined" in message
        assert "operations of a cell are" in message
    else:
        assert re.search(case.says, message, re.DOTALL), message
    assert message.startswith(case.expected()), f"{message}\n--- expected\n{case.expected()}"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.text])
def test_the_same_mistake_in_a_text_is_shown_at_its_place(name):
    case = CASES[name]
    with pytest.raises(CellError) as caught:
        parse(case.source())
    message = str(caught.value)
    assert type(caught.value) is case.kind
    assert re.search(case.says, message, re.DOTALL), message
    assert message.startswith(case.expected()), f"{message}\n--- expected\n{case.expected()}"


TEXT_ONLY = {
    "an unknown operation": ("g = sine(h)", "sine", r"unknown operation sine\."),
    "a misspelt operation": ("g = tahn(h)", "tahn", r"unknown operation tahn\. Did you mean tanh\?"),
    "an unknown name": ("g = hh * 2", "hh", r"hh has no value\. Did you mean h\?"),
    "a library": ("g = math.sin(h)", "math.sin(h)", "the language has no such expression"),
    "a method": ("g = h.cos()", "h.cos()", "the language has no such expression"),
    "a condition": ("g = h if h > 0 else x", "h if h > 0 else x", "the language has no such expression"),
    "an underscore": ("g = W._g @ x", "W._g", "does not begin with an underscore"),
}


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_what_the_grammar_has_not_is_shown_at_its_place(name):
    line, marked, says = TEXT_ONLY[name]
    case = Case(line, marked, CellError, says)
    with pytest.raises(CellError, match=says) as caught:
        parse(case.source())
    assert str(caught.value).startswith(case.expected())


def test_a_value_too_long_to_print_is_called_this_value():
    def iterate(value):
        for _ in range(60):
            value = value * value + value
        return value

    def mine(x, h):
        h = iterate(h) * x
        return h

    with pytest.raises(ShapeError, match=r"this value is \(hidden\), x is \(input\)"):
        cell(mine)


def test_a_syntax_error_gives_its_line():
    with pytest.raises(CellError, match=r"the text is no cell: .*\(line 3\)"):
        parse("@cell\ndef mine(x, h):\n    h = = h\n    return h")


def test_a_mark_stands_under_its_place_in_the_unindented_line():
    place = Place("mine", "g", "        g = f * x\n", 12, 17)
    assert at(place, "no.") == "in cell 'mine', equation g:\n    g = f * x\n        ~~~~~\n  no."
    assert at(None, "no.") == "no."


def test_a_suggestion_is_the_nearest_or_the_few_there_are_or_nothing():
    assert did_you_mean("tahn", ["tanh", "exp"]) == " Did you mean tanh?"
    assert did_you_mean("zzz", ["b", "a"]) == " There is: a, b."
    assert did_you_mean("zzz", []) == ""
    assert did_you_mean("zzz", [f"n{k}" for k in range(13)]) == ""


def test_shape_errors_are_value_errors_and_cell_errors():
    assert issubclass(ShapeError, ValueError)
    assert issubclass(ShapeError, CellError)
