from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.cells.texts import MINE, MISFIT
from unrolled.cells import get, resolve
from unrolled.errors import CellError, ShapeError, UsageError

TWO = get("lstm").text + "\n\n" + get("gru-cho").text


@pytest.fixture
def file(tmp_path):
    def written(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def test_a_cell_a_name_and_a_text_mean_a_cell():
    assert resolve(get("lstm")) is get("lstm")
    assert resolve("gru_cho") is get("gru-cho")
    assert resolve(get("mgu").text) == get("mgu")


@pytest.mark.parametrize("start", ["", "\ufeff", "from unrolled.language import U, W, cell, tanh\n"])
@pytest.mark.parametrize("name", ["mine.py", "mine.txt"])
def test_a_file_means_its_cell(file, name, start):
    assert resolve(file(start + get("lstm").text, name)) == get("lstm")


@pytest.mark.parametrize("name", ["gru-cho", "gru_cho"])
def test_one_cell_of_several_is_picked_by_name(file, name):
    assert resolve(f"{file(TWO)}:{name}") == get("gru-cho")


def test_a_file_of_several_cells_asks_for_a_name(file):
    with pytest.raises(UsageError, match=r"has the cells lstm, gru-cho: pick one, as in .*mine\.py:lstm"):
        resolve(file(TWO))


def test_a_name_that_the_file_has_not_names_the_nearest(file):
    with pytest.raises(UsageError, match=r"has no cell 'lstmm'\. Did you mean lstm\?"):
        resolve(f"{file(TWO)}:lstmm")


def test_a_name_that_no_cell_has_names_the_nearest():
    with pytest.raises(UsageError, match=r"Did you mean lstm\?"):
        resolve("lst")
    with pytest.raises(UsageError, match="no cell is named"):
        resolve(" ")


def test_a_missing_file_names_its_neighbour(file, tmp_path):
    with pytest.raises(UsageError, match=r"there is no file .*Did you mean mine\.py\?"):
        resolve(file(TWO).replace("mine.py", "mien.py"))
    with pytest.raises(UsageError, match="there is no folder"):
        resolve(str(tmp_path / "nowhere" / "mine.py"))


def test_a_file_that_is_no_text_or_has_no_cell_says_so(file, tmp_path):
    korean = tmp_path / "korean.txt"
    korean.write_bytes("셀".encode("cp949"))
    with pytest.raises(UsageError, match="no UTF-8 text"):
        resolve(str(korean))
    with pytest.raises(CellError, match=r"the file '.*mine\.py' has no cell: a function under @cell"):
        resolve(file(""))


@pytest.mark.parametrize(("text", "kind"), [("@cell\ndef broken(x, h:\n", CellError), (MISFIT, ShapeError)])
def test_an_error_in_a_file_names_the_file(file, text, kind):
    with pytest.raises(kind, match=r"(?s).*\n  The file is .*mine\.py\.$"):
        resolve(file(text))


def test_a_file_is_parsed_and_never_run(file, tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(CellError, match="A text of cells is read, never run"):
        resolve(file(f"open({str(trace)!r}, 'w')\n{get('lstm').text}"))
    assert not trace.exists()


OUTSIDE = {
    "a function without @cell": ("def mine(x, h):\n    return h\n", r"If mine is a cell, put @cell above it\."),
    "a helper function": ("def gate(v):\n    return sigmoid(v)\n", "Helper functions work in Python, where the cell"),
    "a constant": ("SIZE = 3\n", r"is a hyperparameter: def mine\(x, h, \*, rate=0\.5\)\n"),
    "another library": ("import torch\n", "holds functions under @cell and imports of unrolled.language"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_may_not_stand_beside_cells_is_quoted_with_its_line_and_file(file, name):
    text, says = OUTSIDE[name]
    with pytest.raises(CellError, match=says) as caught:
        resolve(file(f"{MINE}\n{text}"))
    assert str(caught.value).startswith(f"line 6 belongs to no cell: {text.splitlines()[0]}\n")
    assert str(caught.value).endswith("mine.py.")


def test_a_helper_function_is_named_before_the_cell_that_calls_it(file):
    calls = MINE.replace("tanh(", "gate(")
    with pytest.raises(CellError, match=r"line 5 belongs to no cell: def gate\(v\):"):
        resolve(file(f"{calls}def gate(v):\n    return tanh(v)\n"))


def test_what_is_neither_a_cell_nor_a_text_is_told_what_to_give():
    def duet(x, h):
        return h

    class LSTM:
        __module__ = "torch.nn.modules.rnn"

    with pytest.raises(UsageError, match="the function duet is no cell yet: decorate it with @cell"):
        resolve(duet)
    for given in (LSTM, LSTM()):
        with pytest.raises(UsageError, match=r"torch's LSTM is no cell: .*such as 'lstm', or use unrolled\.nn\.LSTM"):
            resolve(given)
    with pytest.raises(UsageError, match=r"a cell is a name, such as 'lstm', a Cell, or equations .*, not namespace"):
        resolve(SimpleNamespace())
