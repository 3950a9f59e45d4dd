"""The rows of metrics.jsonl as arrays, and a long array as a curve of few points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Numbers = NDArray[np.float64]
MOST_POINTS = 400
# Up to so many steps each is a point of its own; beyond, a point stands for several.
EACH_STEP = 120
STEPS_A_POINT = 10


@dataclass(frozen=True)
class Evaluation:
    """A held-out loss in nats, NaN if it was not finite, and what the model then produced."""

    number: float
    loss: float
    seconds: float
    best: bool
    sample: str


@dataclass(frozen=True)
class Curve:
    """A line and the band around it; a point stands for one or several steps."""

    numbers: Numbers
    middle: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True)
class History:
    """What was measured in a training, in the order of its steps; what is not finite or not there is NaN."""

    numbers: Numbers
    loss: Numbers
    gradient_norm: Numbers
    learning_rate: Numbers
    skipped: NDArray[np.bool_]
    evaluations: Sequence[Evaluation]
    resumed: Sequence[float]
    reason: str
    seconds: float
    planned: float

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> History:
        """The history that rows tell. Of two rows for one step, as a resumed run leaves them, the later one holds."""
        steps: dict[float, Mapping[str, Any]] = {}
        evaluations: dict[float, Evaluation] = {}
        resumed: list[float] = []
        reason, seconds, planned = "", math.nan, math.nan
        for row in rows:
            if not isinstance(row, Mapping):
                continue
            event, number = row.get("event"), _number(row, "number")
            if event not in ("step", "evaluation", "resumed", "stopped") or math.isnan(number):
                continue
            seconds = _else(_number(row, "seconds"), seconds)
            planned = _else(_number(row, "steps"), planned)
            reason = _text(row, "reason") if event == "stopped" else ""
            if event == "step":
                steps[number] = row
            elif event == "evaluation":
                evaluations[number] = Evaluation(
                    number,
                    _number(row, "loss"),
                    _number(row, "seconds"),
                    row.get("best") is True,
                    _text(row, "sample"),
                )
            elif event == "resumed":
                resumed.append(number)
        order = sorted(steps)

        def column(key: str) -> Numbers:
            return np.array([_number(steps[number], key) for number in order], dtype=np.float64)

        return cls(
            np.array(order, dtype=np.float64),
            column("loss"),
            column("gradient_norm"),
            column("learning_rate"),
            np.array([steps[number].get("skipped") is True for number in order], dtype=np.bool_),
            [evaluations[number] for number in sorted(evaluations)],
            sorted(set(resumed)),
            reason,
            seconds,
            planned,
        )

    @cached_property
    def best(self) -> Evaluation | None:
        """The evaluation that was marked as best last, else that with the lowest loss."""
        finite = [evaluation for evaluation in self.evaluations if math.isfinite(evaluation.loss)]
        marked = [evaluation for evaluation in finite if evaluation.best]
        return marked[-1] if marked else min(finite, key=lambda evaluation: evaluation.loss, default=None)

    @property
    def range(self) -> tuple[float, float]:
        """The first and the last step of which anything is known."""
        known = [*self.numbers[:1], *self.numbers[-1:], *(evaluation.number for evaluation in self.evaluations)]
        return (min(known), max(known)) if known else (0.0, 1.0)

    @property
    def steps_a_point(self) -> int:
        """About how many steps one point of a curve stands for."""
        return max(1, round(len(self.numbers) / _points(len(self.numbers))))

    def curve(self, values: Numbers, low: float, high: float) -> Curve:
        """The means of values over equal spans of steps; the band reaches from one quantile to another."""
        first, last = self.range
        inner = np.linspace(first, last, _points(len(values)) + 1)[1:-1]
        spans = np.split(np.arange(len(values)), np.searchsorted(self.numbers, inner, side="right"))
        points = []
        for span in spans:
            if not len(span):
                continue
            finite = values[span][np.isfinite(values[span])]
            found = [finite.mean(), *np.quantile(finite, [low, high])] if len(finite) else [math.nan] * 3
            points.append([self.numbers[span].mean(), *found])
        return Curve(*np.array(points, dtype=np.float64).reshape(-1, 4).T)

    def skipped_places(self) -> Numbers:
        """Where steps were skipped, no two places nearer to each other than can be seen."""
        numbers, (first, last) = self.numbers[self.skipped], self.range
        _, chosen = np.unique(((numbers - first) / max(last - first, 1) * MOST_POINTS).astype(int), return_index=True)
        return numbers[chosen]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, most)]


def _points(steps: int) -> int:
    return max(1, min(steps, MOST_POINTS, max(EACH_STEP, steps // STEPS_A_POINT)))


def _number(row: Mapping[str, Any], key: str) -> float:
    """A finite number of a row, else NaN: a row may come from another version, or from a damaged file."""
    value = row.get(key)
    # Beyond a float's range, and far beyond any that can be drawn.
    known = isinstance(value, int | float) and not isinstance(value, bool) and -1e100 < value < 1e100
    return float(value) if known else math.nan  # type: ignore[arg-type]


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _else(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value
