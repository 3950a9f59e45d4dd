"""Kernels run on torch's team, whatever its size turns out to be, and leave no trace in its threads."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest
import torch

pytest.importorskip("llvmlite")

from llvmlite import ir

from unrolled.backends.llvm import machine

if machine.unavailable():
    pytest.skip(machine.unavailable(), allow_module_level=True)

from unrolled.backends.llvm import team
from unrolled.backends.llvm.compiler import compiled, module_for

# A kernel that hangs holds the main thread, which then sees no signal.
pytestmark = pytest.mark.timeout(60, method="thread")

linux = pytest.mark.skipif(sys.platform != "linux", reason="the variables of the environment are read by libgomp")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

Kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
DENORMAL = 1e-310
WORDS = 8  # of a cache line


def launch(body: Callable[[int, int], None], threads: int) -> None:
    kernel = Kernel(lambda argument, thread, size: body(thread, size))
    team.run(ctypes.cast(kernel, ctypes.c_void_p).value or 0, 0, threads)


def seen(threads: int) -> list[tuple[int, int]]:
    """The thread and the size of the team that each call of a kernel was given."""
    calls: list[tuple[int, int]] = []
    launch(lambda thread, size: calls.append((thread, size)), threads)
    return sorted(calls)


def whole(size: int) -> list[tuple[int, int]]:
    return [(thread, size) for thread in range(size)]


def barrier_kernels() -> ir.Module:
    """`rounds`, in which each member writes its round, meets the others and checks its neighbour's; and `meet`."""
    module = module_for("test", machine.host())
    barrier = team.declare_barrier(module, machine.host())
    integer = team.INTEGER

    meet = ir.Function(module, team.KERNEL, "meet")
    build = ir.IRBuilder(meet.append_basic_block())
    build.call(barrier, [meet.args[0], integer(2)])
    build.ret_void()

    rounds = ir.Function(module, team.KERNEL, "rounds")
    argument, thread, size = rounds.args
    build = ir.IRBuilder(rounds.append_basic_block())

    def word(index: ir.Value) -> ir.Value:
        return build.gep(argument, [build.mul(index, integer(WORDS))], source_etype=integer)

    count = build.load(word(integer(1)), typ=integer)
    mistakes, own = word(integer(2)), word(build.add(thread, integer(3)))
    neighbour = word(build.add(build.urem(build.add(thread, integer(1)), size), integer(3)))
    before, loop, after = build.block, build.append_basic_block("loop"), build.append_basic_block("after")
    build.branch(loop)
    build.position_at_end(loop)
    current = build.phi(integer)
    current.add_incoming(integer(1), before)
    build.store(current, own)
    twice = build.mul(current, build.mul(size, integer(2)))
    build.call(barrier, [argument, build.sub(twice, size)])
    wrong = build.icmp_signed("!=", build.load(neighbour, typ=integer), current)
    build.atomic_rmw("add", mistakes, build.zext(wrong, integer), "seq_cst")
    build.call(barrier, [argument, twice])
    following = build.add(current, integer(1))
    current.add_incoming(following, loop)
    build.cbranch(build.icmp_signed("<=", following, count), loop, after)
    build.position_at_end(after)
    build.ret_void()
    return module


def barriers(symbol: str) -> int:
    return compiled("test", "test of the team", barrier_kernels).address(symbol)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_every_thread_runs_once_and_knows_the_size_of_the_team(threads: int) -> None:
    assert seen(threads) == whole(threads if team._runtime() else 1)


def test_linux_and_macos_find_the_runtime_of_torch() -> None:
    assert (team._runtime() is not None) == (sys.platform in team.SCOPES)


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_are_one(threads: int) -> None:
    assert seen(threads) == [(0, 1)]


def test_the_argument_reaches_the_kernel_whole() -> None:
    arguments: list[int] = []
    kernel = Kernel(lambda argument, thread, size: arguments.append(argument))
    for threads in (1, 2):
        team.run(ctypes.cast(kernel, ctypes.c_void_p).value or 0, 2**63 + 5, threads)
    assert set(arguments) == {2**63 + 5}


def test_a_launch_within_a_kernel_runs_as_the_smaller_team_that_it_is() -> None:
    inner: list[list[tuple[int, int]]] = []
    launch(lambda thread, size: inner.append(seen(3)), 2)
    assert len(inner) == len(seen(2))
    assert all(calls == whole(len(calls)) for calls in inner)


