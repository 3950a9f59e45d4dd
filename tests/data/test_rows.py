"""Rows of every kind of file, packed or not, and what is said of those that are none."""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from unrolled.data.corpus import corpus
from unrolled.data.rows import Fault, Row, Tokens, rows_of
from unrolled.errors import MissingExtraError, UsageError

REVIEWS = [{"text": "좋다, 참", "label": "1"}, {"text": 'so "so"', "label": "0"}]
CONTENTS = {
    "a.csv": 'text,label\n"좋다, 참",1\n\n"so ""so""",0\n',
    "a.tsv": 'text\tlabel\n좋다, 참\t1\nso "so"\t0',
    "a.txt": 'text\tlabel\n좋다, 참\t1\nso "so"\t0\n',
    "a.jsonl": '{"text": "좋다, 참", "label": "1"}\n\n{"text": "so \\"so\\"", "label": "0"}\n',
    "a.ndjson": '{"text": "\\uc88b다, 참", "label": "1"}\n{"text": "so \\"so\\"", "label": "0"}',
}
TAGGED = "It\tO\n's\tO\n\n\t\nEmpire\tB-location\nState\tI-location\n"
UNIVERSAL = """# text = don't go
1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tdo\tdo\tAUX\tVBP\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_

1\tYes\tyes\tINTJ\tUH\t_\t0\troot\t_\t_
"""


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def values(path: Path, encoding: str = "utf-8") -> list[Any]:
    return [found.values if isinstance(found, Row) else found for found in rows_of(path, encoding).rows()]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("name", CONTENTS)
def test_a_row_has_what_stands_under_each_column(name: str, packed: str, tmp_path: Path) -> None:
    path = written(tmp_path, name + packed, CONTENTS[name])
    assert values(path) == REVIEWS
    read = corpus(path, column="text")
    assert [part.text for part in read.parts()] == ["좋다, 참", 'so "so"']
    assert read.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.files[0].size == path.stat().st_size


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_rows_of_parquet_are_read_a_batch_at_a_time(packed: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"text": f"text {number}", "label": number} for number in range(1000)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "plain", row_group_size=300)
    path = written(tmp_path, f"a.parquet{packed}", (tmp_path / "plain").read_bytes())
    found = list(rows_of(path, "utf-8").rows())
    assert [row.values for row in found if isinstance(row, Row)] == rows
    assert [row.line for row in found] == list(range(1, 1001))
    assert corpus(path, column="text").documents == 1000
    with pytest.raises(UsageError, match=r"line 1 has no text under 'label', but 0$"):
        corpus(path, column="label")


def test_without_pyarrow_the_extra_that_brings_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"a\.parquet is read by pyarrow: pip install 'unrolled\[parquet\]'$"):
        corpus(written(tmp_path, "a.parquet", "PAR1"), column="text")


@pytest.mark.parametrize("name", ["a.conll", "a.iob", "a.bio.gz"])
def test_a_sentence_of_columns_is_a_row(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, TAGGED)
    assert values(path) == [
        {"1": ["It", "'s"], "2": ["O", "O"]},
        {"1": ["Empire", "State"], "2": ["B-location", "I-location"]},
    ]
    blanks = written(tmp_path, "b.conll", "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n")
    assert values(blanks) == [{"1": ["EU", "rejects"], "2": ["NNP", "VBZ"], "3": ["B-ORG", "O"]}]


def test_comments_before_a_sentence_of_columns_are_left_out_and_tokens_that_begin_alike_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("# intent = travel\n# sent_id = 3\n# O\nto O\n\n#\tO\n# a = b\n")
    (first, second) = Tokens(path, "utf-8").rows()
    assert first == Row(4, {"1": ["#", "to"], "2": ["O", "O"]})
    assert isinstance(second, Fault)


