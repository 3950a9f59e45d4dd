"""Labelled sentences from files and from memory: which columns they are, and which rows are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unrolled.data.sentences import Sentences, sentences
from unrolled.errors import UsageError

PAIRS = [(["나는", "서울", "에", "산다"], ["O", "B-LOC", "O", "O"]), (["Kim", "left"], ["B-PER", "O"])]
CONLL = "".join("".join(f"{t}\tx\t{b}\n" for t, b in zip(*pair, strict=True)) + "\n" for pair in PAIRS)
UNIVERSAL = """# text = don't go
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
"""


def written(folder: Path, name: str, content: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(content, encoding=encoding)
    return path


def pairs_of(found: Sentences) -> list[tuple[list[str], list[str]]]:
    return [(list(sentence.tokens), list(sentence.labels)) for sentence in found]


@pytest.mark.parametrize("name", ["a.conll", "a.iob", "a.bio", "a.txt", "a.annotated"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_columns_of_conll_are_the_first_and_the_last_and_that_is_said(name: str, encoding: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, CONLL, encoding)
    found = sentences(path, encoding=encoding)
    assert pairs_of(found) == pairs_of(found) == PAIRS
    assert found.labels == [tuple(labels) for _, labels in PAIRS]
    assert found.notices == ["Tokens are the column '1', labels '3': guessed."]
    assert next(iter(found)).place == f"{path}, line 4"
    assert [file.path for file in found.files] == [str(path)]
    assert sentences(path, encoding=encoding, text="1", label="2").labels == [("x",) * 4, ("x",) * 2]


def test_a_file_in_another_encoding_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.conll is no UTF-8 text: .* --encoding cp949$"):
        sentences(written(tmp_path, "a.conll", "한국\tO\n서울\tB-LOC\n" * 20, "cp949"))


def test_columns_of_conll_u_are_its_forms_and_universal_parts_of_speech(tmp_path: Path) -> None:
    path = written(tmp_path, "a.conllu", UNIVERSAL)
    assert pairs_of(sentences(path)) == [(["do", "n't", "go"], ["AUX", "PART", "VERB"])]
    assert pairs_of(sentences(path, label="xpos")) == [(["do", "n't", "go"], ["VBP", "RB", "VB"])]
    assert sentences(path, text="form", label="upos").notices == []


def lines(folder: Path) -> Path:
    return written(folder, "a.jsonl", "".join(json.dumps({"tokens": t, "tags": b}) + "\n" for t, b in PAIRS))


def table(folder: Path) -> Path:
    rows = [f"{' '.join(t)},{' '.join(b)}" for t, b in PAIRS]
    return written(folder, "a.csv", "\n".join(["words,labels", *rows, ""]))


def parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    found = pyarrow.Table.from_pylist([{"tokens": t, "ner": b} for t, b in PAIRS])
    pytest.importorskip("pyarrow.parquet").write_table(found, folder / "a.parquet")
    return folder / "a.parquet"


def frame(library: str) -> Any:
    columns = {"word": [tokens for tokens, _ in PAIRS], "tag": [labels for _, labels in PAIRS]}
    return pytest.importorskip(library).DataFrame(columns)


@pytest.mark.parametrize(
    "make",
    [
        lines,
        table,
        parquet,
        lambda _: {"tokens": [t for t, _ in PAIRS], "labels": [b for _, b in PAIRS]},
        lambda _: [{"words": t, "ner_tags": tuple(b), "text": " ".join(t)} for t, b in PAIRS],
        lambda _: [{"form": np.array(t, object), "upos": np.array(b)} for t, b in PAIRS],
        lambda _: frame("pandas"),
        lambda _: frame("polars"),
    ],
    ids=["lines", "table", "parquet", "columns", "mappings", "arrays", "pandas", "polars"],
)  # fmt: skip
def test_lists_of_tokens_are_read_whatever_holds_them(make: Any, tmp_path: Path) -> None:
    found = sentences(make(tmp_path))
    assert pairs_of(found) == PAIRS
    assert found.digest == sentences(written(tmp_path, "b.conll", CONLL)).digest


def test_labels_may_be_numbers_and_a_sentence_may_have_a_class(tmp_path: Path) -> None:
    found = sentences([{"tokens": ["play", "it"], "tags": [0, np.int64(3)], "intent": "Play"}], intent="intent")
    assert [(each.labels, each.intent) for each in found] == [(("0", "3"), "Play")]
    assert found.intents == ["Play"]
    with pytest.raises(UsageError, match="line 1 has no intent under 'what'"):
        sentences([{"tokens": ["a"], "tags": ["b"], "what": None}], intent="what")


def test_sentences_without_labels_are_read_where_none_are_wanted() -> None:
    assert [each.tokens for each in sentences({"tokens": [["a", "b"]]}, label=None)] == [("a", "b")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "has 2 tokens, but 1 labels"),
        ({"tokens": [], "tags": []}, "has no tokens"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "has an empty token, number 2"),
        ({"tokens": ["a", "b"], "tags": ["O", None]}, "has no label for its token 2, 'b'"),
        ({"tokens": ["a", "b"], "tags": ["O", ["B"]]}, r"has no label under 'label', but \['B'\]"),
        ({"tokens": ["a", 3], "tags": ["O", "O"]}, "has a token that is no text, but 3"),
        ({"tokens": 3, "tags": ["O"]}, "has no tokens under 'tokens', but 3"),
        ({"tags": ["O"]}, "has no tokens under 'tokens', but None"),
    ],
    ids=str,
)
def test_a_sentence_that_cannot_be_used_is_an_error_or_is_counted(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    good = {"tokens": ["x"], "tags": ["O"]}
    path = written(tmp_path, "a.jsonl", "".join(json.dumps(each) + "\n" for each in (good, row, good)))
    with pytest.raises(UsageError, match=rf"a\.jsonl, line 2 {reason}; --skip-bad leaves such rows out$"):
        sentences(path)
    found = sentences(path, skip_bad=True)
    assert (len(found), found.skipped) == (2, 1)
    assert found.notices[1].startswith(f"1 rows left out: {path}, line 2 ")


def test_a_line_of_conll_that_does_not_fit_is_a_fault_of_its_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, "a.conll", "a\tO\n\nb\n\nc\tO\n")
    with pytest.raises(UsageError, match=r"a\.conll, line 3 does not fit the lines before it: it has 1 column, not 2"):
        sentences(path)
    assert [each.tokens for each in sentences(path, skip_bad=True)] == [("a",), ("c",)]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"a": [["x"]], "b": [["O"]]}, {}, "which column is the text.* name it with --text"),
        ({"tokens": [["x"]], "pos_tags": [["N"]], "ner_tags": [["O"]]}, {}, "which column is the label.* --label"),
        ({"tokens": [["x"]], "tags": [["O"]]}, {"label": "tag"}, r"has no column 'tag'\. Did you mean tags"),
        ({"tokens": [["x"]], "tags": [["O"]]}, {"intent": "intnt"}, "has no column 'intnt'"),
        ({"tokens": [], "tags": []}, {}, "the data has no row that can be used"),
        ({"tokens": [[]], "tags": [[]]}, {"skip_bad": True}, "the data has no rows to use"),
        ("nowhere.conll", {}, r"there is no file nowhere\.conll"),
    ],
    ids=str,
)
def test_what_cannot_be_told_is_asked_for(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        sentences(data, **options)
    assert "\n" not in str(caught.value)


def test_a_single_column_of_conll_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"which column is the label\? .*a\.conll has 1: name it with --label"):
        sentences(written(tmp_path, "a.conll", "a\nb\n"))


def test_real_posts_and_trees_are_read_whole(data: Path) -> None:
    posts = sentences(data / "wnut17" / "emerging.test.annotated")
    assert (len(posts), sum(map(len, posts.labels))) == (1287, 23394)
    trees = sentences(data / "ud_english_ewt" / "en_ewt-ud-dev.conllu")
    assert (len(trees), len({label for labels in trees.labels for label in labels})) == (2001, 17)
