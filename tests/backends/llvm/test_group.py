"""Scans side by side give what each gives alone, on a team of any size."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.utils.hooks import RemovableHandle

pytest.importorskip("llvmlite")

from tests.conformance.networks import Batch, assert_close, batch_for, layer_of
from unrolled import nn
from unrolled.backends.llvm import group, kernel, layout, machine, schedule
from unrolled.layers import Bidirectional, Recurrent, Stacked

if machine.unavailable():
    pytest.skip(machine.unavailable(), allow_module_level=True)

# A kernel that hangs holds the main thread, which then sees no signal.
pytestmark = pytest.mark.timeout(120, method="thread")

TEAMS = (1, 2, 3, 4, 6)
# Several stages and reductions, a clock, a second input; directions that differ in cell and size.
PAIRS = {
    "lstm": ("lstm", "lstm"),
    "mixed": ("gru-cho", "lstm"),
    "clock": ("clockwork", "clockwork"),
    "layer-norm": ("layer-norm-lstm", "mgu"),
    "input": ("irregular", "irregular"),
}


@pytest.fixture(autouse=True)
def _own_number_of_threads() -> Iterator[None]:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def both_of(pair: str, backend: str = "llvm", **options: Any) -> Bidirectional:
    ahead, behind = PAIRS[pair]
    size = 36 if pair == "mixed" else 6
    return Bidirectional(
        layer_of(ahead, 3, 6, backend=backend, **options),
        layer_of(behind, 3, size, backend=backend, reverse=True, **options),
    )


def given_to(both: Bidirectional, time: int = 5, batch: int = 3, *, full: bool = True) -> Batch:
    layer = both.directions[0]
    assert isinstance(layer, Recurrent)
    return batch_for(layer, time, batch, ragged=full, resets=full)


def leaves_of(result: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(result) if leaf.is_floating_point()]


def results_of(both: Bidirectional, given: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """All outputs and final states, and the gradients of x and all parameters."""
    x = given.x.clone().requires_grad_()
    found = leaves_of(both(x, None, given.lengths, given.resets, **given.inputs))
    loss = sum((number + 1) * value.square().sum() for number, value in enumerate(found))
    assert isinstance(loss, Tensor)
    return [value.detach() for value in found], list(torch.autograd.grad(loss, [x, *both.parameters()]))


def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "own_threads", lambda *_: None)


def as_on(both: Bidirectional, backend: str) -> Bidirectional:
    other = copy.deepcopy(both)
    for layer in other.directions:
        layer.backend = backend
    return other


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads each launch asked for."""
    found: list[int] = []
    original = group.run

    def run(function: int, argument: int, threads: int) -> None:
        found.append(threads)
        original(function, argument, threads)

    monkeypatch.setattr(group, "run", run)
    return found


@pytest.mark.parametrize("full", [False, True], ids=["full", "ragged-resets"])
@pytest.mark.parametrize("pair", PAIRS)
def test_both_directions_in_one_region_are_each_alone_and_the_reference(
    pair: str, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = both_of(pair)
    for batch in (1, 3, 5):
        given = given_to(both, 7, batch, full=full)
        expected, expected_slopes = results_of(as_on(both, "reference"), given)
        with monkeypatch.context() as patch:
            one_after_the_other(patch)
            alone, alone_slopes = results_of(both, given)
        for threads in TEAMS:
            torch.set_num_threads(threads)
            got, slopes = results_of(both, given)
            assert_close(got, expected)
            assert_close(slopes, expected_slopes)
            assert all(torch.equal(a, b) for a, b in zip(got, alone, strict=True)), threads
            assert_close(slopes, alone_slopes)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_of_every_kind_is_the_same_bits_from_run_to_run_in_single_precision(pair: str) -> None:
    both = both_of(pair, dtype=torch.float32)
    given = given_to(both, 6, 9, full=False)
    torch.set_num_threads(1)
    expected, _ = results_of(both, given)
    for threads in TEAMS:
        torch.set_num_threads(threads)
        got, first = results_of(both, given)
        _, second = results_of(both, given)
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True)), threads
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), threads


@pytest.mark.parametrize(("threads", "expected"), [(1, [1] * 4), (2, [2] * 2), (3, [3] * 4), (4, [4] * 2)])
def test_directions_run_in_one_region_where_the_threads_can_be_dealt_evenly(
    threads: int, expected: list[int], launched: list[int]
) -> None:
    both = both_of("lstm")
    torch.set_num_threads(threads)
    with torch.no_grad():
        both(torch.randn(4, 12, 3, dtype=torch.float64))
    assert launched == expected


@pytest.mark.parametrize(
    ("scans", "threads", "batch", "weights", "expected"),
    [(1, 4, 8, 0, None), (2, 1, 8, 0, None), (2, 3, 8, 0, None), (2, 2, 8, 2**21, 1), (2, 4, 1, 2**20, 2),
     (2, 2, 1, 2**21, None), (2, 2, 1, 2**23, 1), (3, 6, 8, 0, 2)],
)  # fmt: skip
def test_scans_share_the_threads_unless_their_weights_would_leave_the_cache(
    scans: int, threads: int, batch: int, weights: int, expected: int | None
) -> None:
    assert schedule.own_threads(scans, threads, batch, weights) == expected


def test_a_bidirectional_layer_of_torchs_signature_runs_its_directions_in_one_region(launched: list[int]) -> None:
    torch.set_num_threads(2)
    layer, other = nn.LSTM(8, 16, 2, bidirectional=True), torch.nn.LSTM(8, 16, 2, bidirectional=True)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(5, 4, 8)
    y, (h, c) = layer(x)
    expected, (expected_h, expected_c) = other(x)
    assert_close([y, h, c], [expected, expected_h, expected_c], 4e-6)
    assert launched == [2] * 4


