"""A trial of a few steps: what a training would take."""

from __future__ import annotations

import statistics
import sys
import time
from itertools import pairwise

import torch

from unrolled.report.text import duration
from unrolled.tasks.base import Task
from unrolled.training.loop import SETTLING_STEPS, Step, Training

TRIAL_STEPS = 12


def trial(task: Task, training: Training) -> list[tuple[str, str]]:
    """Train a few steps, take one evaluation, put everything back; returns what was seen: rows as the network reads
    them, pace, time and memory.
    """
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    random = torch.get_rng_state()
    times = [0.0]
    for event in training.events():
        if isinstance(event, Step):
            times.append(event.seconds)
            if len(times) > TRIAL_STEPS:
                break
    start = time.perf_counter()
    task.evaluate()
    evaluation = time.perf_counter() - start
    task.model.load_state_dict(before)
    torch.set_rng_state(random)
    gaps = [after - earlier for earlier, after in pairwise(times)]
    pace = statistics.median(gaps[SETTLING_STEPS:] or gaps)
    rows = [(f"row {index}", repr(row)) for index, row in enumerate(task.shown(), 1)]
    rate = task.units(len(gaps)) / times[-1]
    rows.append(("pace", f"{pace * 1000:.1f} ms a step, about {rate:,.0f} {task.unit}/s"))
    minutes = training.options.minutes
    if minutes is not None:
        steps = int(minutes * 60 / pace)
        epochs = steps / task.steps_per_epoch
        rows.append(("time", f"{minutes:g} minutes, about {steps:,} steps, {epochs:.1f} epochs"))
    else:
        total = training.steps * pace + training.options.evaluations * evaluation
        rows.append(("time", f"about {duration(total)} for {training.steps:,} steps, unless it stops early"))
    if memory := _peak():
        rows.append(("memory", f"{memory / 2**20:,.0f} MiB at its peak so far"))
    return rows


def _peak() -> int:
    """The most memory that this process has held, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
