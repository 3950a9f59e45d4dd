from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unrolled.data.text import UNKNOWN, Vocabulary, columns, read_text, windows
from unrolled.errors import UsageError


def test_a_vocabulary_is_the_characters_in_order_after_the_unknown_one() -> None:
    vocabulary = Vocabulary.of("banana" + UNKNOWN)
    assert vocabulary.symbols == [UNKNOWN, "a", "b", "n"]
    assert vocabulary.encode("nab").tolist() == [3, 1, 2]
    assert vocabulary.decode(vocabulary.encode("banana")) == "banana"


def test_a_character_that_the_vocabulary_lacks_reads_as_the_unknown_one() -> None:
    vocabulary = Vocabulary.of("ab")
    assert vocabulary.encode("a한b").tolist() == [1, 0, 2]
    assert vocabulary.encode("").shape == (0,)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("한국어 글\n".encode(), "한국어 글\n"),
        (b"\xef\xbb\xbfafter a mark", "after a mark"),
        (b"one\r\ntwo\r\n", "one\ntwo\n"),
        ("an astral 🐍".encode(), "an astral 🐍"),
        (b"a\x00b", "a\x00b"),
    ],
    ids=["korean", "byte-order-mark", "crlf", "astral", "nul"],
)
def test_a_file_is_read_as_text(content: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "글.txt"
    path.write_bytes(content)
    assert read_text(path) == text


def test_a_file_behind_a_symbolic_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("real")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    assert read_text(tmp_path / "link.txt") == "real"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\xef\xbb\xbf", "is empty"), (b"ab\xffcd", "no UTF-8 text: byte 0xff at position 2")],
    ids=["empty", "only-a-mark", "latin"],
)
def test_a_file_that_is_no_text_is_said_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_text(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_missing_file_are_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Is a directory"):
        read_text(tmp_path)
    with pytest.raises(UsageError, match=r"absent\.txt: No such file"):
        read_text(tmp_path / "absent.txt")


def test_columns_are_pieces_of_the_stream_side_by_side() -> None:
    side_by_side = columns(torch.arange(11), 3)
    assert side_by_side.t().tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("window", [1, 2, 3, 4, 100])
def test_windows_pass_over_every_symbol_once_and_each_target_follows_its_input(window: int) -> None:
    side_by_side = columns(torch.arange(20), 2)
    inputs, targets = zip(*windows(side_by_side, window), strict=True)
    assert torch.equal(torch.cat(inputs), side_by_side[:-1])
    assert torch.equal(torch.cat(targets), side_by_side[1:])
    assert all(len(part) <= window for part in inputs)


def test_real_korean_text_encodes_and_decodes(data: Path) -> None:
    text = next(iter(sorted((data / "nsmc").glob("*test*")))).read_text(encoding="utf-8")[:5000]
    vocabulary = Vocabulary.of(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
