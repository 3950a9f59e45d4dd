"""Weights that something else computes: they are read by name at every call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize, prune

import unrolled.nn as nn
from tests.nn.torch_pairs import NETWORKS, inputs, pair, quiet


class Halved(torch.nn.Module):
    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value / 2


def names(network: Any) -> list[str]:
    return [name for row in network._all_weights for name in row]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_parametrisation_of_any_weight_takes_effect(kind: str) -> None:
    quiet()
    theirs, ours = pair(kind, bidirectional=True)
    x = inputs("padded")
    for name in names(ours):
        parametrize.register_parametrization(ours, name, Halved())
        getattr(theirs, name).data /= 2
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    ours(x)[0].sum().backward()
    assert all(value.grad is not None for value in ours.parameters())


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, torch.nn.utils.weight_norm], ids=["new", "old"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_weight_norm_takes_effect_and_is_trained_through(norm: Any) -> None:
    theirs, ours = pair("lstm")
    for network in (theirs, ours):
        norm(network, "weight_hh_l0")
    x = inputs("padded")
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    (magnitude,) = (value for name, value in ours.named_parameters() if name.endswith(("_g", "original0")))
    with torch.no_grad():
        before = ours(x)[0]
        magnitude *= 3
        assert not torch.equal(ours(x)[0], before)
    ours(x)[0].sum().backward()
    assert magnitude.grad.abs().max() > 0


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_pruned_weight_takes_effect(kind: str) -> None:
    _, ours = pair(kind)
    x = inputs("padded")
    before = ours(x)[0]
    prune.random_unstructured(ours, "weight_ih_l0", amount=0.9)
    assert not torch.equal(ours(x)[0], before)
    ours(x)[0].sum().backward()
    assert (ours.weight_ih_l0_orig.grad == 0).float().mean() >= 0.85


def test_a_dropped_recurrent_weight_takes_effect() -> None:
    ours: Any = nn.LSTM(3, 5)
    raw = ours.weight_hh_l0
    del ours._parameters["weight_hh_l0"]
    ours.weight_hh_l0 = torch.zeros_like(raw)
    x = inputs("padded")
    first = ours(x)[0]
    ours.weight_hh_l0 = raw.detach().clone()
    assert not torch.equal(ours(x)[0], first)


def test_an_assigned_parameter_takes_effect() -> None:
    theirs, ours = pair("gru")
    x = inputs("padded")
    for network in (theirs, ours):
        network.weight_ih_l0 = torch.nn.Parameter(torch.full_like(network.weight_ih_l0, 0.1))
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_functional_call_uses_the_weights_that_it_is_given(kind: str) -> None:
    quiet()
    theirs, ours = pair(kind, num_layers=2)
    x = inputs("padded")
    weights = {name: torch.randn_like(value) for name, value in ours.named_parameters()}
    before = ours(x)[0]
    found = torch.func.functional_call(ours, weights, (x,))[0]
    torch.testing.assert_close(found, torch.func.functional_call(theirs, weights, (x,))[0])
    assert torch.equal(ours(x)[0], before)


def test_functional_call_may_change_the_type() -> None:
    ours = nn.GRU(3, 5)
    weights = {name: value.double() for name, value in ours.named_parameters()}
    assert torch.func.functional_call(ours, weights, (inputs("padded", torch.float64),))[0].dtype == torch.float64


def test_gradients_of_each_row_follow_from_torch_func() -> None:
    _, ours = pair("lstm")
    weights = {name: value.detach() for name, value in ours.named_parameters()}
    x = inputs("padded")

    def loss(weights: Any, row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(ours, weights, (row[:, None],))[0].square().sum()

    by_row = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(weights, x)
    whole = torch.func.grad(lambda weights: sum(loss(weights, x[:, row]) for row in range(x.shape[1])))(weights)
    for name, value in whole.items():
        torch.testing.assert_close(by_row[name].sum(0), value)


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_a_frozen_weight_gets_no_gradient_and_the_others_keep_theirs(frozen: str) -> None:
    theirs, ours = pair("lstm")
    x = inputs("padded")
    for network in (theirs, ours):
        getattr(network, frozen).requires_grad_(False)
        network(x)[0].square().sum().backward()
    for name, value in theirs.named_parameters():
        if name == frozen:
            assert getattr(ours, name).grad is None
        else:
            torch.testing.assert_close(getattr(ours, name).grad, value.grad)


def test_two_layers_may_share_a_weight() -> None:
    theirs, ours = pair("gru", num_layers=2)
    x = inputs("padded")
    for network in (theirs, ours):
        network.weight_hh_l1 = network.weight_hh_l0
        network(x)[0].square().sum().backward()
    torch.testing.assert_close(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad)
    assert len(list(ours.parameters())) == 7
