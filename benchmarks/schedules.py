"""What the engine loses by the schedule it chooses: our layer under each of them, and which of them is chosen.

Every division of the threads is forced, those that are fewer than all too: with two threads 1x1, 2x1 and 1x2, shares of
the rows x members of a share. Shares that there are no rows for are left out. The schedules race one another after the
contest with the peers, and the chosen one is a contender among them that is forced as they are, so a loss compares two
figures of one contest: the chosen one's time over the least, less one. It is never below 0: of schedules that are
equally fast one is the least by chance, and that share of the noise stays in it.

Forward and backward choose for themselves. A step of training is therefore timed in two parts, under one schedule for
both, and each part has its own chosen schedule, best one and loss. The loss of the step compares sums, the chosen
forward and backward over the best forward and backward: so its best is over all pairs, as far as the schedule of one
pass does not change what the other takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any
from unittest.mock import patch

import torch
from measuring import Effort, race_in_parts
from torch import Tensor

from unrolled.backends.llvm.run_backward import BackwardRun
from unrolled.backends.llvm.run_forward import ForwardRun
from unrolled.backends.llvm.schedule import Schedule, forced

Row = dict[str, Any]
Call = Callable[[], Any]

RUNS: dict[str, Any] = {"forward": ForwardRun, "backward": BackwardRun}
SHARE_OF_SECONDS = 0.5  # of a contest's, for the schedules


def contest(calls: dict[str, Call], batch: int, threads: int, effort: Effort) -> Row:
    """The figures of a row: which schedules are chosen for these passes, which are best, and what is lost."""
    chosen = {name: chosen_for(name, call) for name, call in calls.items()}
    contenders = dict.fromkeys([*divisions(threads, batch), *chosen.values()])
    entered = {written(schedule): {name: under(schedule, calls[name]) for name in calls} for schedule in contenders}
    timings = race_in_parts(entered, replace(effort, seconds=SHARE_OF_SECONDS * effort.seconds))
    times = {name: {who: 1000 * parts[name].median for who, parts in timings.items()} for name in calls}
    best = {name: min(own, key=own.__getitem__) for name, own in times.items()}
    least = {name: times[name][best[name]] for name in calls}
    taken = {name: times[name][written(chosen[name])] for name in calls}
    return {
        "schedules": times,
        "chosen": ", ".join(map(written, chosen.values())),
        "chosen_ms": sum(taken.values()),
        "best_schedule": ", ".join(best.values()),
        "best_schedule_ms": sum(least.values()),
        "loss": sum(taken.values()) / sum(least.values()) - 1,
        "losses": {name: taken[name] / least[name] - 1 for name in calls},
    }


def losses(rows: list[Row]) -> Iterator[Row]:
    """The mean and the largest loss of each cell and mode, and of all rows."""
    for cell, mode in [*dict.fromkeys((row["cell"], row["mode"]) for row in rows), ("all", "both")]:
        own = [row for row in rows if cell == "all" or (row["cell"], row["mode"]) == (cell, mode)]
        worst = max(own, key=lambda row: row["loss"])
        yield {
            "cell": cell,
            "mode": mode,
            "rows": len(own),
            "loss_mean": sum(row["loss"] for row in own) / len(own),
            "loss_largest": worst["loss"],
            "shape": worst["shape"],
            "chosen": worst["chosen"],
            "best_schedule": worst["best_schedule"],
        }


def divisions(threads: int, batch: int) -> list[Schedule]:
    """Shares and members whose product divides the threads, each once as far as the rows go."""
    pairs = product(range(1, threads + 1), repeat=2)
    fitting = [(shares, members) for shares, members in pairs if threads % (shares * members) == 0]
    return list(dict.fromkeys(Schedule(min(shares, batch), members) for shares, members in fitting))


def written(schedule: Schedule) -> str:
    return f"{schedule.shares}x{schedule.members}"


def passes_apart(
    module: torch.nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, d_y: Tensor, mode: str
) -> dict[str, Call]:
    """The passes of a mode by name, in their order: the backward one goes back over the forward one before it."""
    if mode == "inference":

        def infer() -> Tensor:
            with torch.no_grad():
                return run(x)

        return {"forward": infer}
    x = x.detach().requires_grad_()
    wanted = [x, *module.parameters()]
    outputs: list[Tensor] = []
    return {
        "forward": lambda: outputs.append(run(x)),
        "backward": lambda: torch.autograd.grad(outputs.pop(), wanted, d_y),
    }


def under(schedule: Schedule, call: Call) -> Call:
    """The call with this schedule."""

    def run() -> Any:
        with forced(schedule):
            return call()

    return run


def chosen_for(name: str, call: Call) -> Schedule:
    """The schedule that a pass runs with if none is forced."""
    with _observed(RUNS[name]) as found:
        call()
    return found[-1]


@contextmanager
def _observed(kind: Any) -> Iterator[list[Schedule]]:
    """The schedules of the scans of this kind that run meanwhile.

    What ran is looked at, because the engine asks its selector but once for each shape.
    """
    found, course = [], kind.course

    def noted(run: Any, *arguments: Any) -> Any:
        found.append(Schedule(run.layout.shares, run.threads // run.layout.shares))
        return course(run, *arguments)

    with patch.object(kind, "course", noted):
        yield found
