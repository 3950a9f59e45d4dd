from __future__ import annotations

import pytest

from unrolled.cells import get, resolve
from unrolled.errors import CellError, UsageError

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


@pytest.mark.parametrize("name", ["mine.py", "mine.txt"])
def test_a_file_means_its_cell(file, name):
    assert resolve(file(get("lstm").text, name)) == get("lstm")


@pytest.mark.parametrize("name", ["gru-cho", "gru_cho"])
def test_one_cell_of_several_is_picked_by_name(file, name):
    assert resolve(f"{file(TWO)}:{name}") == get("gru-cho")


def test_a_file_of_several_cells_asks_for_a_name(file):
    with pytest.raises(UsageError, match=r"has the cells lstm, gru-cho: pick one, as in .*mine\.py:lstm"):
        resolve(file(TWO))


def test_a_name_that_the_file_has_not_names_the_nearest(file):
    with pytest.raises(UsageError, match=r"has no cell 'lstmm'\. Did you mean lstm\?"):
        resolve(f"{file(TWO)}:lstmm")


def test_a_missing_file_names_its_neighbour(file):
    with pytest.raises(UsageError, match=r"there is no file .*Did you mean mine\.py\?"):
        resolve(file(TWO).replace("mine.py", "mien.py"))


def test_an_error_in_a_file_names_the_file(file):
    with pytest.raises(CellError, match=r"(?s)the text is no cell.*The file is .*mine\.py"):
        resolve(file("@cell\ndef broken(x, h:\n"))


def test_a_file_is_parsed_and_never_run(file, tmp_path):
    trace = tmp_path / "trace"
    with pytest.raises(CellError, match="holds cells and imports"):
        resolve(file(f"open({str(trace)!r}, 'w')\n{get('lstm').text}"))
    assert not trace.exists()
