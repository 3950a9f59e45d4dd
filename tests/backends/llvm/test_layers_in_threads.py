"""Layers on teams of any size, from several threads and processes: the same numbers, and never a wait without end."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("llvmlite")

from tests.conformance.networks import NAMES, assert_close, batch_for, gradients, layer_of, run
from unrolled.backends.llvm import machine, team
from unrolled.backends.llvm.schedule import Schedule, forced, state_of_schedules

if machine.unavailable():
    pytest.skip(machine.unavailable(), allow_module_level=True)

# A kernel that hangs holds the main thread, which then sees no signal.
pytestmark = pytest.mark.timeout(120, method="thread")

SCHEDULES = [Schedule(1, 1), Schedule(2, 1), Schedule(1, 2), Schedule(2, 2)]
SOME = ["lstm", "gru-cho", "weird", "mogrifier-lstm"]
SHAPES = [
    (1, 4, 3, 132),
    (2, 3, 3, 36),
    (1, 6, 70, 36),
    (9, 2, 400, 36),
    (40, 5, 600, 36),
    (9, 3, 5, 132),
    (37, 3, 5, 36),
]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.fixture(autouse=True)
def _own_number_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def ids(shape: tuple[int, ...]) -> str:
    return "B{}-T{}-I{}-H{}".format(*shape)


def same(got: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
@pytest.mark.parametrize("name", SOME)
def test_outputs_are_the_same_bits_on_any_number_of_threads_and_gradients_from_run_to_run(
    name: str, shape: tuple[int, ...]
) -> None:
    batch, time, into, hidden = shape
    layer = layer_of(name, into, hidden, dtype=torch.float32, backend="llvm")
    for ragged in (False, True):
        given = batch_for(layer, time, batch, taps=True)
        given.lengths = torch.randint(0, time + 1, (batch,)) if ragged else None
        torch.set_num_threads(1)
        expected, slopes = gradients(layer, given)
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            got, first = gradients(layer, given)
            again, second = gradients(layer, given)
            assert same(got, expected), threads
            assert same(again, expected), threads
            assert same(first, second), threads
            assert_close(first, slopes, 2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_however_a_call_is_divided_outputs_are_the_same_bits_and_gradients_agree(name: str) -> None:
    layer = layer_of(name, 5, 36, backend="llvm")
    for ragged in (False, True):
        given = batch_for(layer, 4, 5, ragged=ragged, resets=ragged, taps=True)
        found = []
        for schedule in SCHEDULES:
            with forced(schedule):
                found.append(gradients(layer, given))
        for results, slopes in found[1:]:
            assert same(results, found[0][0])
            assert_close(slopes, found[0][1], 1e-12)


def expected_and_layer() -> tuple[Any, Tensor, list[Tensor]]:
    torch.manual_seed(0)
    layer = layer_of("lstm", 3, 36, backend="llvm")
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    return layer, x, step(layer, x)


def step(layer: Any, x: Tensor) -> list[Tensor]:
    """The output and the gradients of the parameters."""
    y, _ = layer(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(layer.parameters()))]


SCRIPT = """
import torch
from tests.backends.llvm.test_layers_in_threads import SCHEDULES, expected_and_layer, forced, step
from tests.conformance.networks import assert_close
torch.set_num_threads(2)
layer, x, expected = expected_and_layer()
for schedule in SCHEDULES:
    with forced(schedule):
        assert_close(step(layer, x), expected, 1e-12)
