"""How a call is divided among threads: by rows, which do not wait for one another, or by units, which do each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# Weights that a core's second-level cache keeps from step to step.
NEAR_BYTES = 1536 * 1024
FEW_ROWS = 4
# (rows that a thread has, bytes of weights up to which it is best that it reads all of them for those rows). Threads
# that share the weights wait for one another once a step: with few rows that costs more than reading small weights.
# Backward a step is longer to wait for, as what it reads and keeps besides the weights is divided, too. Measured with
# hidden 64 to 768 and batch 1 to 32 on two cores.
_WHOLE_FORWARD = ((0, 128 * 1024), (1, 250 * 1024), (3, 350 * 1024), (8, 1200 * 1024))
_WHOLE_REVERSE = ((0, 576 * 1024), (3, 900 * 1024), (4, 1200 * 1024))


@dataclass(frozen=True)
class Schedule:
    """`shares` of the rows, each run by `members` threads that have some of the units each."""

    shares: int
    members: int


_forced: ContextVar[Schedule | None] = ContextVar("forced", default=None)


@contextmanager
def forced(schedule: Schedule) -> Iterator[None]:
    """Every call of this thread divided in this way, as far as its rows allow: for measuring and testing."""
    before = _forced.set(schedule)
    try:
        yield
    finally:
        _forced.reset(before)


def state_of_schedules() -> Schedule | None:
    """The schedule that is forced, if one is."""
    return _forced.get()


def choose(batch: int, weight_bytes: int, threads: int, reverse: bool) -> Schedule:
    """The schedule of a call: shares of the rows, with as few members as keep the weights of each near.

    weight_bytes   of all maps that the loop reads at each step
    """
    chosen = state_of_schedules()
    if chosen is not None:
        return Schedule(min(chosen.shares, batch), chosen.members)
    for members in range(1, threads):
        if threads % members == 0 and weight_bytes // members <= _whole(batch * members // threads, reverse):
            return Schedule(min(threads // members, batch), members)
    return Schedule(1, threads)


def _whole(rows: int, reverse: bool) -> int:
    """Bytes of weights that a thread reads whole for so many rows."""
    bounds = _WHOLE_REVERSE if reverse else _WHOLE_FORWARD
    return next((size for most, size in bounds if rows <= most), NEAR_BYTES)


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
