"""Files of word vectors in every form give the same vectors, and what is none is said."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from unrolled.data.vectors import neighbours, read_vectors, write_vectors
from unrolled.errors import UsageError

WORDS = {"the": [1.0, -0.5, 0.25], "고양이": [0.0, 2.0, 1e-3], "new york": [3.0, 0.0, -1.0]}
LINES = [f"{word} {' '.join(map(str, values))}" for word, values in WORDS.items()]
BINARY = b"3 3\n" + b"".join(
    word.encode().replace(b" ", b"\xc2\xa0") + b" " + np.array(values, "<f4").tobytes() + b"\n"
    for word, values in WORDS.items()
)
FORMS = {
    "glove.txt": "\n".join(LINES).encode(),
    "word2vec.txt": "\n".join(["3 3", *LINES, ""]).encode(),
    "cc.ko.vec": "\n".join(["3 3", *(f"{line} " for line in LINES)]).encode(),
    "glove.txt.gz": gzip.compress("\n".join(LINES).encode()),
    "news.bin": BINARY,
    "news.bin.gz": gzip.compress(BINARY),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_vectors(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FORMS[name])
    york = "new\xa0york" if "bin" in name else "new york"
    found, known = read_vectors(tmp_path / name, ["고양이", "dog", york, "The"])
    assert found.dtype == np.float32
    assert known.tolist() == [True, False, True, True]
    np.testing.assert_allclose(found, [WORDS["고양이"], [0, 0, 0], WORDS["new york"], WORDS["the"]])


def test_a_word_itself_goes_before_its_lower_case(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("us 1 1\nUS 2 2\nUS 3 3\n")
    found, _ = read_vectors(tmp_path / "a.txt", ["US", "us", "Us"])
    assert found.tolist() == [[2, 2], [1, 1], [1, 1]]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    words = ["가", "b c", "<end>"]
    write_vectors(tmp_path / "a.vec", words, rows)
    found, known = read_vectors(tmp_path / "a.vec", ["가", "b_c", "<end>"])
    assert known.all()
    np.testing.assert_allclose(found, rows, rtol=1e-5)
    with pytest.raises(UsageError, match=r"a\.vec is there already"):
        write_vectors(tmp_path / "a.vec", words, rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"the 1 2\ncat 1\n", "line 2 has 1 numbers after a word, not 2"),
        ("a.txt", b"the 1 2\ncat 1 x\n", "line 2 is no word with its vector"),
        ("a.txt", b"3 2\nthe 1 2\ncat 1 2\n", r"a\.txt ends after 2 words of 3"),
        ("a.txt", b"the 1 nan\n", "has a value for 'the' that is no finite number"),
        ("a.txt", b"the\n", "line 1 has 0 numbers after a word, not 1"),
        ("a.bin", b"\x00\x01", "is no binary file of word2vec"),
        ("a.bin", BINARY[:-8], "ends, or is damaged, at word 3 of 3"),
    ],
)
def test_what_is_no_file_of_vectors_is_said(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_vectors(tmp_path / name, ["the"])
    assert "\n" not in str(caught.value)


def test_neighbours_are_those_of_the_smallest_angle() -> None:
    vectors = np.array([[1, 0], [2, 0.1], [0, 1], [-1, 0], [0, 0]], np.float32)
    assert [place for place, _ in neighbours(vectors, 0, 3)] == [1, 2, 4]
    assert neighbours(vectors, 0, 1)[0][1] == pytest.approx(2 / np.hypot(2, 0.1))
    assert len(neighbours(vectors, 0, 100)) == 4
