"""Labelled texts from files and from memory: which columns they are, which rows are none, and how they are split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data.examples import Examples, examples, split
from unrolled.errors import UsageError

PAIRS = [("그래, 좋다", "1"), ("so so", "0"), ("not at all", "0"), ("참 좋다", "1")]


def written(folder: Path, name: str, content: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(content, encoding=encoding)
    return path


def table(pairs: Sequence[tuple[str, str]], header: str = "id\tdocument\tlabel") -> str:
    return "\n".join([header, *(f"{number}\t{text}\t{label}" for number, (text, label) in enumerate(pairs))]) + "\n"


def pairs_of(found: Examples) -> list[tuple[str, str]]:
    return [(example.texts[0], example.label) for example in found]


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_columns_are_guessed_by_their_names_and_that_is_said(encoding: str, tmp_path: Path) -> None:
    found = examples(written(tmp_path, "a.txt", table(PAIRS), encoding), encoding=encoding)
    assert pairs_of(found) == PAIRS
    assert pairs_of(found) == PAIRS
    assert found.notices == ["Texts are the column 'document', labels 'label': guessed."]
    assert found.labels == ["1", "0", "0", "1"]
    assert next(iter(found)).place == f"{tmp_path}/a.txt, line 2"
    assert [file.path for file in found.files] == [f"{tmp_path}/a.txt"]


def test_columns_are_guessed_by_what_stands_in_them(tmp_path: Path) -> None:
    rows = [(f"a text of some length, number {number}", "good" if number % 3 else "bad") for number in range(60)]
    found = examples(written(tmp_path, "a.tsv", table(rows, "number\twords\tverdict")))
    assert found.columns.texts == ("words",)
    assert found.columns.label == "verdict"
    assert pairs_of(found) == rows


@pytest.mark.parametrize(
    "make",
    [
        lambda pairs: {"text": [text for text, _ in pairs], "label": [int(label) for _, label in pairs]},
        lambda pairs: [{"text": text, "label": np.int64(label)} for text, label in pairs],
        lambda pairs: [{"text": text.split(" "), "label": float(label)} for text, label in pairs],
    ],
    ids=["columns", "mappings", "tokens"],
)
def test_a_table_in_memory_is_read_like_a_file(make: Any, tmp_path: Path) -> None:
    found = examples(make(PAIRS))
    assert pairs_of(found) == PAIRS
    assert found.digest == examples(written(tmp_path, "a.txt", table(PAIRS))).digest
    assert found.files == ()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_is_read_like_a_file(library: str) -> None:
    frame = pytest.importorskip(library).DataFrame({"review": [text for text, _ in PAIRS], "sentiment": [1, 0, 0, 1]})
    assert pairs_of(examples(frame)) == PAIRS


def test_a_column_that_the_first_row_lacks_is_a_column(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b", "label": "y"}\n')
    assert pairs_of(examples(path, skip_bad=True)) == [("b", "y")]


def test_a_list_of_mappings_has_the_columns_of_all_of_them() -> None:
    found = examples([{"text": "so so"}, {"text": "not at all", "label": "0"}], label="label", skip_bad=True)
    assert pairs_of(found) == [("not at all", "0")]


def test_labels_in_a_list_are_several_where_a_text_may_have_several(tmp_path: Path) -> None:
    rows = '{"text": "a", "label": ["red", "round"]}\n{"text": "b", "label": []}\n{"text": "c", "label": "red"}\n'
    path = written(tmp_path, "a.jsonl", rows)
    assert pairs_of(examples(path, separator="|")) == [("a", "red|round"), ("b", ""), ("c", "red")]
    with pytest.raises(UsageError, match=r"line 1 has no label under 'label', but \['red', 'round'\]"):
        examples(path)
    with pytest.raises(UsageError, match=r"line 1 has the label 'red', in which 'e' is no separator"):
        examples(path, separator="e")


def test_several_files_and_several_columns_of_texts_are_one_set(tmp_path: Path) -> None:
    first = written(tmp_path, "a.csv", "question,answer,class\nwho?,me,x\n")
    second = written(tmp_path, "b.jsonl", '{"class": "y", "question": "what?", "answer": "that"}\n')
    found = examples([first, second], text="question, answer", label="class")
    assert [(example.texts, example.label) for example in found] == [(("who?", "me"), "x"), (("what?", "that"), "y")]
    assert found.notices == []


BAD = "text,label\ngood,1\n,0\nno label,\nbad,0\ntoo,many,columns\n"


def test_a_row_that_cannot_be_used_is_an_error_or_is_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", BAD)
    with pytest.raises(UsageError, match=r"a\.csv, line 3 has an empty text; --skip-bad leaves such rows out$"):
        examples(path)
    found = examples(path, skip_bad=True)
    assert pairs_of(found) == [("good", "1"), ("bad", "0")]
    assert found.skipped == 3
    assert found.notices[1] == (
        f"3 rows left out: {path}, line 3 has an empty text; {path}, line 4 has no label under 'label'; "
        f"{path}, line 6 does not fit the header: it has 3 columns, not 2."
    )
    many = written(tmp_path, "b.csv", "text,label\n" + ",0\n" * 9 + "x,1\n")
    assert "line 4 has an empty text; and 6 more." in examples(many, skip_bad=True).notices[1]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\nx,y\n", {}, r"which column is the label\? .*a\.csv has a, b: name it with --label"),
        ("a,label\n1,2\n", {"text": "txt"}, r"a\.csv has no column 'txt'\. There is: a, label"),
        ("text,lable\nx,2\n", {"label": "label"}, r"a\.csv has no column 'label'\. Did you mean lable"),
        ("label,a,b\n1,some,same\n", {}, r"which column is the text\? .*: name it with --text"),
        ("text,label\n", {}, r"a\.csv has no row that can be used"),
        ("text,label\n ,1\n", {"skip_bad": True}, r"a\.csv has no rows to use"),
    ],
)
def test_columns_that_cannot_be_told_are_asked_for(
    content: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        examples(written(tmp_path, "a.csv", content), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": "a fine film", "label": ["1"]}, "column 'text' of the data is no list, but 'a fine film'"),
        ({"text": ["a"], "label": np.array(1)}, "column 'label' of the data is no list"),
        ({"text": {0: "a"}, "label": {0: 1}}, "column 'text' of the data is no list"),
        ({"text": ["a"], "label": 1}, "column 'label' of the data is no list, but 1"),
        (3, "data of type int cannot be read"),
        ([], "data of type list cannot be read"),
        ([("a", 1)], "data of type list cannot be read"),
        ("nowhere.csv", r"there is no file nowhere\.csv"),
        ({"text": ["a", "b"], "label": [1]}, "not of one length: text 2, label 1"),
        ({"text": ["a", None], "label": [1, 2]}, "line 2 has no text under 'text', but None"),
        ({"text": ["a", "b"], "label": [1, float("nan")]}, "line 2 has no label under 'label'"),
        ({"text": ["a", "b"], "label": [1, (2,)]}, r"line 2 has no label under 'label', but \(2,\)"),
    ],
    ids=str,
)
def test_data_that_cannot_be_read_is_said(data: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        examples(data)


def test_texts_without_labels_are_read_where_none_are_wanted() -> None:
    found = examples({"text": ["a", "b"], "n": [1, 2]}, label=None)
    assert pairs_of(found) == [("a", ""), ("b", "")]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([1, True, 1.0, np.float32(1), np.int64(1), np.bool_(True), "1", " 1 "], ["1"] * 8),
        ([0.5, np.float64(0.5)], []),
        ([None, float("nan"), np.float32("nan"), pytest.importorskip("pandas").NA, "x"], ["x"]),
    ],
)
def test_a_label_is_the_same_whatever_holds_it_and_nothing_is_none(values: list[Any], labels: list[str]) -> None:
    data = {"text": ["a"] * len(values), "label": values}
    if labels:
        assert examples(data, skip_bad=True).labels == labels
    else:
        with pytest.raises(UsageError, match=r"has no label under 'label', but 0\.5"):
            examples(data)


def test_a_label_does_not_pay_for_others_that_have_too_few() -> None:
    labels = [*(f"single {number}" for number in range(100)), *"z" * 10]
    _, held = split(labels, 0.1, 0)
    assert [labels[row] for row in held] in (["z"], ["z", "z"])


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=60), st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 3))
@settings(deadline=None)
def test_a_split_takes_the_same_share_of_each_label(labels: list[str], share: float, seed: int) -> None:
    try:
        training, held = split(labels, share, seed)
    except UsageError:
        assert share * len(labels) < 3
        return
    assert sorted([*training, *held]) == list(range(len(labels)))
    counts, out = Counter(labels), Counter(labels[row] for row in held)
    assert all(abs(out[label] - share * count) <= 1.5 and out[label] < count for label, count in counts.items())
    assert all(map(np.array_equal, split(labels, share, seed), (training, held)))


def test_a_split_of_nothing_holds_nothing_out() -> None:
    training, held = split(["a", "b"], 0.0, 0)
    assert (len(training), len(held)) == (2, 0)
    with pytest.raises(UsageError, match=r"held_out 0\.1 leaves nothing of 2 examples"):
        split(["a", "a"], 0.1, 0)


def test_film_reviews_are_read_with_what_is_empty_counted(data: Path) -> None:
    path = data / "nsmc" / "ratings_test.txt"
    with pytest.raises(UsageError, match="has an empty text; --skip-bad"):
        examples(path)
    found = examples(path, skip_bad=True)
    assert found.columns.texts == ("document",)
    assert (len(found), found.skipped) == (49997, 3)
    _training, held = split(found.labels, 0.1, 0)
    assert len(held) == 5000
    assert abs(Counter(found.labels[row] for row in held)["1"] / 5000 - Counter(found.labels)["1"] / 49997) < 0.001
