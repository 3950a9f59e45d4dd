"""Finite differences, then the reference in autograd, then the plan's own backward: each against the one before."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch

from tests.conformance.networks import CELLS, NAMES, assert_close, batch_for, gradients, layer_of, run, twin

SHAPES = [(2, 7, 3, 33), (1, 4, 1, 3), (3, 1, 33, 6), (2, 3, 3, 1), (5, 4, 2, 3), (1, 1, 1, 1), (9, 2, 16, 48)]
EMPTY = [(2, 0, 3, 6), (0, 3, 3, 6), (0, 0, 1, 3)]


def ids(shape: Any) -> str:
    if not isinstance(shape, tuple):
        return str(shape)
    batch, time, into, hidden = shape
    return f"B{batch}-T{time}-I{into}-H{hidden}"


def checked(name: str, **options: Any) -> tuple[Any, list[torch.Tensor]]:
    """A function of everything that has a gradient, and a point to differentiate it at."""
    ragged = options.pop("ragged", False)
    layer = layer_of(name, 2, 3, **options)
    given = batch_for(layer, 3, 3 if ragged else 2, ragged=ragged, resets=ragged, taps=True)
    names = [key for key, _ in layer.named_parameters()]
    values = [value.detach() for _, value in layer.named_parameters()]
    point = [tensor.clone().requires_grad_() for tensor in (*given.flat, *values)]

    def function(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        count = len(given.flat)
        parameters = dict(zip(names, tensors[count:], strict=True))
        return tuple(run(layer, given.with_flat(tensors[:count]), parameters))

    return function, point


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences(name: str) -> None:
    function, point = checked(name)
    assert torch.autograd.gradcheck(function, point, fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences_entry_by_entry(name: str) -> None:
    function, point = checked(name)
    assert torch.autograd.gradcheck(function, point)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_ragged_batches_with_resets_are_finite_differences(name: str, reverse: bool) -> None:
    function, point = checked(name, ragged=True, reverse=reverse, learn_initial=True)
    assert torch.autograd.gradcheck(function, point, fast_mode=True)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", NAMES)
def test_second_gradients_are_finite_differences(name: str, ragged: bool) -> None:
    function, point = checked(name, ragged=ragged, reverse=ragged)
    assert torch.autograd.gradgradcheck(function, point, fast_mode=True)


@pytest.mark.parametrize("shape", SHAPES, ids=ids)
@pytest.mark.parametrize("name", NAMES)
def test_the_plans_backward_is_that_of_autograd(name: str, shape: tuple[int, ...], engine: str) -> None:
    batch, time, into, hidden = shape
    for ragged in (False, True):
        for reverse in (False, True):
            layer = layer_of(name, into, hidden, reverse=reverse, backend=engine)
            given = batch_for(layer, time, batch, ragged=ragged, resets=ragged, taps=ragged or reverse)
            expected, expected_gradients = gradients(twin(layer, "reference"), given)
            got, got_gradients = gradients(layer, given)
            assert_close(got, expected)
            assert_close(got_gradients, expected_gradients)


@pytest.mark.parametrize("shape", [(3, 6, 3, 33), (5, 3, 16, 48)], ids=ids)
@pytest.mark.parametrize("name", NAMES)
def test_the_plans_backward_is_that_of_autograd_in_single_precision(
    name: str, shape: tuple[int, ...], engine: str
) -> None:
    batch, time, into, hidden = shape
    layer = layer_of(name, into, hidden, dtype=torch.float32, backend=engine)
    given = batch_for(layer, time, batch, ragged=True, resets=True, taps=True)
    reference = twin(layer, "reference")
    random = torch.Generator().manual_seed(7)
    cotangents = [torch.randn(value.shape, generator=random) for value in run(reference, given)]
    got, single = (list(chain(*gradients(network, given, cotangents))) for network in (layer, reference))
    exact = given.with_flat([tensor.double() for tensor in given.flat])
    expected = list(chain(*gradients(reference.double(), exact, [value.double() for value in cotangents])))
    for index, (a, b, c) in enumerate(zip(got, single, expected, strict=True)):
        # A cell that amplifies roundings has those of any order of summation, plain torch's too.
        assert distance(a, c) <= max(4e-6, 3 * distance(b, c)), index


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the largest entry."""
    return float((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-3)) if b.numel() else 0.0


