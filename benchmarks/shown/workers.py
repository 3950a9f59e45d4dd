"""Trainings side by side, one on each core: networks that are small gain less from a second thread."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch
from rich.progress import track

Given = TypeVar("Given")
Found = TypeVar("Found")


def side_by_side(call: Callable[[Given], Found], given: Sequence[Given], about: str) -> list[Found]:
    """What a function of a module gives of each argument, in their order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, _alone) as pool:
        return list(track(pool.map(call, given), about, len(given), transient=True))


def _alone() -> None:
    """A worker has one thread, and leaves the terminal to the process that shows how far all of them are."""
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the worker lives
