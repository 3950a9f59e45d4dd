"""Products of bfloat16 are summed in float32: on matrix registers, by widening, on a processor without AVX-512."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tests.conformance.networks import NAMES, assert_close, batch_for, gradients, layer_of, run
from unrolled.backends.llvm.machine import host, unavailable
from unrolled.errors import UsageError
from unrolled.layers import Recurrent

if unavailable():
    pytest.skip(unavailable(), allow_module_level=True)

from unrolled.backends.llvm import amx, narrow
from unrolled.backends.llvm.schedule import Schedule, forced

TOLERANCE = 3e-2
# One cell each for: a stage, two of them, a clock and a triangular map, all structures.
FEW = ["lstm", "gru-cho", "clockwork", "weird"]


@pytest.fixture(params=[narrow.MATRIX, narrow.WIDENED])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How products are taken, whatever the batch."""
    way: str = request.param
    if way == narrow.MATRIX and not amx.usable(host()):
        pytest.skip("the processor has no AMX, or the system does not grant it")
    monkeypatch.setattr(narrow, "way", lambda machine, batch: way)
    return way


def pair(name: str, input_size: int, hidden_size: int, **options: Any) -> tuple[Recurrent, Recurrent]:
    """A layer that rounds, and the reference in float64 with the same weights, so small that no unit is chaotic."""
    exact = layer_of(name, input_size, hidden_size, backend="reference", **options)
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.mul_(min(1.0, (8 / max(input_size, hidden_size)) ** 0.5))
    layer = layer_of(name, input_size, hidden_size, backend="llvm", dtype=torch.float32, precision="bf16", **options)
    layer.load_state_dict(exact.state_dict())
    exact.load_state_dict(layer.state_dict())  # the rounding to float32 is not what is measured
    return layer, exact


def check(layer: Recurrent, exact: Recurrent, batch: int = 3, **options: Any) -> None:
    given = batch_for(layer, 4, batch, **options)
    wide = given.with_flat([tensor.double() for tensor in given.flat])
    cotangents = [torch.randn_like(result) for result in run(exact, wide)]
    got = gradients(layer, given, [cotangent.float() for cotangent in cotangents])
    expected = gradients(exact, wide, cotangents)
    for found, true in zip(got, expected, strict=True):
        assert all(tensor.dtype == torch.float32 for tensor in found)
        assert_close(found, true, TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_results_and_gradients_are_those_of_the_reference(name: str, way: str) -> None:
    check(*pair(name, 3, 6), taps=True)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (5, 33, 70), (37, 64, 48), (3, 40, 129)], ids=lambda s: "B{}-I{}-H{}".format(*s)
)
@pytest.mark.parametrize("name", ["lstm", "gru", "gru-cho"])
def test_of_any_size(name: str, shape: tuple[int, int, int], way: str) -> None:
    batch, *sizes = shape
    check(*pair(name, *sizes), batch=batch)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", FEW)
def test_of_ragged_batches_that_begin_anew(name: str, reverse: bool, way: str) -> None:
    check(*pair(name, 3, 6, reverse=reverse), batch=5, ragged=True, resets=True)


@pytest.mark.parametrize("name", FEW)
def test_on_a_processor_of_narrower_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "avx2" not in host().features:
        pytest.skip("the processor has no AVX2")
    monkeypatch.setenv("UNROLLED_LLVM_VECTOR", "avx2")
    check(*pair(name, 3, 6), batch=5, ragged=True)


@pytest.mark.parametrize("name", ["lstm", "gru-cho"])
def test_the_bits_are_the_same_for_any_division_of_the_work(name: str, way: str) -> None:
    layer, _ = pair(name, 33, 70)
    x, found = torch.randn(4, 21, 33), []
    for schedule in (Schedule(1, 1), Schedule(2, 1), Schedule(1, 2), Schedule(3, 1)):
        with forced(schedule), torch.no_grad():
            found.append(layer(x)[0])
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_what_rows_hold_beside_it_does_not_touch_a_row(way: str) -> None:
    layer, _ = pair("lstm", 33, 40)
    x = torch.randn(3, 20, 33)
    with torch.no_grad():
        expected = layer(x)[0]
        x[:, 7] = torch.nan
        got = layer(x)[0]
    assert got[:, 7].isnan().all()
    rest = [row for row in range(20) if row != 7]
    assert torch.equal(got[:, rest], expected[:, rest])


def test_every_thread_of_the_process_may_use_them(way: str) -> None:
    layer, _ = pair("lstm", 33, 40)
    x = torch.randn(6, 20, 33)
    expected = layer(x)[0]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: layer(x)[0], range(12)))
    assert all(torch.equal(expected, other) for other in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_so_may_a_forked_child(way: str) -> None:
    layer, _ = pair("lstm", 33, 40)
    x = torch.randn(6, 20, 33)
    expected = layer(x)[0]
    child = os.fork()
    if not child:
        os._exit(0 if torch.equal(layer(x)[0], expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("backend", ["llvm", "reference"])
def test_the_option_is_what_autocast_is(backend: str) -> None:
    asked = Recurrent("gru", 8, 16, precision="bf16", backend=backend)
    plain = Recurrent("gru", 8, 16, backend=backend)
    plain.load_state_dict(asked.state_dict())
    x = torch.randn(5, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        expected, _ = plain(x)
    got, _ = asked(x)
    assert torch.equal(got, expected)
    assert not torch.equal(got, plain(x)[0])


def test_a_layer_in_double_precision_ignores_the_option() -> None:
    asked, plain = (layer_of("gru", precision=precision) for precision in ("bf16", ""))
    plain.load_state_dict(asked.state_dict())
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert torch.equal(asked(x)[0], plain(x)[0])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"precision is '' or 'bf16', not 'fp8'"):
        Recurrent("gru", 3, 4, precision="fp8")
