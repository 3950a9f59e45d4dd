"""Cells without a recurrent product: each is its paper's equations, element-wise, and mostly linear in its memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, relu, sigmoid, tanh

from tests.cells.test_gru_family import SIZE, layer_of, maps_of
from unrolled.layers import Recurrent

STATES = {"indrnn": "h", "sru": "c", "qrnn": "c", "mingru": "h", "minlstm": "h"}
LINEAR = ["qrnn", "mingru", "minlstm"]


def equations(name: str, layer: Recurrent, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs and the last memory, in plain torch, each gate over all time as the papers print it."""
    b = getattr(layer, "b", None)
    of_x = {symbol: x @ layer.W[symbol].mT for symbol in maps_of(layer)}
    memory, outputs = start, []
    for t in range(len(x)):
        if name == "indrnn":
            memory = relu(of_x["h"][t] + layer.p.h * memory + b.h)
            outputs.append(memory)
        elif name == "sru":
            f = sigmoid(of_x["f"][t] + layer.p.f * memory + b.f)
            r = sigmoid(of_x["r"][t] + layer.p.r * memory + b.r)
            memory = f * memory + (1 - f) * of_x["c"][t]
            outputs.append(r * memory + (1 - r) * (of_x["raw"][t] if "raw" in of_x else x[t]) * 3**0.5)
        elif name == "qrnn":
            before = x[t - 1] if t else torch.zeros_like(x[0])
            z, f, o = (of_x[gate][t] + before @ layer.V[gate].mT for gate in "zfo")
            memory = sigmoid(f) * memory + (1 - sigmoid(f)) * tanh(z)
            outputs.append(sigmoid(o) * memory)
        elif name == "mingru":
            z = sigmoid(of_x["z"][t] + b.z)
            memory = (1 - z) * memory + z * (of_x["g"][t] + b.g)
            outputs.append(memory)
        else:
            f, i = sigmoid(of_x["f"][t] + b.f), sigmoid(of_x["i"][t] + b.i)
            memory = f / (f + i) * memory + i / (f + i) * (of_x["g"][t] + b.g)
            outputs.append(memory)
    return torch.stack(outputs), memory


def state_of(layer: Recurrent, name: str, memory: Tensor) -> Any:
    begun = layer.initial_state(memory.shape[0])
    return begun._replace(**{STATES[name]: memory})


@pytest.mark.parametrize("input_size", [5, SIZE])
@pytest.mark.parametrize("name", STATES)
def test_the_cell_is_the_equations_of_its_paper(name: str, input_size: int) -> None:
    layer = layer_of(name, input_size)
    x, start = torch.randn(7, 3, input_size, dtype=torch.float64), torch.randn(3, SIZE, dtype=torch.float64)
    y, state = layer(x, state_of(layer, name, start))
    expected, last = equations(name, layer, x, start)
    torch.testing.assert_close(y, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(getattr(state, STATES[name]), last, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", STATES)
def test_a_unit_reads_its_own_memory_and_no_others(name: str) -> None:
    layer = layer_of(name)
    x, start = torch.randn(4, 1, 5, dtype=torch.float64), torch.rand(1, SIZE, dtype=torch.float64)

    def last(memory: Tensor) -> Tensor:
        return getattr(layer(x, state_of(layer, name, memory))[1], STATES[name])[0]

    jacobian = torch.autograd.functional.jacobian(last, start)[:, 0]
    assert not (jacobian - jacobian.diagonal().diag()).any()
    assert jacobian.diagonal().any()


@pytest.mark.parametrize("name", [*LINEAR, "sru"])
def test_it_is_linear_in_the_memory_that_it_begins_with(name: str) -> None:
    layer = layer_of(name)
    if name == "sru":  # but for its peepholes
        torch.nn.init.zeros_(layer.p.f)
        torch.nn.init.zeros_(layer.p.r)
    x = torch.randn(6, 2, 5, dtype=torch.float64)
    one, other = torch.randn(2, 2, SIZE, dtype=torch.float64)

    def run(memory: Tensor) -> Tensor:
        return layer(x, state_of(layer, name, memory))[0]

    torch.testing.assert_close(run(one + 2 * other), run(one) + 2 * run(other) - 2 * run(torch.zeros_like(one)))
    assert bool(layer.plan().linear) == (name in LINEAR)


@pytest.mark.parametrize("backend", ["", "associative", "reference"])
@pytest.mark.parametrize("name", LINEAR)
def test_the_scan_over_all_time_is_the_loop_of_steps(name: str, backend: str) -> None:
    layer = layer_of(name, backend=backend)
    x = torch.randn(50, 2, 5, dtype=torch.float64)
    y, last = layer(x)
    state, steps = layer.initial_state(2), []
    for now in x:
        output, state = layer(now[None], state)
        steps.append(output)
    torch.testing.assert_close(y, torch.cat(steps))
    torch.testing.assert_close(tuple(last), tuple(state))


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
def test_the_two_weights_of_a_step_sum_to_one(name: str) -> None:
    layer = layer_of(name)
    torch.nn.init.zeros_(layer.W.g)
    torch.nn.init.constant_(layer.b.g, 1.0)
    y, _ = layer(torch.randn(20, 2, 5, dtype=torch.float64), (torch.ones(2, SIZE, dtype=torch.float64),))
    torch.testing.assert_close(y, torch.ones_like(y))


def test_the_first_step_of_the_qrnn_is_padded_with_zeros() -> None:
    layer = layer_of("qrnn")
    x = torch.randn(1, 2, 5, dtype=torch.float64)
    y, state = layer(x)
    torch.nn.init.constant_(dict(layer.named_parameters())["V.z_f_o"], 9.0)
    assert torch.equal(layer(x)[0], y)
    assert torch.equal(state.before, x[0])


def test_the_sru_keeps_the_variance_of_its_input() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 40, 64)
    for _ in range(4):
        x, _ = Recurrent("sru", 64, 64, init={"p": 0.0}, backend="reference")(x)
        assert 0.7 < x[-1].var().item() < 1.3


def test_indrnn_begins_with_units_that_keep_their_sum() -> None:
    layer = Recurrent("indrnn", 1, 2, backend="reference")
    y, _ = layer(torch.zeros(100, 1, 1), (torch.tensor([[0.5, 2.0]]),))
    assert torch.equal(y[-1], torch.tensor([[0.5, 2.0]]))
