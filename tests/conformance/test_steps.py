"""A scan is a loop of single steps, however it is cut; the state carries over, the gradient only where it may."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.networks import NAMES, Batch, assert_close, batch_for, gradients, layer_of, run
from unrolled.layers import Recurrent


def in_windows(layer: Recurrent, given: Batch, window: int) -> list[torch.Tensor]:
    """The results of calls of `window` steps, each given the whole state of the one before, the clock too."""
    outputs, state, taps = [], given.whole_state(), []
    for start in range(0, len(given.x), window):
        steps = slice(start, start + window)
        inputs = {name: value[steps] for name, value in given.inputs.items()}
        y, state, by_name = layer(given.x[steps], state, taps=given.taps, **inputs)
        outputs.append(y)
        taps.append(by_name)
    joined = [torch.cat([each[name] for each in taps]) for name in given.taps]
    return [torch.cat(outputs), *state[: len(given.state)], *joined]


@pytest.mark.parametrize("window", [1, 3], ids=["step-by-step", "windows-of-3"])
@pytest.mark.parametrize("name", NAMES)
def test_a_scan_is_a_loop_of_steps(name: str, window: int, backend: str) -> None:
    layer = layer_of(name, backend=backend)
    given = batch_for(layer, time=7, taps=True, clock=5)
    assert_close(in_windows(layer, given, window), run(layer, given), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_scan_is_that_of_a_loop_of_steps(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, time=4, taps=True)
    _, expected = gradients(layer, given)
    results = in_windows(layer, given, 1)
    random = torch.Generator().manual_seed(7)
    cotangents = [torch.randn(r.shape, dtype=r.dtype, generator=random) for r in results]
    flat = [tensor.clone().requires_grad_() for tensor in given.flat]
    results = in_windows(layer, given.with_flat(flat), 1)
    wanted = [*flat, *layer.parameters()]
    pairs = [(r, c) for r, c in zip(results, cotangents, strict=True) if r.requires_grad]
    got = torch.autograd.grad([r for r, _ in pairs], wanted, [c for _, c in pairs], allow_unused=True)
    zeros = [torch.zeros_like(value) if g is None else g for value, g in zip(wanted, got, strict=True)]
    assert_close(zeros, expected)


def test_the_clock_continues_over_calls_and_counts_for_the_whole_batch() -> None:
    layer = layer_of("clockwork")
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    whole, _ = layer(x)
    first, state = layer(x[:3])
    assert int(state.clock) == 3
    assert state.clock.dtype == torch.int64
    second, state = layer(x[3:], state)
    assert int(state.clock) == 6
    assert torch.equal(torch.cat([first, second]), whole)
    forgotten, _ = layer(x[3:], state[:1])
    assert not torch.allclose(forgotten, whole[3:])


def test_units_that_are_not_due_keep_their_value() -> None:
    layer = layer_of("clockwork")
    y, _ = layer(torch.randn(8, 2, 3, dtype=torch.float64))
    for step in range(1, 8):
        for module, period in enumerate((1, 2, 4)):
            units = slice(2 * module, 2 * module + 2)
            assert torch.equal(y[step][:, units], y[step - 1][:, units]) == (step % period != 0)


@pytest.mark.parametrize("name", NAMES)
def test_state_carries_across_windows_but_gradient_does_not(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, time=3)
    x = given.x.clone().requires_grad_()
    _, state, *_ = layer(x, given.whole_state(), **given.inputs)
    assert any(value.requires_grad for value in state)
    detached = type(state)(*(value.detach() for value in state))
    y, _ = layer(given.x, detached, **given.inputs)
    from_start, _ = layer(given.x, given.whole_state(), **given.inputs)
    # What reads no state, such as the perceptron, carries nothing.
    carries = any(node.op == "state" for node in layer.cell.program.nodes)
    assert torch.equal(y, from_start) != carries
    assert not any(value.requires_grad for value in detached)
    if y.requires_grad:
        y.sum().backward()
    assert x.grad is None
    again, _ = layer(given.x, state, **given.inputs)
    again.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.any()) == carries


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_give_the_same_numbers(name: str) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(11)
        layer = layer_of(name, dtype=torch.float32)
        results, of_inputs = gradients(layer, batch_for(layer, ragged=True, resets=True, taps=True))
        found.append([*results, *of_inputs])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
