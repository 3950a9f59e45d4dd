from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.test_corpus import documents, written
from unrolled.data.corpus import corpus
from unrolled.errors import UsageError


@pytest.fixture(params=["pandas", "polars"])
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


def test_a_frame_gives_a_document_a_row(library: Any) -> None:
    frame = library.DataFrame({"id": [1, 2, 3], "text": ["one.txt", "two words", ""], "label": [0.5, 1, 2]})
    read = corpus(frame)
    assert documents(read) == ["one.txt", "two words"]
    assert read.notices == (
        "The texts are those of the column 'text', the only one that holds text.",
        "1 empty document was left out.",
    )
    named = corpus(frame, column="text")
    assert documents(named) == ["one.txt", "two words"]
    assert named.digest == read.digest
    assert named.notices == read.notices[1:]


def test_a_frame_whose_column_is_not_known_is_said(library: Any) -> None:
    frame = library.DataFrame({"title": ["a"], "text": ["b"], "n": [1]})
    with pytest.raises(UsageError, match=r"^the data has 2 columns of text among title, text, n: name one"):
        corpus(frame)
    with pytest.raises(UsageError, match=r"^the data has no column 'txt'\. Did you mean text\?$"):
        corpus(frame, column="txt")
    with pytest.raises(UsageError, match=r"^column 'n', row 0 is no text, but "):
        corpus(frame, column="n")
    with pytest.raises(UsageError, match=r"is empty$"):
        corpus(frame[:0], column="text")


def test_a_row_without_text_is_named(library: Any) -> None:
    frame = library.DataFrame({"text": ["a", None, "b"]})
    with pytest.raises(UsageError, match=r"^column 'text', row 1 is no text, but (nan|None): leave it out"):
        corpus(frame)


def test_a_series_holds_texts_or_files(library: Any, tmp_path: Path) -> None:
    path = written(tmp_path, "one.txt", "a file")
    assert documents(corpus(library.Series(["a text", "two"]))) == ["a text", "two"]
    assert documents(corpus(library.Series([str(path)]))) == ["a file"]
    with pytest.raises(UsageError, match=r"^entry 0 is no text, but "):
        corpus(library.Series([1.5]))


def test_an_array_holds_texts_or_files(tmp_path: Path) -> None:
    path = written(tmp_path, "one.txt", "a file")
    assert documents(corpus(np.array(["a text", "two"]))) == ["a text", "two"]
    assert documents(corpus(np.array([path, path]))) == ["a file", "a file"]
    with pytest.raises(UsageError, match=r"^data of type ndarray cannot be read"):
        corpus(np.array([["a text"]]))
    with pytest.raises(UsageError, match=r"^entry 0 is no text, but "):
        corpus(np.arange(3))
    with pytest.raises(UsageError, match=r"^data of type ndarray cannot be read"):
        corpus(np.array("a text"))


def test_two_columns_of_one_name_are_no_list_of_texts() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([["a", "b"]], columns=["text", "text"])
    with pytest.raises(UsageError, match=r"^column 'text' is no list of texts"):
        corpus(frame, column="text")
