from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data import files
from unrolled.data.corpus import Corpus, corpus
from unrolled.data.numbering import END_TOKENS, texts
from unrolled.data.stream import IGNORED, SideBySide, Stream, stream
from unrolled.data.units import UNITS, Unit
from unrolled.data.vocabulary import UNKNOWN, Vocabulary
from unrolled.errors import UsageError

TEXT = st.text(st.sampled_from("ab .\n\t가각é'-"), min_size=1, max_size=30).map(lambda text: normalize("NFC", text))
DOCUMENTS = st.lists(TEXT, min_size=1, max_size=4)
UNIT = st.sampled_from(list(UNITS.values()))
CHARACTERS, WORDS = UNITS["characters"], UNITS["words"]


def read(documents: Sequence[str]) -> Corpus:
    return corpus({"text": list(documents)}, column="text")


def shown(vocabulary: Vocabulary, made: Stream) -> str:
    """A stream as text: an end as |, an unknown symbol as ?."""
    special = {vocabulary.end: "|", vocabulary.unknown: "?"}
    return "".join(special.get(number, vocabulary.raw(number)) for number in made.numbers.tolist())


def expected(documents: Sequence[str], vocabulary: Vocabulary, end_token: str) -> tuple[list[int], list[int]]:
    """The numbers and starts of whole documents, as slowly as the words say it."""
    numbers: list[int] = []
    starts: list[int] = []
    end = vocabulary.end
    separator = int(vocabulary.encode("\n")[0]) if end is None else end
    for document in documents:
        if not (end_token == "line" and numbers[-1:] == [end]):
            numbers.append(separator)
        if len(numbers) - 1 not in starts:
            starts.append(len(numbers) - 1)
        if end_token != "line":
            numbers += vocabulary.encode(document).tolist()
            continue
        lines = document.split("\n")
        if vocabulary.unit.name == "words":
            lines = [line.strip() for line in lines if line.strip()]
        elif lines[-1] == "":
            lines.pop()
        assert end is not None
        for line in lines:
            numbers += [*vocabulary.encode(line).tolist(), end]
    if end_token == "document":
        assert end is not None
        numbers.append(end)
    return numbers, starts


@settings(deadline=None, max_examples=300)
@given(documents=DOCUMENTS, unit=UNIT, end_token=st.sampled_from(END_TOKENS), end=st.booleans(), data=st.data())
def test_a_stream_is_the_documents_one_after_the_other(
    documents: list[str], unit: Unit, end_token: str, end: bool, data: st.DataObject
) -> None:
    some = read(documents)
    vocabulary = Vocabulary.of(unit, data.draw(DOCUMENTS), end or end_token != "none")
    made = stream(some, vocabulary, end_token=end_token)
    numbers, starts = expected(documents, vocabulary, end_token)
    assert made.numbers.tolist() == numbers
    assert made.starts.tolist() == starts
    assert made.characters == sum(map(len, documents))
    assert made.numbers.dtype == vocabulary.dtype
    with patch.object(files, "CHUNK", data.draw(st.integers(1, 7))):
        cut = stream(some, vocabulary, end_token=end_token)
    assert (cut.numbers.tolist(), cut.starts.tolist(), cut.unknown) == (numbers, starts, made.unknown)


@settings(deadline=None)
@given(
    documents=DOCUMENTS, unit=UNIT, end_token=st.sampled_from(END_TOKENS), edges=st.tuples(*[st.integers(0, 40)] * 2)
)
def test_nothing_is_unknown_to_the_vocabulary_of_the_same_texts(
    documents: list[str], unit: Unit, end_token: str, edges: tuple[int, int]
) -> None:
    some, (start, stop) = read(documents), sorted(edges)
    counted = texts(some, unit, end_token=end_token, start=start, stop=stop)
    vocabulary = Vocabulary.of(unit, counted, end=end_token != "none")
    made = stream(some, vocabulary, end_token=end_token, start=start, stop=stop)
    assert made.unknown == 0
    if end_token == "line":
        assert "\n" not in vocabulary.symbols or unit.closed
    if not unit.closed and len(made.numbers):
        assert set(made.numbers.tolist()) >= set(range(1, len(vocabulary)))
    assert made.characters == len("".join(documents)[start:stop])


@pytest.mark.parametrize(
    ("unit", "end_token", "end", "documents", "as_text", "starts"),
    [
        ("characters", "none", False, ["ab\nc", "d\n"], "\nab\nc\nd\n", [0, 5]),
        ("characters", "none", False, ["ab", "c"], "?ab?c", [0, 3]),
        ("characters", "none", True, ["ab\nc", "d\n"], "|ab\nc|d\n", [0, 5]),
        ("characters", "document", True, ["ab\nc", "d\n"], "|ab\nc|d\n|", [0, 5]),
        ("characters", "line", True, ["ab\nc", "d\n\ne\n"], "|ab|c|d||e|", [0, 5]),
        ("characters", "line", True, ["\n a \n", "\n"], "|| a ||", [0, 5]),
        ("words", "none", False, ["It was.\nSo "], "\nIt was.\nSo ", [0]),
        ("words", "line", True, [" It was. \n\n \tSo\n", "it"], "|It was.|So|it|", [0, 6]),
        ("words", "line", True, [" \n", "it"], "|it|", [0]),
        ("jamo", "line", True, ["각\n", "나"], "|각|나|", [0, 4]),
    ],
)
def test_separators_and_ends_stand_where_they_are_said_to(
    unit: str, end_token: str, end: bool, documents: list[str], as_text: str, starts: list[int]
) -> None:
    some = read(documents)
    vocabulary = Vocabulary.of(UNITS[unit], texts(some, UNITS[unit], end_token=end_token), end)
    made = stream(some, vocabulary, end_token=end_token)
    assert UNITS[unit].join(shown(vocabulary, made)) == as_text
    assert made.starts.tolist() == starts


