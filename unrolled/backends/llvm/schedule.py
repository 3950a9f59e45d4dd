"""How a call is divided among threads: by rows, which do not wait for one another, or by units, which do each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Weights that a core's second-level cache keeps from step to step.
NEAR_BYTES = 1536 * 1024
FEW_ROWS = 4


@dataclass(frozen=True)
class Schedule:
    """`shares` of the rows, each run by `members` threads that have some of the units each."""

    shares: int
    members: int


_forced: list[Schedule] = []


@contextmanager
def forced(schedule: Schedule) -> Iterator[None]:
    """Every call divided in this way, as far as its rows allow: for measuring and testing."""
    _forced.append(schedule)
    try:
        yield
    finally:
        _forced.pop()


def state_of_schedules() -> Schedule | None:
    """The schedule that is forced, if one is."""
    return _forced[-1] if _forced else None


def choose(batch: int, weight_bytes: int, threads: int, reverse: bool) -> Schedule:
    """The schedule of a call.

    weight_bytes   of all maps that the loop reads at each step
    """
    if _forced:
        return Schedule(min(_forced[-1].shares, batch), _forced[-1].members)
    if threads == 1:
        return Schedule(1, 1)
    near = weight_bytes <= NEAR_BYTES
    if batch >= threads * (4 if reverse else 2) and near:
        return Schedule(threads, 1)
    if weight_bytes < 48 * 1024:
        return Schedule(min(threads, batch), 1)
    return Schedule(1, threads)


def own_threads(scans: int, threads: int, batch: int, weight_bytes: int) -> int | None:
    """The threads that each of some scans has if they run side by side; None if they run one after the other.

    Side by side, fewer threads wait for one another, and each has longer work of its own. Threads that cannot be dealt
    evenly would stand idle. Few rows do little with the weights but read them, at every step anew: then it is better
    that all threads share those of one scan, where their parts stay near and whole ones would not.

    weight_bytes   of the largest scan's maps of states
    """
    if scans == 1 or threads % scans:
        return None
    own = threads // scans
    if batch < FEW_ROWS and weight_bytes // threads <= NEAR_BYTES < weight_bytes // own:
        return None
    return own
