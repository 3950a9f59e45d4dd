from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from unrolled.cache import cache_folder
from unrolled.data import stream as module
from unrolled.data.corpus import Corpus, corpus
from unrolled.data.numbering import Numbering
from unrolled.data.stream import SideBySide, Stream, stream
from unrolled.data.units import UNITS
from unrolled.data.vocabulary import Vocabulary
from unrolled.errors import UnrolledError

CHARACTERS = UNITS["characters"]
TEXTS = ["It was a dark night.\n" * 20, "한국어 글", "more"]


@pytest.fixture(autouse=True)
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def some() -> Corpus:
    return corpus(TEXTS)


def vocabulary(end: bool = True) -> Vocabulary:
    return Vocabulary.of(CHARACTERS, TEXTS, end)


def same(one: Stream, other: Stream) -> bool:
    arrays = np.array_equal(one.numbers, other.numbers) and np.array_equal(one.starts, other.starts)
    return arrays and (one.characters, one.unknown) == (other.characters, other.unknown)


def test_a_large_stream_lies_on_the_disk_and_is_the_one_of_memory(
    some: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Vocabulary(CHARACTERS, "It was한", end=True)
    on_disk = stream(some, known, end_token="line")
    assert isinstance(on_disk.numbers, np.memmap)
    assert not on_disk.numbers.flags.writeable
    assert on_disk.path is not None
    assert on_disk.path.parent == tmp_path / "cache" / "streams"
    assert list(on_disk.path.parent.iterdir()) == [on_disk.path]
    monkeypatch.setattr(module, "IN_MEMORY", 10**6)
    in_memory = stream(some, known, end_token="line")
    assert in_memory.path is None
    assert same(on_disk, in_memory)
    for one, other in zip(SideBySide(on_disk, 3).windows(7), SideBySide(in_memory, 3).windows(7), strict=True):
        assert one.inputs.equal(other.inputs)
        assert one.targets.equal(other.targets)


def test_a_stream_is_written_once_and_found_again(
    some: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stream(some, vocabulary(), end_token="line", cache=tmp_path / "here")
    monkeypatch.setattr(Numbering, "__iter__", lambda _: pytest.fail("it was encoded again"))
    again = stream(corpus(TEXTS), vocabulary(), end_token="line", cache=tmp_path / "here")
    assert again.path == first.path
    assert same(first, again)


def test_whatever_changes_the_numbers_has_a_file_of_its_own(some: Corpus) -> None:
    made = [
        stream(some, vocabulary(), end_token="none"),
        stream(some, vocabulary(), end_token="line"),
        stream(some, vocabulary(), end_token="none", start=1),
        stream(some, vocabulary(), end_token="none", stop=100),
        stream(some, vocabulary(end=False), end_token="none"),
        stream(some, Vocabulary(CHARACTERS, "ab", end=True), end_token="none"),
        stream(some, Vocabulary.of(UNITS["jamo"], TEXTS, end=True), end_token="none"),
        stream(corpus([*TEXTS, "other"]), vocabulary(), end_token="none"),
    ]
    assert len({one.path for one in made}) == len(made)
    assert stream(some, vocabulary(), end_token="none", stop=10**9).path == made[0].path


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"x" + content[1:],
        lambda content: content[:8] + b"\xff" * 24 + content[32:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["empty", "no-header", "short", "long", "a-number", "kind", "counts", "a-start"],
)
def test_a_damaged_file_is_made_again(some: Corpus, damage: Callable[[bytes], bytes]) -> None:
    first = stream(some, vocabulary(), end_token="line")
    assert first.path is not None
    content = first.path.read_bytes()
    first.path.unlink()
    first.path.write_bytes(damage(content))
    again = stream(some, vocabulary(), end_token="line")
    assert same(first, again)
    assert first.path.read_bytes() == content


def test_many_can_write_the_same_stream_at_once(some: Corpus) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: stream(some, vocabulary(), end_token="line"), range(16)))
    assert all(same(made[0], other) for other in made)
    assert made[0].path is not None
    assert len(list(made[0].path.parent.iterdir())) == 1


def test_a_full_disk_is_said_with_its_place_and_leaves_nothing(
    some: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnrolledError, match=rf"cannot be written to {tmp_path}.*: No space left on device; ") as caught:
        stream(some, vocabulary(), end_token="line")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "streams").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(some: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnrolledError, match=r"file/streams: Not a directory; the environment variable UNROLLED_CACHE"):
        stream(some, vocabulary(), end_token="line", cache=tmp_path / "file" / "streams")


def test_a_text_that_is_wrong_is_not_said_to_be_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n" * 10)
    some = corpus(path)
    path.write_text("two\n" * 20)
    with pytest.raises(UnrolledError, match=r"a\.txt has changed"):
        stream(some, vocabulary(), end_token="line")
    assert list((tmp_path / "cache" / "streams").iterdir()) == []


def test_the_cache_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("UNROLLED_CACHE", "")
    assert cache_folder().name == "unrolled"