def test_unknown_symbols_of_the_text_are_counted_without_the_separators() -> None:
    some = read(["abca", "xa"])
    made = stream(some, Vocabulary(CHARACTERS, "ab"), end_token="none")
    assert made.numbers.tolist() == [0, 1, 2, 0, 1, 0, 0, 1]
    assert made.unknown == 2
    assert stream(some, Vocabulary.of(UNITS["bytes"], []), end_token="none").unknown == 0


def test_a_piece_of_a_text_begins_like_a_document() -> None:
    some = read(["It was a", "night"])
    vocabulary = Vocabulary.of(CHARACTERS, ["It was a night\n"])
    made = stream(some, vocabulary, end_token="none", start=3, stop=10)
    assert shown(vocabulary, made) == "\nwas a\nni"
    assert made.starts.tolist() == [0, 6]
    assert made.characters == 7
    nothing = stream(some, vocabulary, end_token="none", start=5, stop=5)
    assert (len(nothing.numbers), len(nothing.starts), nothing.numbers.dtype) == (0, 0, vocabulary.dtype)


def test_a_line_may_go_on_over_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    some = read(["  It was   a dark  \n \n  and stormy night \n"])
    whole = stream(some, Vocabulary.of(WORDS, texts(some, WORDS, end_token="line"), True), end_token="line")
    monkeypatch.setattr(files, "CHUNK", 1)
    assert len(list(some.parts())) > 10
    vocabulary = Vocabulary.of(WORDS, texts(some, WORDS, end_token="line"), True)
    cut = stream(some, vocabulary, end_token="line")
    assert cut.numbers.tolist() == whole.numbers.tolist()
    assert shown(vocabulary, cut) == "|It was   a dark|and stormy night|"


def test_an_end_token_that_cannot_be_is_said() -> None:
    some, vocabulary = read(["a"]), Vocabulary(CHARACTERS, "a")
    with pytest.raises(UsageError, match=r"^there is no end_token 'lines'\. Did you mean line\?$"):
        stream(some, vocabulary, end_token="lines")
    with pytest.raises(UsageError, match=r"^end_token 'line' needs a vocabulary with an end"):
        stream(some, vocabulary, end_token="line")


def of_numbers(numbers: Sequence[int], starts: Sequence[int] = (0,)) -> Stream:
    return Stream(np.array(numbers, np.uint8), np.array(starts, np.int64), len(numbers), 0, None)


@settings(deadline=None)
@given(count=st.integers(0, 40), rows=st.integers(1, 9), length=st.integers(1, 12), starts=st.sets(st.integers(0, 39)))
def test_windows_pass_over_every_number_once_and_each_target_follows_its_input(
    count: int, rows: int, length: int, starts: set[int]
) -> None:
    numbers = list(range(100, 100 + count))
    begun = sorted(start for start in starts if start < count)
    side_by_side = SideBySide(of_numbers(numbers, begun), rows)
    windows = list(side_by_side.windows(length))
    assert sum(len(window.inputs) for window in windows) == side_by_side.steps
    if not windows:
        assert count < 2
        return
    assert all(window.inputs.shape == window.targets.shape == (len(window.inputs), rows) for window in windows)
    assert all(len(window.inputs) == length for window in windows[:-1])
    inputs = torch.cat([window.inputs for window in windows]).t().flatten().tolist()
    targets = torch.cat([window.targets for window in windows]).t().flatten().tolist()
    assert inputs[: count - 1] == numbers[:-1]
    assert targets[: count - 1] == numbers[1:]
    assert set(targets[count - 1 :]) <= {IGNORED}
    assert set(inputs) <= set(numbers)
    resets = [
        torch.zeros_like(window.inputs, dtype=torch.bool) if window.resets is None else window.resets
        for window in windows
    ]
    assert torch.cat(resets).t().flatten().nonzero().flatten().tolist() == [s for s in begun if s < len(inputs)]
    assert all(
        window.resets is None or (window.resets.dtype == torch.bool and window.resets.any()) for window in windows
    )


def test_windows_can_begin_later() -> None:
    side_by_side = SideBySide(of_numbers(range(21)), 2)
    assert side_by_side.steps == 10
    first, *others = side_by_side.windows(4, first=5)
    assert first.inputs.t().tolist() == [[5, 6, 7, 8], [15, 16, 17, 18]]
    assert [window.inputs.t().tolist() for window in others] == [[[9], [19]]]
    assert side_by_side.window(8, 100).targets.t().tolist() == [[9, 10], [19, 20]]
    assert side_by_side.window(0, 3).inputs.dtype == torch.int64


def test_shakespeare_and_korean_reviews_read_back(data: Path) -> None:
    for path, column in (
        (data / "tinyshakespeare" / "input.txt", ""),
        (data / "nsmc" / "ratings_test.txt", "document"),
    ):
        some = corpus(path, column=column)
        stop = 200_000
        text = "".join(part.text for part in some.parts(0, stop))
        for unit in UNITS.values():
            vocabulary = Vocabulary.of(unit, texts(some, unit, end_token="document", stop=stop), end=True)
            made = stream(some, vocabulary, end_token="document", stop=stop)
            assert vocabulary.decode(made.numbers) == text.replace(UNKNOWN, "")
