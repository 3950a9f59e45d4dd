"""Labels of tokens as numbers, and how they fit together where they are tags of entities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from unrolled.data.entities import OUTSIDE, SCHEMES, converted, may_follow, misfits, scheme_of
from unrolled.data.words import Numbers
from unrolled.errors import UsageError, did_you_mean, short
from unrolled.layers import CRF


class Tags:
    """The labels that there are.

    names    those that a model gives, in the order of their numbers
    scheme   that of the data, BIO or BIOES; empty where the labels are no tags of entities
    inner    that of the names
    """

    def __init__(self, names: Sequence[str], scheme: str = "", inner: str = ""):
        self.names, self.scheme, self.inner = list(names), scheme, inner
        self._numbers = {name: number for number, name in enumerate(self.names)}

    @classmethod
    def of(cls, given: Iterable[Sequence[str]], inner: str = "") -> Tags:
        """The labels that sentences have; of entities all that their scheme has.

        inner   a scheme to turn them into; "" for that of the data

        Raises   UsageError where there is nothing to tell apart, or a scheme is asked for where there are no entities
        """
        found = sorted(set(chain.from_iterable(given)))
        scheme = scheme_of(found)
        if inner and not scheme:
            raise UsageError(
                f"the labels are no tags of entities, {', '.join(map(short, found[:5]))}: leave out scheme"
            )
        if len(found) < 2:
            raise UsageError(f"all tokens have the label {short(found[0])}: there is nothing to tell apart")
        if not scheme:
            return cls(found)
        kinds = sorted({name[2:] for name in found if name != OUTSIDE})
        inner = inner or scheme
        return cls([OUTSIDE, *(f"{letter}-{kind}" for kind in kinds for letter in SCHEMES[inner])], scheme, inner)

    def mended(self, labels: Sequence[str]) -> list[str]:
        """Labels of the data, where tags that do not fit those before them begin an entity.

        Raises   UsageError for a tag that the scheme does not have
        """
        return converted(labels, self.scheme, self.scheme) if self.scheme else list(labels)

    def misfits(self, labels: Sequence[str]) -> int:
        """How many tags do not fit those beside them."""
        return len(misfits(labels, self.scheme)) if self.scheme else 0

    def numbers(self, labels: Sequence[str]) -> Numbers:
        """The numbers of a sentence's labels.

        Raises   UsageError for one that there is not
        """
        found = converted(labels, self.scheme, self.inner) if self.scheme else labels
        for label, name in zip(labels, found, strict=True):
            if name not in self._numbers:
                raise UsageError(
                    f"has the label {short(label)}, which no sentence had in training.{did_you_mean(name, self.names)}"
                )
        return np.array([self._numbers[name] for name in found], np.int64)

    def labels(self, numbers: Iterable[int]) -> list[str]:
        """The labels of a sentence, in the scheme of the data, from their numbers; what does not fit is mended."""
        found = [self.names[number] for number in numbers]
        return converted(found, self.inner, self.scheme) if self.scheme else found

    def crf(self) -> CRF:
        """A chain over the labels that allows what their scheme does."""
        if not self.scheme:
            return CRF(len(self.names))
        allowed = [[may_follow(name, other, self.inner) for other in self.names] for name in self.names]
        begin = [may_follow(OUTSIDE, name, self.inner) for name in self.names]
        end = [may_follow(name, OUTSIDE, self.inner) for name in self.names]
        may_begin, may_end = torch.tensor(begin), torch.tensor(end)
        return CRF(len(self.names), torch.tensor(allowed), may_begin=may_begin, may_end=may_end)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"names": self.names, "scheme": self.scheme, "inner": self.inner}

    @classmethod
    def from_json(cls, value: Any) -> Tags:
        """The labels that `to_json` gave, from a file that anybody may have written.

        Raises   ValueError, with the reason, when it is none
        """
        if not isinstance(value, Mapping) or set(value) != {"names", "scheme", "inner"}:
            raise ValueError("tags have names, a scheme and an inner scheme")
        names, scheme, inner = value["names"], value["scheme"], value["inner"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of tags must be a list of texts")
        if len(set(names)) < len(names) or len(names) < 2:
            raise ValueError("tags must be two or more, each another")
        if not all(each in ("", *SCHEMES) for each in (scheme, inner)) or bool(scheme) != bool(inner):
            raise ValueError("the schemes of tags are BIO or BIOES, or both empty")
        if scheme and scheme_of(names) != inner:
            raise ValueError(f"the names of tags are not those of {inner}")
        return cls(names, scheme, inner)
