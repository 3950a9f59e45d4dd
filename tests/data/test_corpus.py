from __future__ import annotations

import hashlib
import os
import sys
from itertools import pairwise
from pathlib import Path
from unicodedata import combining, decomposition, is_normalized, normalize
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data import files
from unrolled.data.corpus import Corpus, DataFile, Part, _composes, corpus
from unrolled.errors import UnrolledError, UsageError

# In any form: what composes, what changes places, what white space and line breaks there are.
RAW = st.text(
    st.sampled_from("ab \n\r\té가각ᄀ\u1161\u11a8\u0301\u0323\u0344\u1e9b\u2126\u09c7\u09be한🐍"), max_size=40
)


def documents(read: Corpus, start: int = 0, stop: int | None = None) -> list[str]:
    found: list[str] = []
    for part in read.parts(start, stop):
        assert part.text
        if part.begins:
            found.append("")
        found[-1] += part.text
    return found


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_file_is_one_document(tmp_path: Path) -> None:
    path = written(tmp_path, "글.txt", "한국어 글\nmore\n")
    read = corpus(path)
    assert documents(read) == documents(corpus(str(path))) == ["한국어 글\nmore\n"]
    assert (read.documents, read.characters, read.notices) == (1, 11, ())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.files == (DataFile(str(path), digest, path.stat().st_size),)


def test_a_file_is_named_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "a.txt", "text")
    monkeypatch.chdir(tmp_path)
    assert corpus("a.txt").files[0].path == str(tmp_path / "a.txt")


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbfafter a mark", "after a mark"),
        (b"one\r\ntwo\rthree\n\r\n", "one\ntwo\nthree\n\n"),
        ("an astral 🐍".encode(), "an astral 🐍"),
        ("e\u0301e".encode(), "ée"),
        ("\u2028 is no line feed\x85".encode(), "\u2028 is no line feed\x85"),
    ],
    ids=["byte-order-mark", "line-breaks", "astral", "decomposed", "separators"],
)
def test_a_file_is_read_as_python_reads_text(
    content: bytes, text: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    assert documents(corpus(written(tmp_path, "a.txt", content))) == [text]


@settings(deadline=None)
@given(texts=st.lists(RAW, min_size=1), chunk=st.integers(1, 7))
def test_documents_are_the_same_however_they_are_cut(texts: list[str], chunk: int) -> None:
    expected = [normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")) for text in texts]
    expected = [text for text in expected if text]
    if not expected:
        return
    column = {"text": texts}
    whole = corpus(column)
    with patch.object(files, "CHUNK", chunk):
        cut = corpus(column)
        assert documents(cut) == expected
    assert documents(whole) == expected
    assert (cut.digest, cut.characters, cut.notices) == (whole.digest, whole.characters, whole.notices)
    assert cut.characters == sum(map(len, expected))


@settings(deadline=None)
@given(texts=st.lists(RAW, min_size=1), chunk=st.integers(1, 7), start=st.integers(0, 50), stop=st.integers(0, 90))
def test_parts_have_the_characters_from_start_to_stop(texts: list[str], chunk: int, start: int, stop: int) -> None:
    if not any(texts):
        return
    read = corpus({"text": texts})
    with patch.object(files, "CHUNK", chunk):
        parts = list(read.parts(start, stop))
    assert "".join(part.text for part in parts) == "".join(documents(read))[start:stop]
    assert all(part.begins for part in parts[:1])
    lengths = [len(text) for text in documents(read)]
    edges = {sum(lengths[:index]) for index in range(len(lengths))}
    places = [start + sum(len(part.text) for part in parts[:index]) for index in range(len(parts))]
    begun = {place for place, part in zip(places, parts, strict=True) if part.begins}
    assert begun == {edge for edge in edges if start < edge < stop} | set(places[:1])


def test_a_part_ends_before_white_space_and_a_word_is_cut_only_when_it_is_endless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "CHUNK", 4)
    read = corpus(["It was a_long_word so"])
    parts = [part.text for part in read.parts()]
    assert len(parts) > 3
    assert all(later[0].isspace() for _, later in pairwise(parts))
    endless = "e\u0301" * 50
    monkeypatch.setattr("unrolled.data.corpus.LONGEST_WORD", 9)
    parts = [part.text for part in corpus([endless]).parts()]
    assert "".join(parts) == "é" * 50
    assert max(map(len, parts)) < 9


def test_no_part_is_cut_where_characters_compose_or_change_places() -> None:
    second = set()
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        parts = decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            second.add(chr(int(parts[1], 16)))
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        first = normalize("NFD", character)[0]
        if combining(first) or first in second or "\u1161" <= first <= "\u1175" or "\u11a8" <= first <= "\u11c2":
            assert _composes(character), hex(number)


@pytest.mark.parametrize("make", [list, tuple], ids=["list", "tuple"])
def test_a_list_holds_files_or_texts(make: type, tmp_path: Path) -> None:
    one, two = written(tmp_path, "one.txt", "first"), written(tmp_path, "two files", "second")
    assert documents(corpus(make([one, str(two)]))) == ["first", "second"]
    read = corpus(make(["first", "second\r\ntext"]))
    assert documents(read) == ["first", "second\ntext"]
    assert read.files == ()


def test_the_same_texts_have_the_same_digest_wherever_they_come_from(tmp_path: Path) -> None:
    path = written(tmp_path, "one.txt", b"\xef\xbb\xbfe\xcc\x81\r\n")
    assert corpus(path).digest == corpus(["é\n"]).digest == corpus({"text": ["", "é\n"]}).digest
    assert corpus(["ab", "c"]).digest != corpus(["a", "bc"]).digest
    assert corpus(["ab", "c"]).digest != corpus(["abc"]).digest


def test_a_corpus_is_read_as_often_as_asked(tmp_path: Path) -> None:
    read = corpus([written(tmp_path, "one.txt", "one two"), written(tmp_path, "two.txt", "three")])
    first = iter(read.parts())
    assert next(first) == Part("one two", True)
    assert documents(read) == documents(read) == ["one two", "three"]
    assert next(first) == Part("three", True)


def test_a_file_that_changes_while_it_is_in_use_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, "log.txt", "one\n")
    read = corpus(path)
    written(tmp_path, "log.txt", "one\ntwo\n")
    with pytest.raises(UnrolledError, match=r"log\.txt has changed since it was read first"):
        list(read.parts())


