"""Labels of texts as numbers, the loss of scores for them, and scores as probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unrolled.errors import UsageError, did_you_mean, short


class Labels:
    """The labels that there are: two or more of which a text has one, or any of which it may have several.

    Two are told apart by one score, the logarithm of the odds of the second; more by a softmax over one each; where a
    text may have several, each label has odds of its own.

    names       in the order of their numbers
    separator   what stands between the labels of a text; empty where it has one
    """

    def __init__(self, names: Sequence[str], separator: str = ""):
        self.names, self.separator = list(names), separator
        self._numbers = {name: number for number, name in enumerate(self.names)}

    @classmethod
    def of(cls, given: Iterable[str], separator: str = "") -> Labels:
        """The labels that texts have, in their order as texts; numbers in that of numbers.

        Raises   UsageError where there is nothing to tell apart
        """
        found = Counter(name for label in given for name in parts(label, separator))
        if len(found) < (1 if separator else 2):
            only = f"all texts have the label {short(next(iter(found)))}" if found else "no text has a label"
            raise UsageError(f"{only}: there is nothing to tell apart")
        return cls(sorted(found, key=_in_order), separator)

    @property
    def scores(self) -> int:
        """Scores that a model gives of a text."""
        return 1 if self.is_binary else len(self.names)

    @property
    def is_binary(self) -> bool:
        """Whether a text has one of two."""
        return not self.separator and len(self.names) == 2

    def numbers(self, label: str) -> list[int]:
        """The numbers of a text's labels.

        Raises   UsageError for one that there is not
        """
        found = parts(label, self.separator)
        for name in found:
            if name not in self._numbers:
                raise UsageError(f"has the label {short(name)}, which no text had in training."
                                 f"{did_you_mean(name, self.names)}")  # fmt: skip
        return [self._numbers[name] for name in found]

    def targets(self, labels: Sequence[str]) -> Tensor:
        """What is wanted.

        Shapes   returns (texts,), numbers; where a text may have several (texts, label), 1 for those that it has
        """
        if not self.separator:
            return torch.tensor([self.numbers(label)[0] for label in labels], dtype=torch.int64)
        found = torch.zeros(len(labels), len(self.names))
        for row, label in enumerate(labels):
            found[row, self.numbers(label)] = 1
        return found

    def loss(self, scores: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """The loss of each text, in nats; where it may have several labels, the mean over all.

        Shapes   scores (texts, score), targets as above; returns (texts,)
        """
        if self.is_binary or self.separator:
            wanted = targets[:, None].to(scores.dtype) if self.is_binary else targets
            smooth = wanted * (1 - smoothing) + smoothing / 2
            return functional.binary_cross_entropy_with_logits(scores, smooth, reduction="none").mean(1)
        return functional.cross_entropy(scores, targets, label_smoothing=smoothing, reduction="none")

    def probabilities(self, scores: Tensor) -> Tensor:
        """Scores as probabilities of the labels, which sum to 1 unless a text may have several.

        Shapes   scores (texts, score); returns (texts, label)
        """
        scores = scores.double()
        if self.is_binary:
            second = torch.sigmoid(scores[:, 0])
            return torch.stack([1 - second, second], 1)
        return torch.sigmoid(scores) if self.separator else torch.softmax(scores, 1)

    def weights(self, targets: Tensor, kind: str) -> Tensor:
        """What a text counts: 1, or balanced, so that all labels count alike; their mean is 1.

        Shapes   returns (texts,)
        """
        if kind == "none":
            return torch.ones(len(targets))
        if self.separator:
            raise UsageError("class_weights are for texts with one label each: leave out class_weights, or separator")
        counts = torch.bincount(targets, minlength=len(self.names)).clamp(min=1)
        return len(targets) / (len(self.names) * counts)[targets]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"names": self.names, "separator": self.separator}

    @classmethod
    def from_json(cls, value: Any) -> Labels:
        """The labels that `to_json` gave, from a file that anybody may have written.

        Raises   ValueError, with the reason, when it is none
        """
        if not isinstance(value, Mapping) or set(value) != {"names", "separator"}:
            raise ValueError("labels have names and a separator")
        names, separator = value["names"], value["separator"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of labels must be a list of texts")
        if len(set(names)) < len(names) or len(names) < 1 or not isinstance(separator, str):
            raise ValueError("labels must be one or more, each another, and their separator a text")
        return cls(names, separator)


def parts(label: str, separator: str) -> list[str]:
    """The labels of a text, each once."""
    if not separator:
        return [label]
    return list(dict.fromkeys(filter(None, (name.strip() for name in label.split(separator)))))


def _in_order(name: str) -> tuple[float, str]:
    return (float(name) if name.removeprefix("-").isdecimal() else float("inf"), name)
