from __future__ import annotations

import linecache
import os
import subprocess
import sys

import pytest

from tests.ir.hard_cells import recurrent_highway
from unrolled.cells import all_cells
from unrolled.errors import CellError
from unrolled.language import U, W, b, cell, parse, sigmoid, tanh

IMPORTS = "from unrolled.language import *\n"


def _names(made):
    return [name for name, _ in made.program.equations]


def _run(source, filename="<string>"):
    namespace = {}
    exec(compile(IMPORTS + source, filename, "exec"), namespace)
    return namespace["mine"]


GATED = (
    "@cell\ndef mine(x, h):\n    z = sigmoid(W.z @ x + U.z @ h)\n"
    "    h = z * h + (1 - z) * tanh(W.g @ x)\n    return h\n"
)
WRONG = "@cell\ndef mine(x, h):\n    z = sigmoid(W.z @ x)\n    h = z * x\n    return h\n"


def test_names_come_from_the_left_hand_sides():
    assert _names(all_cells()["lstm"]) == ["i", "f", "g", "o", "c", "h"]


def test_the_last_name_is_kept_though_nothing_is_computed_after_it():
    @cell
    def mine(x, h):
        a = tanh(W.a @ x)
        h = a * h
        last = h
        return last

    assert _names(mine) == ["a", "h", "last"]


def test_several_names_may_be_given_at_once():
    @cell
    def mine(x, h, c):
        i, f = sigmoid(W.i @ x), sigmoid(W.f @ x)
        h, c = i * c, f * h
        return h, c

    assert {"i", "f", "h", "c"} <= set(_names(mine))
    assert mine.program.tap("i") is not mine.program.tap("f")
    assert parse(mine.text) == mine


def test_names_inside_a_loop_are_kept_each_time():
    assert _names(recurrent_highway)[:6] == ["a", "q", "a", "q", "t", "h"]


def test_a_name_given_to_a_value_that_has_one_is_kept_as_well():
    @cell
    def mine(x, h):
        a = tanh(W.a @ x)
        same = a
        h = same * h
        return h

    assert _names(mine) == ["a", "same", "h"]
    assert mine.program.tap("same") is mine.program.tap("a")


def test_names_inside_a_helper_are_the_helper_s_own():
    def helper(value):
        inner = tanh(value)
        return inner * inner

    @cell
    def mine(x, h):
        a = helper(W.a @ x)
        h = a * h
        return h

    assert _names(mine) == ["a", "h"]


def test_a_name_that_a_closure_reads_is_kept():
    @cell
    def mine(x, h):
        a = tanh(W.a @ x)
        pick = lambda: a  # noqa: E731 - a closure makes `a` a cell variable of the frame
        h = pick() * h
        return h

    assert _names(mine) == ["a", "h"]


def test_walrus_names_are_kept():
    @cell
    def mine(x, h):
        h = (a := tanh(W.a @ x)) * h + a
        return h

    assert _names(mine) == ["a", "h"]


def test_two_cells_of_one_factory_keep_their_names():
    def make(gain):
        @cell
        def mine(x, h):
            a = gain * tanh(W.a @ x)
            h = a + h
            return h

        return mine

    assert _names(make(1.5)) == _names(make(2.5)) == ["a", "h"]
    assert make(1.5) != make(2.5)


@pytest.mark.parametrize("filename", ["<string>", "<stdin>", "<ipython-input-3-0123456789ab>", "/nowhere/gone.py"])
def test_a_cell_without_source_text_keeps_its_names(filename):
    mine = _run(GATED, filename)
    assert _names(mine) == ["z", "h"]
    assert parse(mine.text) == mine


def test_a_cell_of_a_notebook_quotes_its_source_line():
    filename = "/tmp/ipykernel_1/1234567890.py"
    source = IMPORTS + WRONG
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        with pytest.raises(CellError) as caught:
            _run(WRONG, filename)
    finally:
        del linecache.cache[filename]
    assert "\n    h = z * x\n        ~~~~~\n" in str(caught.value)


def test_without_source_text_an_error_prints_the_equation_from_the_program():
    with pytest.raises(CellError) as caught:
        _run(WRONG)
    assert str(caught.value).startswith("in cell 'mine', equation h:\n    z * x\n    ~~~~~\n")


def test_without_source_text_a_wrong_map_is_printed_from_the_program():
    with pytest.raises(CellError) as caught:
        _run("@cell\ndef mine(x, h):\n    g = tanh(U.g @ x)\n    return g * h\n")
    assert str(caught.value).startswith("in cell 'mine', equation g:\n    U.g @ x\n    ~~~~~~~\n")


def test_a_cell_typed_at_the_prompt_is_traced():
    typed = IMPORTS + GATED + "\nprint(mine.text)\nprint([n for n, _ in mine.program.equations])\n"
    done = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHON_BASIC_REPL": "1"},
    )
    assert "['z', 'h']" in done.stdout, done.stderr
    assert "Error" not in done.stderr


def test_names_need_no_source_text_of_this_file(monkeypatch):
    monkeypatch.setattr(linecache, "getline", lambda *_: "")

    @cell
    def mine(x, h):
        z = sigmoid(W.z @ x + U.z @ h + b.z)
        h = z * h
        return h

    assert _names(mine) == ["z", "h"]


def test_a_name_of_wide_letters_is_kept_and_marked_at_its_place():
    mine = _run("@cell\ndef mine(x, h):\n    게이트 = sigmoid(W.z @ x)\n    h = 게이트 * h\n    return h\n")
    assert _names(mine) == ["게이트", "h"]
    with pytest.raises(CellError, match=r"\n    h = 게이트 \* x\n        ~~~~~~~\n"):
        parse("@cell\ndef mine(x, h):\n    게이트 = sigmoid(W.z @ x)\n    h = 게이트 * x\n    return h\n")