def test_what_was_left_out_or_changed_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, "book.txt", normalize("NFD", "한국어 글, café and plain"))
    assert corpus(path).notices == (f"3 words of {path} were brought to Unicode form NFC.",)
    assert corpus(["cafe\u0301", "", "tea", ""]).notices == (
        "1 word of the texts was brought to Unicode form NFC.",
        "2 empty documents were left out.",
    )


def test_a_preview_shows_the_beginnings_of_documents_or_of_the_lines_of_one() -> None:
    long = "word " * 100
    shown = corpus(["first\nline", long, "third", "fourth"]).preview(3)
    assert shown == ["first line", f"{long[:79]}…", "third"]
    assert corpus(["one\n\n two\nthree\n"]).preview() == ["one", "two", "three"]
    assert corpus(["one\ntwo\nthree"]).preview(2) == ["one", "two"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_a_column_of_a_file_gives_a_document_a_row(encoding: str, tmp_path: Path) -> None:
    tabs = written(tmp_path, "a.txt", 'id\ttext\tlabel\n1\t"그래\t0\n\n2\t, 좋다\t1\n'.encode(encoding))
    commas = written(tmp_path, "b.csv", 'text,label\r\n"one, ""two""\r\nthree",0\r\nfour,1'.encode(encoding))
    read = corpus([tabs, commas], encoding=encoding, column="text")
    assert documents(read) == ['"그래', ", 좋다", 'one, "two"\nthree', "four"]
    assert [file.path for file in read.files] == [str(tabs), str(commas)]
    assert documents(read) == documents(read)


def test_a_row_may_be_longer_than_what_python_takes_by_itself(tmp_path: Path) -> None:
    long = "a long document, " * 10_000
    read = corpus(written(tmp_path, "a.csv", f'label,text\n1,"{long}"\n'), column="text")
    assert documents(read) == [long]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", r"a\.csv has no column 'text'\. There is: a, b\."),
        ("a,texts\n1,2\n", r"a\.csv has no column 'text'\. Did you mean texts\?"),
        ("text,text\n1,2\n", r"a\.csv has 2 columns 'text'"),
        ("text,b\n1,2\n\n1\n", r"a\.csv, line 4 does not fit the header: it has 1 column, not 2$"),
        ("text\tb\n1\t2\t3\n", r"a\.csv, line 2 does not fit the header: it has 3 columns, not 2$"),
        ('text,b\n1,2\n"1,2\n', r"a\.csv, line 3 is no row of a table: unexpected end of data"),
        ('text,b\n"1"x,2\n', r"a\.csv, line 2 is no row of a table"),
        ("text,b\n", r"a\.csv is empty"),
        ("text,b\n,1\n", r"a\.csv is empty"),
        ("", r"a\.csv is empty"),
        ("\ntext\n", r"a\.csv has no header in its first line"),
    ],
)
def test_a_table_that_is_none_is_said_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        corpus(written(tmp_path, "a.csv", content), column="text")
    assert "\n" not in str(caught.value)


