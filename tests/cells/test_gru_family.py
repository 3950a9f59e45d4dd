"""Relatives of the GRU and of the simple network: each is its paper's equations, and does what the paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, sigmoid, tanh

from unrolled.layers import Recurrent

SIZE = 8


def layer_of(name: str, input_size: int = 5, hidden_size: int = SIZE, **options: Any) -> Recurrent:
    """A layer in float64 with random weights, biases and gains too, in plain torch."""
    torch.manual_seed(0)
    layer = Recurrent(name, input_size, hidden_size, **{"dtype": torch.float64, "backend": "reference", **options})
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return layer


def maps_of(layer: Recurrent) -> set[str]:
    """The names of the maps of the input."""
    return {name for group in layer.groups if group.family == "W" for name in group.names}


def looped(layer: Recurrent, step: Any, x: Tensor, h: Tensor) -> Tensor:
    """A step of plain torch over time; `step` is given what multiplies by a symbol's map, or its vector."""

    def net(symbol: str, v: Tensor) -> Tensor:
        family, name = symbol.split(".")
        return v @ getattr(layer, family)[name].mT

    steps = []
    for now in x:
        h = step(net, layer, now, h)
        steps.append(h)
    return torch.stack(steps)


def mut1(net: Any, layer: Recurrent, x: Tensor, h: Tensor) -> Tensor:
    z = sigmoid(net("W.z", x) + layer.b.z)
    r = sigmoid(net("W.r", x) + net("U.r", h) + layer.b.r)
    raw = net("W.raw", x) if "raw" in maps_of(layer) else x
    return tanh(net("U.g", r * h) + tanh(raw) + layer.b.g) * z + h * (1 - z)


def mut2(net: Any, layer: Recurrent, x: Tensor, h: Tensor) -> Tensor:
    z = sigmoid(net("W.z", x) + net("U.z", h) + layer.b.z)
    raw = net("W.raw", x) if "raw" in maps_of(layer) else x
    r = sigmoid(raw + net("U.r", h) + layer.b.r)
    return tanh(net("U.g", r * h) + net("W.g", x) + layer.b.g) * z + h * (1 - z)


def mut3(net: Any, layer: Recurrent, x: Tensor, h: Tensor) -> Tensor:
    z = sigmoid(net("W.z", x) + net("U.z", tanh(h)) + layer.b.z)
    r = sigmoid(net("W.r", x) + net("U.r", h) + layer.b.r)
    return tanh(net("U.g", r * h) + net("W.g", x) + layer.b.g) * z + h * (1 - z)