"""


@pytest.mark.parametrize(
    "variables",
    [{"OMP_THREAD_LIMIT": "1"}, {"OMP_THREAD_LIMIT": "3"}, {"OMP_DYNAMIC": "true"}, {"OMP_MAX_ACTIVE_LEVELS": "0"}],
    ids=lambda value: "-".join(value),
)
def test_a_layer_runs_on_a_team_smaller_than_asked(variables: dict[str, str]) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100, env={**os.environ, **variables}
    )
    assert finished.returncode == 0, finished.stderr


def test_a_layer_runs_within_a_parallel_region() -> None:
    layer, x, expected = expected_and_layer()
    found: list[list[Tensor]] = []

    def body(argument: int, thread: int, size: int) -> None:
        with forced(Schedule(1, 2)):
            found.append(step(layer, x))

    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(body)
    team.run(ctypes.cast(kernel, ctypes.c_void_p).value or 0, 0, 2)
    assert found
    for each in found:
        assert_close(each, expected, 1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.shares}x{s.members}")
def test_two_python_threads_run_one_model_at_once(schedule: Schedule) -> None:
    layer, _, _ = expected_and_layer()
    xs = [torch.randn(6, batch, 3, dtype=torch.float64) for batch in (4, 5)]
    wrong: list[Any] = []

    def work(x: Tensor, expected: list[Tensor]) -> None:
        with forced(schedule):
            for _ in range(20):
                got = step(layer, x)
                if not same(got, expected):
                    wrong.append(got)

    with forced(schedule):
        expected = [step(layer, x) for x in xs]
    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forced_schedule_is_that_of_one_thread_and_ends_with_its_block() -> None:
    seen: list[Any] = []
    with forced(Schedule(2, 1)):
        with forced(Schedule(1, 2)):
            thread = threading.Thread(target=lambda: seen.append(state_of_schedules()))
            thread.start()
            thread.join()
            seen.append(state_of_schedules())
        seen.append(state_of_schedules())
    assert [*seen, state_of_schedules()] == [None, Schedule(1, 2), Schedule(2, 1), None]


def test_threads_that_are_the_first_to_run_a_cell_meet_at_no_table() -> None:
    layer = layer_of("handed-on", 3, 7, backend="llvm")
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    found: list[list[Tensor]] = []
    threads = [threading.Thread(target=lambda: found.append(step(layer, x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(same(each, found[0]) for each in found)


@forks
def test_a_forked_child_trains_with_the_numbers_of_its_parent() -> None:
    layer, x, _ = expected_and_layer()
    torch.set_num_threads(2)
    expected = step(layer, x)
    in_child(lambda: assert_close(step(layer, x), expected, 1e-12))
    assert same(step(layer, x), expected)


def in_child(work: Callable[[], None]) -> None:
    context = multiprocessing.get_context("fork")
    child = context.Process(target=work, daemon=True)
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0


class Outputs(torch.utils.data.Dataset[Tensor]):
    """A data set whose items are a layer's outputs, large enough to be handed over in shared memory of their own."""

    def __init__(self) -> None:
        self.layer = layer_of("lstm", 3, 144, backend="llvm")
        self.x = torch.randn(64, 16, 3, dtype=torch.float64)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.layer(self.x + index)[0]


@forks
def test_workers_of_a_data_loader_run_a_layer() -> None:
    torch.set_num_threads(2)
    data = Outputs()
    expected = [data[index] for index in range(6)]
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=1, multiprocessing_context="fork")
    assert same(list(loader), expected)


def test_results_are_the_same_after_other_shapes_have_used_the_memory() -> None:
    layer = layer_of("weird", backend="llvm")
    given = batch_for(layer, ragged=True, taps=True)
    expected = run(layer, given)
    for batch, time in ((1, 9), (17, 2), (3, 3)):
        gradients(layer, batch_for(layer, time, batch))
    assert same(run(layer, given), expected)


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reversed"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("name", ["lstm", "gru-cho", "layer-norm-lstm"])
def test_members_wait_for_one_another_in_every_chunk_of_backward(
    name: str, schedule: Schedule, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    layer = layer_of(name, 5, 64, dtype=torch.float64, backend="llvm", reverse=reverse)
    given = batch_for(layer, 60, 4)
    with forced(Schedule(1, 1)):
        expected = gradients(layer, given)
    monkeypatch.setattr("unrolled.backends.llvm.run_backward.CHUNK_ROWS", 20)
    with forced(schedule):
        for _ in range(5):
            got = gradients(layer, given)
            assert_close([*got[0], *got[1]], [*expected[0], *expected[1]])
