"""A task whose losses are given, to see what the loop makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from unrolled.options import TrainingOptions
from unrolled.tasks.base import Loss
from unrolled.training.loop import Event, Step, Training


class Toy:
    """Windows are numbers that scale the loss; the state is the weight itself, with its history."""

    unit = "steps"

    def __init__(
        self,
        scales: Sequence[float],
        held_out: Sequence[float] | None = (1.0,),
        accuracies: Sequence[float] = (),
    ):
        self.scales = scales
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.model.weight)
        self.states: list[Any] = []
        self.weights: list[float] = []
        self.held_out = held_out
        self.accuracies = accuracies
        self.evaluated_at: list[int] = []

    @property
    def steps_per_epoch(self) -> int:
        return len(self.scales)

    def units(self, steps: int) -> int:
        return steps

    def prepare(self) -> None:
        pass

    def windows(self, epoch: int, first: int) -> Iterator[float]:
        return iter(self.scales[first:])

    def state(self) -> Any:
        return (torch.zeros(1, 1), (torch.zeros(1, 1),))

    def loss(self, window: float, state: Any) -> tuple[Loss, Any]:
        self.states.append(state)
        self.weights.append(float(self.model.weight.detach()))
        grown = self.model.weight * 1.0
        loss = (grown * window).sum()
        return Loss(loss, loss, loss * 7), (grown, (grown * 2,))

    def evaluate(self) -> float | None:
        """The held-out losses given, one after the other; the last one for ever."""
        if self.held_out is None:
            return None
        self.evaluated_at.append(len(self.weights))
        return self.held_out[min(len(self.evaluated_at), len(self.held_out)) - 1]

    def figures(self) -> dict[str, float]:
        """The accuracies given, one an evaluation; the last one for ever."""
        if not self.accuracies:
            return {}
        return {"accuracy": self.accuracies[min(len(self.evaluated_at), len(self.accuracies)) - 1]}

    def sample(self) -> str:
        return f"after {len(self.weights)}"


def events_of(toy: Toy, **options: Any) -> list[Event]:
    return list(Training(toy, TrainingOptions(**options)).events())


def steps_of(toy: Toy, **options: Any) -> list[Step]:
    return [event for event in events_of(toy, **options) if isinstance(event, Step)]
