"""What a cell may return: its next states, all of them, in the order of the arguments."""

from __future__ import annotations

import pytest

from tests.language.readers import READERS
from unrolled.errors import CellError
from unrolled.language import parse

readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


def _cell(*lines, arguments="x, h, c"):
    equations = ("h = tanh(W.h @ x + U.h @ h)", "c = h * c")
    return f"@cell\ndef mine({arguments}):\n" + "".join(f"    {line}\n" for line in (*equations, *lines))


def _refused(read, source):
    with pytest.raises(CellError) as caught:
        read(source)
    return str(caught.value)


@readers
@pytest.mark.parametrize(
    ("line", "count"),
    [("return h", "1 value"), ("return h, c, h", "3 values"), ("return h, h, c, c", "4 values")],
)
def test_too_few_or_too_many_values_are_counted_and_the_states_are_named(read, line, count):
    assert _refused(read, _cell(line)) == (
        f"in cell 'mine':\n    {line}\n    {'~' * len(line)}\n"
        f"  the cell returns {count}; its states are h, c.\n  End it with: return h, c"
    )


@readers
@pytest.mark.parametrize("lines", [[], ["return"], ["'words'"]], ids=["end", "return", "words"])
def test_a_cell_that_returns_nothing_is_told_how_to_end(read, lines):
    assert _refused(read, _cell(*lines)) == (
        "in cell 'mine':\n  the cell returns nothing; its states are h, c.\n  End it with: return h, c"
    )


@readers
def test_one_state_is_spoken_of_as_one(read):
    message = _refused(read, "@cell\ndef mine(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n")
    assert "its state is h.\n  End it with: return h" in message


@readers
@pytest.mark.parametrize("returned", ["0", "b.h", "'h'", "(h, c)"])
def test_a_next_state_that_is_no_value_is_refused_where_it_is_returned(read, returned):
    line = f"return {returned}, c"
    message = _refused(read, _cell(line))
    assert message.startswith(f"in cell 'mine':\n    {line}\n    {'~' * len(line)}\n  the next value of state h is ")
    assert message.endswith("which is no value of the cell.\n  End it with: return h, c")


@readers
def test_states_returned_in_the_places_of_one_another_are_refused(read):
    assert _refused(read, _cell("return c, h")) == (
        "in cell 'mine':\n    return c, h\n    ~~~~~~~~~~~\n"
        "  the next states are returned as c, h; expected h, c, the order of the arguments, the output first.\n"
        "  If c is meant to become h, give it a name of its own: next_h = c"
    )


@readers
def test_the_first_of_several_states_in_wrong_places_is_named(read):
    message = _refused(read, _cell("n = n + c", "return h, n, c", arguments="x, h, c, n"))
    assert "returned as h, n, c; expected h, c, n, " in message
    assert "If n is meant to become c, give it a name of its own: next_c = n" in message


@readers
def test_states_on_other_axes_in_wrong_places_are_told_of_their_order(read):
    source = "@cell\ndef mine(x, h, n: State[()]):\n    n = n + s.n\n    h = tanh(W.h @ x + n * h)\n    return n, h\n"
    assert "expected h, n, the order of the arguments" in _refused(read, source)


@readers
def test_states_that_change_places_under_a_name_of_their_own_are_meant(read):
    made = read(_cell("next_h = c", "return next_h, h"))
    names = dict(made.program.equations)
    assert list(made.program.results) == [names["c"], names["h"]]
    assert parse(made.text) == made


@readers
def test_a_state_may_take_the_old_value_of_another(read):
    made = read("@cell\ndef mine(x, h, before):\n    new = tanh(W.h @ x + h - before)\n    return new, h\n")
    assert made.program.results[1]["name"] == "h"
