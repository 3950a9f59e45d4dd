"""The scan in a graph of autograd: what is kept, what is frozen, what may not be changed."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.conformance.networks import assert_close, batch_for, layer_of, run, twin
from tests.scan.family import cells


@cells
def test_a_second_backward_with_the_graph_retained_gives_the_same(name: str) -> None:
    layer = layer_of(name)
    given = batch_for(layer, ragged=True, taps=True)
    results = run(layer, given)
    loss = sum(r.square().sum() for r in results)
    wanted = list(layer.parameters())
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    second = torch.autograd.grad(loss, wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, wanted)


@cells
def test_the_gradient_of_one_result_alone_is_that_of_the_reference(name: str) -> None:
    layer = layer_of(name)
    reference = twin(layer, "reference")
    given = batch_for(layer, ragged=True, resets=True, taps=True)
    for index in range(len(run(layer, given))):
        found = []
        for network in (layer, reference):
            x = given.x.clone().requires_grad_()
            wanted = [x, *network.parameters()]
            result = run(network, given.with_flat([x, *given.flat[1:]]))[index]
            slopes = torch.autograd.grad(result.square().sum(), wanted, allow_unused=True)
            zeros = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, slopes, strict=True)]
            found.append(zeros)
        assert_close(*found)


@pytest.mark.parametrize("frozen", ["W", "U", "b", "all"])
def test_frozen_parameters_get_no_gradient_and_change_no_other(frozen: str) -> None:
    layer = layer_of("lstm")
    whole = copy.deepcopy(layer)
    for name, value in layer.named_parameters():
        value.requires_grad_(frozen != "all" and not name.startswith(frozen))
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    given, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    layer(given)[0].square().sum().backward()
    whole(other)[0].square().sum().backward()
    assert_close([given.grad], [other.grad])  # type: ignore[list-item]
    for value, expected in zip(layer.parameters(), whole.parameters(), strict=True):
        assert (value.grad is not None) == value.requires_grad
        if value.grad is not None:
            assert_close([value.grad], [expected.grad])  # type: ignore[list-item]


def test_nothing_is_recorded_where_no_gradient_is_wanted() -> None:
    layer = layer_of("lstm")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        quiet, state = layer(x)
    assert not quiet.requires_grad
    assert not state.c.requires_grad
    loud, _ = layer(x)
    assert loud.requires_grad
    assert torch.equal(quiet, loud)
    with torch.inference_mode():
        assert torch.equal(layer(x)[0], quiet)


def test_an_output_changed_in_place_before_backward_is_an_error() -> None:
    layer = layer_of("lstm")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    y, _ = layer(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("what", ["x", "U.i_f_g_o"])
def test_an_input_changed_in_place_before_backward_is_an_error(what: str) -> None:
    layer = layer_of("lstm")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    y, _ = layer(x)
    with torch.no_grad():
        (x if what == "x" else dict(layer.named_parameters())[what]).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