def test_the_number_of_threads_of_torch_is_neither_read_nor_changed() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert len(seen(2)) == (2 if team._runtime() else 1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def in_a_process(body: str, **variables: str) -> str:
    script = "from tests.backends.llvm.test_team import seen, whole\n" + textwrap.dedent(body)
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, env={**os.environ, **variables}
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@linux
@pytest.mark.parametrize(
    ("variables", "largest"),
    [
        ({"OMP_THREAD_LIMIT": "1"}, 1),
        ({"OMP_THREAD_LIMIT": "3"}, 3),
        ({"OMP_DYNAMIC": "true"}, os.cpu_count() or 1),
        ({"OMP_MAX_ACTIVE_LEVELS": "0"}, 1),
        ({"OMP_NUM_THREADS": "1"}, 8),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_a_team_smaller_than_asked_is_whole(variables: dict[str, str], largest: int) -> None:
    size = int(in_a_process("calls = seen(8); assert calls == whole(len(calls)); print(len(calls))", **variables))
    assert 1 <= size <= largest


@linux
def test_nested_teams_are_teams_of_their_own_where_the_environment_allows_them() -> None:
    body = """
        from tests.backends.llvm.test_team import launch
        inner = []
        launch(lambda thread, size: inner.append(seen(3)), 2)
        assert inner == [whole(3)] * 2, inner
    """
    in_a_process(body, OMP_MAX_ACTIVE_LEVELS="2", OMP_NESTED="true")


def test_without_a_runtime_a_kernel_runs_on_the_caller_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "SCOPES", {})
    monkeypatch.setattr(team, "_launch", team._first)
    assert seen(2) == [(0, 1)]


@forks
def test_a_forked_child_runs_serially_and_the_parent_still_on_its_team() -> None:
    before = seen(2)
    child = os.fork()
    if child == 0:
        os._exit(0 if seen(2) == [(0, 1)] and seen(2) == [(0, 1)] else 1)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == (child, 0)
    assert seen(2) == before


def _answer(connection: object) -> None:
    connection.send([seen(2) for _ in range(3)])  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_worker_processes_run_kernels_however_they_were_started(method: str) -> None:
    usual = seen(2)
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_answer, args=(sender,), daemon=True)
    worker.start()
    assert receiver.poll(50)
    calls = receiver.recv()
    worker.join()
    assert calls == [[(0, 1)] if method == "fork" else usual] * 3


def test_two_python_threads_launch_at_once_without_meeting() -> None:
    wrong: list[list[tuple[int, int]]] = []
    usual = seen(2)

    def work() -> None:
        for _ in range(200):
            if (calls := seen(2)) != usual:
                wrong.append(calls)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_zero_inside_and_numbers_again_after(threads: int) -> None:
    small = torch.full((64,), 1e-40)
    before = small * 0.5
    factors = [1.0] * 8
    inside: list[float] = []
    launch(lambda thread, size: inside.append(DENORMAL * factors[thread]), threads)
    assert inside
    assert not any(inside)
    assert all(DENORMAL * factor == DENORMAL for factor in factors)
    assert torch.equal(small * 0.5, before)
    assert before.ne(0).all()


def test_a_worker_of_torch_keeps_its_denormals_after_a_kernel() -> None:
    launch(lambda thread, size: None, 2)
    small = torch.full((2**20,), 1e-40)
    assert (small * 0.5).ne(0).all()


def test_flushing_that_torch_asked_for_stays() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("torch cannot flush here")
    try:
        launch(lambda thread, size: None, 1)
        assert not (torch.full((4,), 1e-40) * 0.5).any()
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(("threads", "rounds"), [(1, 5000), (2, 5000), (4, 5000)])
def test_a_barrier_holds_every_member_until_the_last_has_come(threads: int, rounds: int) -> None:
    words = torch.zeros((3 + threads) * WORDS + WORDS, dtype=torch.int64)
    start = -words.data_ptr() // 8 % WORDS
    lines = words[start : start + (3 + threads) * WORDS].view(-1, WORDS)
    lines[1, 0] = rounds
    size = len(seen(threads))
    team.run(barriers("rounds"), lines.data_ptr(), threads)
    assert lines[0, 0] == 2 * rounds * size
    assert lines[2, 0] == 0
    assert (lines[3 : 3 + size, 0] == rounds).all()


def test_python_goes_on_while_a_kernel_runs() -> None:
    counter = ctypes.c_int64(0)

    def release() -> None:
        time.sleep(0.05)
        counter.value = 2

    thread = threading.Thread(target=release)
    thread.start()
    team.run(barriers("meet"), ctypes.addressof(counter), 1)
    thread.join()
    assert counter.value == 2


def test_a_module_has_one_barrier() -> None:
    module = module_for("test", machine.host())
    assert team.declare_barrier(module, machine.host()) is team.declare_barrier(module, machine.host())