def test_words_of_conll_u_are_its_tokens_without_ranges_and_empty_nodes(tmp_path: Path) -> None:
    first, second = values(written(tmp_path, "a.conllu", UNIVERSAL))
    assert first["form"] == ["do", "n't", "go"]
    assert first["upos"] == ["AUX", "PART", "VERB"]
    assert second["form"] == ["Yes"]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", "text,b\n1,2\n\n1\n3,4\n", [Row, Fault(4, "does not fit the header: it has 1 column, not 2"), Row]),
        ("a.csv", 'text,b\n1,2\n"x"y,1\n3,4\n', [
            Row, Fault(3, """is no row of a table: ',' expected after '"'"""), Row,
        ]),
        ("a.csv", 'text,b\n1,2\n"1,2\n', [Row, Fault(3, "is no row of a table: unexpected end of data")]),
        ("a.jsonl", '{"text": 1}\n[1]\n{"text"\n{}\n', [
            Row, Fault(2, "is no object of JSON, {…}"),
            Fault(3, "is no JSON: Expecting ':' delimiter, character 9"), Row,
        ]),
        ("a.jsonl", "[" * 100_000, [Fault(1, "is no row: its JSON is nested too deep")]),
        ("a.conll", "a\tO\nb\n\nc\tO\n", [Fault(2, "does not fit the lines before it: it has 1 column, not 2"), Row]),
        ("a.conllu", "1\ta\tb\n\n" + UNIVERSAL, [
            Fault(1, "is no token of CoNLL-U: it has 3 columns, not 10"), Row, Row,
        ]),
    ],
)  # fmt: skip
def test_what_is_no_row_is_said_with_its_line_and_the_others_are_read(
    name: str, content: str, found: list[Any], tmp_path: Path
) -> None:
    rows = list(rows_of(written(tmp_path, name, content), "utf-8").rows())
    assert len(rows) == len(found)
    assert all(row == wanted if isinstance(wanted, Fault) else isinstance(row, wanted)
               for row, wanted in zip(rows, found, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"texts": "b"}\n', r"line 2 has no column 'text'\. Did you mean texts\?"),
        ("a.jsonl", '{"text": "a"}\n{"text": ["b"]}\n', r"line 2 has no text under 'text', but \['b'\]"),
        ("a.jsonl", '{"text": "a"}\nb\n', "line 2 is no JSON: "),
        ("a.conllu", UNIVERSAL, r"line 6 has no column 'text'\. There is: deprel, deps, "),
        ("a.parquet", "PAR1 no more", "is no Parquet: "),
    ],
)
def test_rows_without_the_text_that_is_asked_for_are_said_in_one_line(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        corpus(written(tmp_path, name, content), column="text")
    assert "\n" not in str(caught.value)


def test_a_packed_file_that_is_damaged_is_said(tmp_path: Path) -> None:
    whole = gzip.compress(b"It was a dark night. " * 1000)
    for content, message in ((whole[:-20], "is damaged: "), (b"no gzip", "cannot be read: Not a gzipped file")):
        path = tmp_path / "a.txt.gz"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=rf"a\.txt\.gz {message}"):
            corpus(path)
    assert corpus(written(tmp_path, "b.txt.gz", "It was a dark night.")).characters == 20


def test_entities_and_tags_of_real_sentences_are_read(data: Path) -> None:
    tags = [row.values["2"] for row in rows_of(data / "wnut17" / "wnut17train.conll", "utf-8").rows()
            if isinstance(row, Row)]  # fmt: skip
    assert len(tags) == 3394
    assert sum(tag.startswith("B-") for sentence in tags for tag in sentence) == 1975
    path = data / "ud_english_ewt" / "en_ewt-ud-test.conllu"
    sentences = [row for row in Tokens(path, "utf-8", universal=True).rows() if isinstance(row, Row)]
    assert len(sentences) == 2077
    words = Counter(tag for row in sentences for tag in row.values["upos"])
    assert sum(words.values()) == 25094
    assert "_" not in words
