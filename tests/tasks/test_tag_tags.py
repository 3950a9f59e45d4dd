"""Labels as numbers: entities in the scheme of the data outside, in another within."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unrolled.data.entities import may_follow
from unrolled.errors import UsageError
from unrolled.tasks.tag.tags import Tags

BIO = [["B-x", "I-x", "O"], ["O", "B-y"]]


@pytest.mark.parametrize("inner", ["", "BIO", "BIOES"])
def test_labels_come_back_as_they_were_whatever_is_within(inner: str) -> None:
    tags = Tags.of(BIO, inner)
    assert (tags.scheme, tags.inner) == ("BIO", inner or "BIO")
    assert len(tags.names) == (9 if inner == "BIOES" else 5)
    for labels in BIO:
        assert tags.labels(tags.numbers(labels).tolist()) == labels
    assert Tags.from_json(tags.to_json()).names == tags.names


def test_what_does_not_fit_is_mended_on_the_way_in_and_on_the_way_out() -> None:
    tags = Tags.of(BIO)
    assert tags.mended(["I-x", "I-x", "I-y"]) == ["B-x", "I-x", "B-y"]
    assert tags.misfits(["I-x", "I-x", "I-y"]) == 2
    assert [tags.names[number] for number in tags.numbers(["O", "I-y"])] == ["O", "B-y"]
    assert tags.labels([tags.names.index("I-x")]) == ["B-x"]


def test_labels_that_are_no_entities_are_left_as_they_are() -> None:
    tags = Tags.of([["V", "N"], ["N"]])
    assert (tags.names, tags.scheme) == (["N", "V"], "")
    assert tags.mended(["V"]) == tags.labels([1]) == ["V"]
    assert tags.misfits(["V"]) == 0
    assert not tags.crf().get_buffer("no_pairs").any()


@pytest.mark.parametrize("inner", ["BIO", "BIOES"])
def test_a_chain_allows_what_the_scheme_does(inner: str) -> None:
    tags = Tags.of(BIO, inner)
    crf = tags.crf()
    for first, name in enumerate(tags.names):
        assert crf.get_buffer("no_begin")[first] == (not may_follow("O", name, inner))
        assert crf.get_buffer("no_end")[first] == (not may_follow(name, "O", inner))
        for second, other in enumerate(tags.names):
            assert crf.get_buffer("no_pairs")[first, second] == (not may_follow(name, other, inner))
    wanted = torch.from_numpy(tags.numbers(BIO[0]))[:, None]
    assert bool(crf(torch.zeros(3, 1, len(tags.names)), wanted).isfinite().all())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["B-z"], r"has the label 'B-z', which no sentence had in training\."),
        (["S-x"], "'S-x' is no tag of BIO"),
    ],
)
def test_a_label_that_there_is_not_is_said(labels: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tags.of(BIO).numbers(labels)


@pytest.mark.parametrize(
    ("labels", "inner", "message"),
    [
        ([["O"], ["O"]], "", "all tokens have the label 'O': there is nothing to tell apart"),
        ([["N", "V"]], "BIOES", "the labels are no tags of entities, 'N', 'V': leave out scheme"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels: list[list[str]], inner: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tags.of(labels, inner)


@pytest.mark.parametrize(
    "value",
    [
        None, {}, {"names": "ab", "scheme": "", "inner": ""}, {"names": ["a", "a"], "scheme": "", "inner": ""},
        {"names": ["a"], "scheme": "", "inner": ""}, {"names": ["a", "b"], "scheme": "BIO", "inner": ""},
        {"names": ["a", "b"], "scheme": "BIO", "inner": "BIO"}, {"names": ["O", "B-x"], "scheme": "X", "inner": "X"},
        {"names": ["O", "B-x", "I-x"], "scheme": "BIO", "inner": []},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_that_holds_no_tags_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="tags"):
        Tags.from_json(value)
