"""How the benchmarks measure: contenders in turn in one process, medians, and the machine they ran on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from subprocess import Popen
from sys import executable
from typing import Any

import numpy as np
import torch

FEWEST_ROUNDS = 3
MOST_CALLS = 1000  # in a block
LONG = 0.1  # seconds; a call that takes longer needs none before it to warm up
PEAK_SIZE = 2048
PACKAGES = ("unrolled", "torch", "numpy", "llvmlite", "jax", "jaxlib", "onnx", "onnxruntime", "openvino")
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Effort:
    """How long each contest goes on.

    rounds    at most so many
    seconds   after which no further round begins, but for the first few
    block     seconds of calls in a row
    """

    rounds: int = 15
    seconds: float = 8.0
    block: float = 0.05


@dataclass
class Timing:
    """Seconds of the calls of one contender, one list a block."""

    blocks: list[list[float]] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median of the blocks' medians."""
        return statistics.median(statistics.median(block) for block in self.blocks)

    @property
    def best(self) -> float:
        """The shortest call."""
        return min(min(block) for block in self.blocks)

    def quantile(self, share: float) -> float:
        """The time that this share of all calls stays below."""
        calls = sorted(call for block in self.blocks for call in block)
        return calls[min(len(calls) - 1, int(share * len(calls)))]


def seconds(call: Callable[[], object]) -> float:
    """What one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def settle(at_most: float = 0.2) -> None:
    """Wait until no thread of this process works any more.

    OpenMP, ONNX Runtime, TBB and XLA keep threads of their own, which spin for a while after a call, up to tens of
    milliseconds, and would slow down whoever comes next. They keep their default settings, which they are fastest with.
    """
    end = time.perf_counter() + at_most
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0002:
            return


def race(contenders: dict[str, Callable[[], object]], effort: Effort) -> dict[str, Timing]:
    """The contenders' times, taken in turns: in every round each of them makes a block of calls in a row.

    A block begins when the threads of the one before have come to rest, and with a call that is not measured, which
    wakes the contender's own threads and fills the caches. Every other round goes backwards.
    """
    found = race_in_parts({name: {"whole": call} for name, call in contenders.items()}, effort)
    return {name: timings["whole"] for name, timings in found.items()}


def race_in_parts(
    contenders: dict[str, dict[str, Callable[[], object]]], effort: Effort
) -> dict[str, dict[str, Timing]]:
    """A race of contenders whose calls have parts, one after the other, each of which is timed."""

    def run(name: str) -> list[float]:
        return [seconds(part) for part in contenders[name].values()]

    expected = {}
    for name in contenders:
        run(name)  # compiles
        expected[name] = sum(run(name))
    timings = {name: {part: Timing() for part in parts} for name, parts in contenders.items()}
    order, start = list(contenders), time.perf_counter()
    for number in range(effort.rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() - start > effort.seconds:
            break
        for name in order:
            settle()
            if expected[name] < LONG:
                run(name)
            calls = min(MOST_CALLS, max(1, round(effort.block / expected[name])))
            measured = zip(*(run(name) for _ in range(calls)), strict=True)
            for timing, block in zip(timings[name].values(), measured, strict=True):
                timing.blocks.append(list(block))
        order.reverse()
    return timings


class Peak:
    """The rate of fp32 matrix products that the machine reaches: the median of samples, each the best of some calls.

    Samples are taken between the contests, so that the peak and what is divided by it saw the same machine.
    """

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._a, self._b = torch.randn(2, PEAK_SIZE, PEAK_SIZE).unbind(0)
        self._out = torch.empty(PEAK_SIZE, PEAK_SIZE)

    def sample(self, calls: int = 5) -> None:
        """Measure once more."""
        settle()
        best = min(seconds(lambda: torch.mm(self._a, self._b, out=self._out)) for _ in range(calls + 1))
        self.samples.append(2 * PEAK_SIZE**3 / best)

    @property
    def flops(self) -> float:
        """Operations a second."""
        if not self.samples:
            self.sample()
        return statistics.median(self.samples)


def largest_error(found: Any, expected: Any) -> float:
    """The largest difference of two tensors, or of tuples as far as both go, relative to the largest number in each."""
    if not isinstance(expected, tuple):
        found, expected = (found,), (expected,)
    errors = []
    for values in zip(found, expected, strict=False):
        a, b = map(_tensor, values)
        errors.append(((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item())
    return max(errors)


def _tensor(value: Any) -> torch.Tensor:
    """A tensor in float32, of what any of the contenders gives."""
    return value.detach().float() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios."""
    return statistics.geometric_mean(values)


@contextmanager
def one_core_busy() -> Iterator[None]:
    """Another process that never rests."""
    spinner = Popen([executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        spinner.kill()
        spinner.wait()


def busy_share(sample: float = 1.0) -> float:
    """The share of the machine that others take while this process sleeps."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return os.getloadavg()[0] / (os.cpu_count() or 1)

    def read() -> tuple[int, int]:
        ticks = [int(word) for word in stat.read_text().splitlines()[0].split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]  # all, and those that are idle or wait for a disk

    total, idle = read()
    time.sleep(sample)
    later_total, later_idle = read()
    return 1 - (later_idle - idle) / max(1, later_total - total)


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    name, features = platform.processor() or platform.machine(), []
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = (line.partition(":") for line in information.read_text().splitlines())
        known = {key.strip(): value.strip() for key, _, value in lines}
        name = known.get("model name", name)
        features = [feature for feature in CPU_FEATURES if feature in known.get("flags", "").split()]
    return {
        "cpu": name,
        "features": features,
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "busy_before": busy_share(),
        "load_average": os.getloadavg(),
    }


def versions() -> dict[str, str]:
    """The packages that take part, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "torch": torch.__version__}