def layer_norm_gru(net: Any, layer: Recurrent, x: Tensor, h: Tensor) -> Tensor:
    """As the supplement prints it: LN(W_h h) + LN(W_x x) over the stacked gates, then the candidate."""

    def normal(v: Tensor, gain: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(v, v.shape[-1:], gain)

    gains = {name: layer.p[name] for name in ("wz", "wr", "wg", "uz", "ur", "ug")}
    of_x = normal(torch.cat([net("W.z", x), net("W.r", x)], -1), torch.cat([gains["wz"], gains["wr"]]))
    of_h = normal(torch.cat([net("U.z", h), net("U.r", h)], -1), torch.cat([gains["uz"], gains["ur"]]))
    z, r = sigmoid(of_x + of_h + torch.cat([layer.b.z, layer.b.r])).chunk(2, -1)
    g = tanh(normal(net("W.g", x), gains["wg"]) + layer.b.g + r * (normal(net("U.g", h), gains["ug"]) + layer.b.u))
    return (1 - z) * h + z * g


STEPS = {"mut1": mut1, "mut2": mut2, "mut3": mut3, "layer-norm-gru": layer_norm_gru}


@pytest.mark.parametrize("input_size", [5, SIZE])
@pytest.mark.parametrize("name", STEPS)
def test_the_cell_is_the_equations_of_its_paper(name: str, input_size: int) -> None:
    layer = layer_of(name, input_size)
    x, h = torch.randn(6, 3, input_size, dtype=torch.float64), torch.randn(3, SIZE, dtype=torch.float64)
    torch.testing.assert_close(layer(x, (h,))[0], looped(layer, STEPS[name], x, h))


@pytest.mark.parametrize("name", ["mut1", "mut2"])
def test_x_is_added_as_it_is_where_its_size_is_that_of_the_state(name: str) -> None:
    assert "raw" not in maps_of(layer_of(name, SIZE))
    assert "raw" in maps_of(layer_of(name))


def test_mutants_begin_within_one_over_the_root_of_what_a_unit_reads() -> None:
    layer = Recurrent("mut3", 25, 100)
    assert 0.19 < layer.W.g.abs().max().item() <= 0.2
    assert 0.095 < layer.U.g.abs().max().item() <= 0.1
    assert not layer.b.z.any()


def test_gates_of_the_layer_norm_gru_do_not_see_the_size_of_their_weights() -> None:
    layer = layer_of("layer-norm-gru")
    x = torch.randn(6, 3, 5, dtype=torch.float64)
    before, _ = layer(x)
    with torch.no_grad():
        for family in (layer.W, layer.U):
            for stored in family.parameters():
                stored.mul_(1000)
    torch.testing.assert_close(layer(x)[0], before, atol=1e-3, rtol=0)


def clockwork(**options: Any) -> Recurrent:
    return layer_of("clockwork", 3, SIZE, **options)


def units_of(period: int) -> slice:
    module = (1, 2, 4, 8).index(period)
    return slice(2 * module, 2 * module + 2)


def test_a_module_that_is_not_due_keeps_its_state_and_passes_gradients_unchanged() -> None:
    layer, x = clockwork(), torch.randn(1, 1, 3, dtype=torch.float64)
    h = torch.randn(1, SIZE, dtype=torch.float64)
    for clock in range(9):
        after = layer(x, (h, torch.tensor(clock)))[0][0]
        jacobian = torch.autograd.functional.jacobian(
            lambda state, now=clock: layer(x, (state, torch.tensor(now)))[0][0, 0], h
        )
        for period in (1, 2, 4, 8):
            units = units_of(period)
            kept = torch.eye(SIZE, dtype=torch.float64)[units]
            assert torch.equal(after[:, units], h[:, units]) == (clock % period != 0)
            assert torch.equal(jacobian[units, 0], kept) == (clock % period != 0)


def test_slow_modules_read_no_fast_ones() -> None:
    layer, x = clockwork(), torch.randn(1, 1, 3, dtype=torch.float64)
    h = torch.randn(1, SIZE, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda state: layer(x, (state,))[0][0, 0], h)[:, 0]
    blocks = jacobian.reshape(4, 2, 4, 2).abs().amax((1, 3))
    assert bool((blocks.triu() > 0).sum() == 10)
    assert not blocks.tril(-1).any()


def test_with_one_period_the_clockwork_is_the_simple_network() -> None:
    layer, simple = clockwork(periods=(1,)), layer_of("elman", 3)
    with torch.no_grad():
        simple.W.h.copy_(layer.W.h)
        simple.b.h.copy_(layer.b.h)
        simple.U.h.copy_(dict(layer.named_parameters())["U.h"].view(SIZE, SIZE))
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], simple(x)[0])


def antisymmetric_map(layer: Recurrent) -> Tensor:
    above = torch.triu_indices(SIZE, SIZE, 1)
    upper = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    upper[above[0], above[1]] = dict(layer.named_parameters())["U.h"].detach()
    return upper - upper.mT


def test_the_antisymmetric_network_is_a_step_of_eulers_method() -> None:
    layer = layer_of("antisymmetric", epsilon=0.3, gamma=0.2)
    x, h = torch.randn(6, 3, 5, dtype=torch.float64), torch.randn(3, SIZE, dtype=torch.float64)
    stable = antisymmetric_map(layer) - 0.2 * torch.eye(SIZE, dtype=torch.float64)

    def step(net: Any, _: Recurrent, now: Tensor, state: Tensor) -> Tensor:
        return state + 0.3 * tanh(net("W.h", now) + state @ stable.mT + layer.b.h)

    torch.testing.assert_close(layer(x, (h,))[0], looped(layer, step, x, h))
    assert float(torch.linalg.eigvals(antisymmetric_map(layer)).real.abs().max()) < 1e-12


def test_the_gradient_of_the_antisymmetric_network_neither_vanishes_nor_explodes() -> None:
    norms, x = {}, torch.randn(500, 1, 5, dtype=torch.float64)
    for name, options in (("antisymmetric", {"epsilon": 0.01, "gamma": 0.0}), ("elman", {})):
        layer = layer_of(name, **options)
        h = torch.zeros(1, SIZE, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(lambda state, run=layer: run(x, (state,))[1].h[0], h)[:, 0]
        norms[name] = torch.linalg.svdvals(jacobian)
    assert 0.1 < float(norms["antisymmetric"].min()) <= float(norms["antisymmetric"].max()) < 10
    assert float(norms["elman"].max()) < 1e-20