def test_a_line_without_end_is_no_row_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 10)
    monkeypatch.setattr("unrolled.data.rows.LONGEST_LINE", 50)
    with pytest.raises(UsageError, match=r"a\.csv, line 3 is longer than 50 characters"):
        corpus(written(tmp_path, "a.csv", "text,b\n1,2\n" + "x" * 100), column="text")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("absent.txt", r"^there is no file absent\.txt$"),
        (Path("absent.txt"), r"^there is no file absent\.txt$"),
        ("", r"^there is no file without a name$"),
        ("a text\n", r"^there is no file of this name: a text itself is given in a list, \[text\]$"),
        ("a text " * 50, r"a text itself is given in a list"),
        (["absent.txt"], r"^there is no file absent\.txt$"),
        ([], r"^the data is empty"),
        (["", ""], r"^the data is empty$"),
        ({"text": []}, r"^the data has no column of text among text: name one with text$"),
        (["a text", 3], r"^entry 1 is no text, but 3: "),
        (["a text", None], r"^entry 1 is no text, but None: "),
        (["a text", float("nan")], r"^entry 1 is no text, but nan: "),
        ([["a", "b"]], r"^entry 0 is no text, but \['a', 'b'\]: "),
        (["a text", b"bytes"], r"^entry 1 is no text, but b'bytes': "),
        ({"text": ["a", None]}, r"^column 'text', row 1 is no text, but None: "),
        (["half \ud800"], r"half a character, after 'half '$"),
        (3, r"^data of type int cannot be read: give a file, "),
        (None, r"^data of type NoneType cannot be read"),
        (b"a text", r"^data of type bytes cannot be read"),
        ({"a text"}, r"^data of type set cannot be read"),
        (iter(["a text"]), r"^data of type list_iterator cannot be read"),
        ({"a": ["x"], "b": ["y"]}, r"^the data has 2 columns of text among a, b: name one with text$"),
        ({"a": [1]}, r"^the data has no column of text among a: "),
        ({}, r"^the data has no column of text among none: "),
    ],
)
def test_data_that_cannot_be_read_is_said_in_one_line(
    data: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        corpus(data)
    assert "\n" not in str(caught.value)


def test_no_rows_are_no_data() -> None:
    with pytest.raises(UsageError, match=r"^the data is empty$"):
        corpus({"text": []}, column="text")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": ["a"], "b": ["c"]}, r"^the data has no column 'txt'\. Did you mean text\?$"),
        (["a text"], r"^there is no column 'txt': the data is a list of texts, no table$"),
        ({"txt": "a text"}, r"^column 'txt' is no list of texts, but 'a text'$"),
        ({"txt": [1]}, r"^column 'txt', row 0 is no text, but 1: "),
    ],
)
def test_a_column_that_cannot_be_read_is_said_in_one_line(data: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        corpus(data, column="txt")


def test_files_that_cannot_be_read_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^{tmp_path} is a folder: name the files in it, such as {tmp_path}/\*\.txt"):
        corpus(tmp_path)
    with pytest.raises(UsageError, match=r"empty\.txt is empty$"):
        corpus(written(tmp_path, "empty.txt", b"\xef\xbb\xbf"))
    with pytest.raises(UsageError, match=r"^the data is empty$"):
        corpus([written(tmp_path, "empty.txt", ""), written(tmp_path, "other.txt", "")])
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    with pytest.raises(UsageError, match=r"there is no file .*loop\.txt$"):
        corpus(tmp_path / "loop.txt")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="every file can be read by root")
def test_a_file_without_permission_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "text")
    path.chmod(0)
    with pytest.raises(UsageError, match=r"a\.txt cannot be read: Permission denied"):
        corpus(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with a name")
def test_a_pipe_is_refused_since_it_cannot_be_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(UsageError, match=r"pipe can be read only once: write what it gives into a file"):
            corpus(path)
    finally:
        os.close(descriptor)


def test_reviews_are_read_from_their_table(data: Path) -> None:
    path = data / "nsmc" / "ratings_train.txt"
    read = corpus(path, column="document")
    with path.open(encoding="utf-8", newline="\n") as file:
        rows = [line.rstrip("\n").split("\t")[1] for line in file][1:]
    expected = [normalize("NFC", row) for row in rows if row]
    assert documents(read) == expected
    assert f"{len(rows) - len(expected)} empty documents were left out." in read.notices
    assert all(is_normalized("NFC", text) for text in read.preview())
