"""Padding never changes a result; lengths, reversal and resets are what running each piece apart gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import NAMES, Batch, assert_close, batch_for, gradients, layer_of, run

DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
POISON = {"nan": float("nan"), "inf": float("inf")}


def row_of(given: Batch, row: int, steps: slice) -> Batch:
    """Some steps of one row, without padding."""
    return Batch(
        given.x[steps, row : row + 1],
        {name: value[steps, row : row + 1] for name, value in given.inputs.items()},
        tuple(value[row : row + 1] for value in given.state),
        given.clock,
        None,
        None if given.resets is None else given.resets[steps, row : row + 1],
        given.taps,
    )


def poisoned(given: Batch, value: float) -> Batch:
    assert given.lengths is not None
    padding = (torch.arange(len(given.x))[:, None] >= given.lengths)[..., None]
    return replace(
        given,
        x=torch.where(padding, value, given.x),
        inputs={
            name: torch.where(padding if tensor.dim() == 3 else padding[..., 0], value, tensor)
            for name, tensor in given.inputs.items()
        },
    )


@DIRECTIONS
@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("name", NAMES)
def test_padding_never_changes_a_result(name: str, poison: str, reverse: bool, backend: str) -> None:
    layer = layer_of(name, backend=backend, reverse=reverse)
    clean = batch_for(layer, time=5, batch=4, ragged=True, resets=True, taps=True)
    assert clean.lengths is not None
    results, found = gradients(layer, poisoned(clean, POISON[poison]))
    states = len(clean.state)
    sequences = [results[0], *results[1 + states :]]
    random = torch.Generator().manual_seed(7)
    cotangents = [torch.randn(r.shape, dtype=r.dtype, generator=random) for r in results]
    of_parameters: list[Tensor] = []
    inputs = 1 + len(clean.inputs)
    for row, length in enumerate(clean.lengths.tolist()):
        steps = slice(0, length)
        padding = slice(length, None)
        assert all(not sequence[padding, row].any() for sequence in sequences)
        alone = row_of(clean, row, steps)
        for_row = [
            c[row : row + 1] if 1 <= index <= states else c[steps, row : row + 1] for index, c in enumerate(cotangents)
        ]
        expected, expected_gradients = gradients(layer, alone, for_row)
        got = [r[row : row + 1] if 1 <= i <= states else r[steps, row : row + 1] for i, r in enumerate(results)]
        assert_close(got, expected, 1e-12)
        flat = found[: len(clean.flat)]
        got_gradients = [
            g[steps, row : row + 1] if index < inputs else g[row : row + 1] for index, g in enumerate(flat)
        ]
        assert_close(got_gradients, expected_gradients[: len(flat)])
        assert all(not g[padding, row].any() for g in flat[:inputs])
        more = expected_gradients[len(flat) :]
        of_parameters = more if not of_parameters else [a + b for a, b in zip(of_parameters, more, strict=True)]
    assert_close(found[len(clean.flat) :], of_parameters)


@DIRECTIONS
@pytest.mark.parametrize("name", NAMES)
def test_second_gradients_are_finite_and_the_same_whatever_the_padding_holds(name: str, reverse: bool) -> None:
    layer = layer_of(name, reverse=reverse)
    clean = batch_for(layer, time=4, batch=3, ragged=True)
    found = []
    for given in (clean, poisoned(clean, float("nan"))):
        x = given.x.clone().requires_grad_()
        results = run(layer, replace(given, x=x))
        (first,) = torch.autograd.grad(sum(r.square().sum() for r in results), x, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), [x, *layer.parameters()], allow_unused=True)
        found.append([s for s in second if s is not None])
    assert_close(found[1], found[0], 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_length_0_returns_its_initial_state_and_has_no_gradient(name: str, backend: str) -> None:
    layer = layer_of(name, backend=backend)
    given = replace(batch_for(layer, batch=3), lengths=torch.tensor([0, 0, 0]))
    given = poisoned(given, float("nan"))
    ones = [torch.ones_like(result) for result in run(layer, given)]
    results, found = gradients(layer, given, ones)
    assert not results[0].any()
    assert all(torch.equal(a, b) for a, b in zip(results[1:], given.state, strict=True))
    count = len(given.flat)
    of_states = found[1 + len(given.inputs) : count]
    assert all(bool((g == 1).all()) for g in of_states)
    assert all(not g.any() for g in (*found[: 1 + len(given.inputs)], *found[count:]))


@pytest.mark.parametrize("name", NAMES)
def test_a_reversed_layer_reads_each_row_flipped(name: str) -> None:
    layer, ahead = layer_of(name, reverse=True), layer_of(name)
    ahead.load_state_dict(layer.state_dict())
    given = batch_for(layer, time=5, batch=4, ragged=True, taps=True)
    assert given.lengths is not None
    results = run(layer, given)
    for row, length in enumerate(given.lengths.tolist()):
        alone = row_of(given, row, slice(0, length))
        flipped = replace(alone, x=alone.x.flip(0), inputs={k: v.flip(0) for k, v in alone.inputs.items()})
        expected = run(ahead, flipped)
        for index, (got, wanted) in enumerate(zip(results, expected, strict=True)):
            if 1 <= index <= len(given.state):
                assert_close([got[row : row + 1]], [wanted], 1e-12)
            else:
                assert_close([got[:length, row : row + 1]], [wanted.flip(0)], 1e-12)


@pytest.mark.parametrize("lengths", [None, [4, 4, 4]], ids=["no-lengths", "full-lengths"])
def test_full_lengths_are_as_none(lengths: list[int] | None) -> None:
    layer = layer_of("lstm", reverse=True)
    given = batch_for(layer, 4, 3, resets=True)
    expected = run(layer, given)
    assert_close(run(layer, replace(given, lengths=torch.tensor(lengths) if lengths else None)), expected, 0.0)


def segments(resets: Sequence[bool], length: int) -> list[slice]:
    starts = sorted({0, *(step for step in range(length) if resets[step])})
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], length], strict=True)]


@DIRECTIONS
@pytest.mark.parametrize("name", [n for n in NAMES if n != "clockwork"])
def test_resets_are_segments_run_apart(name: str, reverse: bool, backend: str) -> None:
    layer = layer_of(name, backend=backend, reverse=reverse, learn_initial=True)
    given = batch_for(layer, time=7, batch=4, ragged=True, resets=True, taps=True)
    assert given.lengths is not None
    assert given.resets is not None
    results = run(layer, given)
    initial = tuple(layer.initial_state(1))
    for row, length in enumerate(given.lengths.tolist()):
        own = tuple(value[row : row + 1] for value in given.state)
        parts = segments(given.resets[:, row].tolist(), length)
        found = []
        for number, steps in enumerate(parts):
            begins = given.resets[0, row] if not reverse and number == 0 and length else None
            first = number == (len(parts) - 1 if reverse else 0)
            state = own if first and not begins else initial
            piece = replace(row_of(given, row, steps), state=state, resets=None)
            found.append(run(layer, piece))
        last = found[0] if reverse else found[-1]
        for index, got in enumerate(results):
            if 1 <= index <= len(given.state):
                assert_close([got[row : row + 1]], [last[index]], 1e-12)
            else:
                joined = torch.cat([part[index] for part in found])
                assert_close([got[:length, row : row + 1]], [joined], 1e-12)


@DIRECTIONS
def test_resets_in_padding_have_no_effect(reverse: bool) -> None:
    layer = layer_of("lstm", reverse=reverse)
    given = batch_for(layer, 6, 3, ragged=True, resets=True)
    assert given.lengths is not None
    assert given.resets is not None
    padding = torch.arange(6)[:, None] >= given.lengths
    expected = gradients(layer, replace(given, resets=given.resets & ~padding))
    got = gradients(layer, replace(given, resets=given.resets | padding))
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 0.0)


def test_a_reset_at_the_first_step_forgets_the_state_that_was_given() -> None:
    layer = layer_of("gru")
    given = batch_for(layer, 3, 2)
    resets = torch.zeros(3, 2, dtype=torch.bool)
    resets[0, 1] = True
    y, *_ = run(layer, replace(given, resets=resets))
    kept, *_ = run(layer, given)
    anew, *_ = run(layer, replace(given, state=(torch.zeros(2, 6, dtype=torch.float64),)))
    assert torch.equal(y[:, 0], kept[:, 0])
    assert torch.equal(y[:, 1], anew[:, 1])


def test_resets_restart_values_to_the_learned_state_but_not_the_clock() -> None:
    layer = layer_of("clockwork", learn_initial=True)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    resets = torch.zeros(5, 2, dtype=torch.bool)
    resets[3, 0] = True
    y, state = layer(x, resets=resets)
    assert int(state.clock) == 5
    initial = layer.initial_state(2)
    expected, _ = layer(x[3:], (initial.h, torch.tensor(3)))
    assert_close([y[3:, 0]], [expected[:, 0]], 1e-12)
    other, _ = layer(x[3:], (initial.h, torch.tensor(0)))
    assert not torch.allclose(y[3:, 0], other[:, 0])
    y.sum().backward()
    assert layer.initial is not None
    assert layer.initial["h"].grad is not None
    assert layer.initial["h"].grad.any()


def test_what_a_cell_declares_is_what_a_reset_restarts_at() -> None:
    layer = layer_of("weird")
    given = batch_for(layer, 3, 1)
    resets = torch.tensor([[False], [True], [False]])
    results = run(layer, replace(given, resets=resets))
    inputs = {name: value[1:] for name, value in given.inputs.items()}
    expected = run(layer, replace(given, x=given.x[1:], inputs=inputs, state=tuple(layer.initial_state(1))))
    assert bool((layer.initial_state(1).n == 1).all())
    assert_close([results[0][1:]], [expected[0]], 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_the_memory_of_an_input_or_of_another(name: str) -> None:
    for time in (0, 1, 3):
        for backend in ("", "reference"):
            for more in ({}, {"ragged": True, "resets": True}):
                options: Any = more
                layer = layer_of(name, backend=backend)
                given = batch_for(layer, time, 2, taps=True, **options)
                results = run(layer, given)
                every = [*results, *given.flat, *layer.parameters()]
                places = [tensor.untyped_storage().data_ptr() for tensor in every if tensor.numel()]
                assert len(set(places)) == len(places), (time, backend, more)