def test_directions_with_hooks_of_their_own_run_as_modules() -> None:
    both = both_of("lstm")
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    expected, _ = both(x)
    seen = []
    handles: Sequence[RemovableHandle] = [
        layer.register_forward_hook(lambda layer, given, result: seen.append(result[0])) for layer in both.directions
    ]
    got, _ = both(x)
    assert len(seen) == 2
    assert torch.equal(got, expected)
    assert torch.equal(torch.cat(seen, -1), expected)
    for handle in handles:
        handle.remove()
    both(x)
    assert len(seen) == 2


def test_directions_on_two_backends_or_in_two_types_of_products_still_run() -> None:
    both = both_of("lstm", dtype=torch.float32)
    x = torch.randn(4, 3, 3)
    expected, _ = both(x)
    both.directions[1].backend = "reference"
    assert_close([both(x)[0]], [expected], 4e-6)
    both.directions[1].backend = "llvm"
    both.directions[1].precision = "bf16"
    got, _ = both(x)
    assert torch.equal(got[..., :6], expected[..., :6])
    assert_close([got], [expected], 2e-2)
    assert not torch.equal(got, expected)


@pytest.mark.parametrize("pair", ["lstm", "clock"])
def test_a_compiled_bidirectional_layer_runs_both_directions_as_one_operation(pair: str) -> None:
    torch._dynamo.reset()
    torch.set_num_threads(2)
    both = both_of(pair)
    given = given_to(both)
    compiled = torch.compile(copy.deepcopy(both), fullgraph=True, backend="aot_eager")
    got, slopes = results_of(compiled, given)  # type: ignore[arg-type]
    expected, expected_slopes = results_of(both, given)
    assert_close([*got, *slopes], [*expected, *expected_slopes], 1e-12)
    torch._dynamo.reset()


def curvature(both: Bidirectional, given: Batch) -> list[Tensor]:
    wanted = list(both.parameters())
    x = given.x.clone().requires_grad_()
    y, *_ = both(x, None, given.lengths, given.resets, **given.inputs)
    slopes = torch.autograd.grad(y.square().sum(), [x, *wanted], create_graph=True)
    return list(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), [x, *wanted]))


@pytest.mark.parametrize("pair", ["lstm", "mixed", "input"])
def test_the_double_backward_of_both_directions_is_that_of_the_reference(pair: str) -> None:
    torch.set_num_threads(2)
    both = both_of(pair)
    given = given_to(both, 3, 2)
    assert_close(curvature(both, given), curvature(as_on(both, "reference"), given))


@pytest.mark.parametrize("pair", ["lstm", "mixed"])
def test_per_sample_gradients_of_both_directions_are_those_of_a_loop(pair: str) -> None:
    torch.set_num_threads(2)
    both = both_of(pair)
    xs = torch.randn(4, 5, 2, 3, dtype=torch.float64)
    parameters = {name: value.detach() for name, value in both.named_parameters()}

    def loss(p: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = functional_call(both, p, (x,))[0]
        return y.square().sum()

    got = vmap(grad(loss), in_dims=(None, 0))(parameters, xs)
    for row, x in enumerate(xs):
        expected = grad(loss)(parameters, x)
        assert_close([value[row] for value in got.values()], expected.values())


def test_a_gradient_of_one_direction_alone_is_that_of_the_reference() -> None:
    torch.set_num_threads(2)
    both = both_of("lstm")
    found = []
    for network in (both, as_on(both, "reference")):
        x = torch.ones(4, 3, 3, dtype=torch.float64, requires_grad=True)
        _, state = network(x)
        found.append(torch.autograd.grad(state.backward.c.square().sum(), [x, *network.directions[1].parameters()]))
    assert_close(found[0], found[1])


LIMITED = """
import sys, torch
from tests.backends.llvm.test_group import *
torch.manual_seed(0)
torch.set_num_threads(4)
for pair in PAIRS:
    both = both_of(pair)
    for batch in (1, 5):
        given = given_to(both, 6, batch)
        got, slopes = results_of(both, given)
        expected, expected_slopes = results_of(as_on(both, "reference"), given)
        assert_close([*got, *slopes], [*expected, *expected_slopes])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the variables of the environment are read by libgomp")
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_team_smaller_than_asked_gives_the_same(limit: int) -> None:
    environment = {**os.environ, "OMP_THREAD_LIMIT": str(limit)}
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def spied(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """The addresses of the tensors that each kernel reads and writes."""
    found: list[dict[str, int]] = []
    original: Callable[..., Any] = layout.Layout.launches

    def launches(self: layout.Layout, tensors: dict[str, Tensor], *rest: int) -> Any:
        found.append({name: value.data_ptr() for name, value in tensors.items()})
        return original(self, tensors, *rest)

    monkeypatch.setattr(layout.Layout, "launches", launches)
    return found


def test_the_output_of_a_layer_is_the_input_of_the_one_above_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stacked(*(layer_of(name, 6, 6, backend="llvm") for name in ("lstm", "gru", "gru-cho")))
    found = spied(monkeypatch)
    for batch, lengths in ((4, None), (5, torch.tensor([2, 5, 0, 1, 5]))):
        found.clear()
        x = torch.randn(5, batch, 6, dtype=torch.float64)
        with torch.no_grad():
            stack(x, None, lengths)
        read = [next(address for name, address in each.items() if name.startswith("input ")) for each in found]
        written = [set(each.values()) - {address} for each, address in zip(found, read, strict=True)]
        assert read[0] == x.data_ptr()
        assert all(address in below for address, below in zip(read[1:], written[:-1], strict=True))