@pytest.mark.parametrize("shape", EMPTY, ids=ids)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_read_leaves_the_state_and_has_no_gradient(name: str, shape: tuple[int, ...], backend: str) -> None:
    batch, time, into, hidden = shape
    for options in ({}, {"reverse": True}):
        layer = layer_of(name, into, hidden, backend=backend, **options)
        given = batch_for(layer, time, batch, taps=True, resets=bool(options), ragged=bool(options))
        ones = [torch.ones_like(result) for result in run(layer, given)]
        results, found = gradients(layer, given, ones)
        states = len(given.state)
        assert results[0].shape == (time, batch, layer.output_size)
        for before, after in zip(given.state, results[1 : 1 + states], strict=True):
            assert torch.equal(before, after)
        of_inputs = found[: 1 + len(given.inputs)]
        of_states = found[len(of_inputs) : len(given.flat)]
        of_parameters = found[len(given.flat) :]
        assert all(not gradient.any() for gradient in (*of_inputs, *of_parameters))
        assert all(bool((gradient == 1).all()) for gradient in of_states)


@pytest.mark.parametrize("name", NAMES)
def test_a_tap_is_the_value_of_its_name(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, taps=True)
    y, *rest = run(layer, given)
    taps = dict(zip(given.taps, rest[len(given.state) :], strict=True))
    program = layer.cell.program
    assert torch.equal(taps[program.states[0][0]], y)
    for (state, _), final in zip(program.states, rest, strict=False):
        assert torch.equal(taps[state][-1], final)


@pytest.mark.parametrize("name", NAMES)
def test_taps_change_no_result(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, ragged=True, taps=True)
    with_taps = run(layer, given)
    given.taps = ()
    assert_close(with_taps[: 1 + len(given.state)], run(layer, given), 1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_biases_is_one_with_biases_of_zero(name: str) -> None:
    whole = layer_of(name)
    without = layer_of(name, bias=False)
    kept = dict(without.named_parameters())
    assert not [key for key in kept if key.startswith("b.")]
    with torch.no_grad():
        for key, value in whole.named_parameters():
            value.zero_() if key.startswith("b.") else value.copy_(kept[key])
    given = batch_for(whole, ragged=True)
    expected, expected_gradients = gradients(whole, given)
    got, got_gradients = gradients(without, given)
    assert_close(got, expected)
    ours = [*range(len(given.flat)), *(
        len(given.flat) + index for index, (key, _) in enumerate(whole.named_parameters()) if key in kept
    )]  # fmt: skip
    assert_close(got_gradients, [expected_gradients[index] for index in ours])


# Cells without a map of what comes from the states on the axis of the output: layers of them refuse the option.
UNDROPPED = ("average", "child-sum-edge", "depth-block", "indrnn", "mingru", "minlstm", "mlp", "qrnn", "sru")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in UNDROPPED])
def test_recurrent_dropout_has_the_gradients_of_autograd(name: str) -> None:
    layer = layer_of(name, recurrent_dropout=0.5)
    reference = layer_of(name, recurrent_dropout=0.5, backend="reference")
    reference.load_state_dict(layer.state_dict())
    given = batch_for(layer, ragged=True, taps=True)
    torch.manual_seed(3)
    expected, expected_gradients = gradients(reference, given)
    torch.manual_seed(3)
    got, got_gradients = gradients(layer, given)
    assert_close(got, expected)
    assert_close(got_gradients, expected_gradients)


def test_recurrent_dropout_drops_the_same_units_of_a_row_at_every_step() -> None:
    layer = layer_of("elman", 2, 200, recurrent_dropout=0.5)
    torch.nn.init.eye_(layer.U["h"])
    torch.nn.init.zeros_(layer.W["h"])
    torch.nn.init.zeros_(layer.b["h"])
    start = torch.full((4, 200), 0.1, dtype=torch.float64)
    y, _ = layer(torch.zeros(6, 4, 2, dtype=torch.float64), start)
    dropped = y[0] == 0
    assert 0.3 < float(dropped.double().mean()) < 0.7
    assert not torch.equal(dropped[0], dropped[1])
    for step in y:
        assert torch.equal(step == 0, dropped)
    assert torch.allclose(y[0][~dropped], torch.tanh(torch.tensor(0.2, dtype=torch.float64)))


def test_recurrent_dropout_is_off_in_evaluation() -> None:
    layer, plain = layer_of("lstm", recurrent_dropout=0.5).eval(), layer_of("lstm")
    plain.load_state_dict(layer.state_dict())
    given = batch_for(layer)
    assert_close(run(layer, given), run(plain, given), 0.0)


def test_every_operation_of_the_language_is_in_some_cell() -> None:
    used = {node.op for cell in CELLS.values() for node in cell.program.nodes}
    wanted = {"minimum", "maximum", "where", "abs", "relu", "softplus", "softmax", "cumsum", "repeat", "layer_norm",
              "sum", "size", "tick", "log", "sqrt", "exp", "div", "raw"}  # fmt: skip
    assert not wanted - used
