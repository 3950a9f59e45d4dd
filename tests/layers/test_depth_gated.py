"""The depth-gated LSTM: the memory of the layer below enters through a gate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import assert_close
from unrolled.cells import get
from unrolled.layers import Recurrent, Stacked, at_depth, deep


def stack(layers: int = 3) -> Stacked:
    network = deep(lambda index, size: Recurrent(at_depth("depth-gated-lstm", index), size, 5), 3, layers).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return network


def by_hand(network: Stacked, x: Tensor) -> Tensor:
    """The paper's equations, step by step and layer by layer."""
    zero = x.new_zeros(x.shape[1], 5)
    states = [(zero, zero) for _ in network.layers]
    outputs = []
    for step in x:
        below = None
        for index, layer in enumerate(network.layers):
            h, c = states[index]

            def gate(name: str, memory: Tensor, recurrent: bool = True, layer=layer, step=step, h=h) -> Tensor:
                total = step @ layer.W[name].T + layer.b[name] + layer.p[name] * memory
                return total + h @ layer.U[name].T if recurrent else total

            i, f = torch.sigmoid(gate("i", c)), torch.sigmoid(gate("f", c))
            g = torch.tanh(step @ layer.W.g.T + h @ layer.U.g.T + layer.b.g)
            entering = step @ layer.W.below.T if below is None else below
            seen = 0 if below is None else layer.p.below * below
            d = torch.sigmoid(gate("d", c, recurrent=False) + seen)
            c = d * entering + f * c + i * g
            h = torch.sigmoid(gate("o", c)) * torch.tanh(c)
            states[index] = h, c
            step, below = h, c
        outputs.append(step)
    return torch.stack(outputs)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_a_stack_of_any_depth_follows_the_equations(layers: int) -> None:
    network = stack(layers)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    assert_close([network(x)[0]], [by_hand(network, x)], 1e-12)
    assert [layer.cell.name for layer in network.layers] == ["depth-gated-lstm-first"] + ["depth-gated-lstm"] * (
        layers - 1
    )


def test_with_the_depth_gate_shut_it_is_a_stack_of_peephole_lstms() -> None:
    network = stack()
    plain = deep(lambda index, size: Recurrent("peephole-lstm", size, 5), 3, 3).double()
    with torch.no_grad():
        for layer, twin in zip(network.layers, plain.layers, strict=True):
            for family, names in {"W": "ifgo", "U": "ifgo", "p": "ifo", "b": "ifgo"}.items():
                for name in names:
                    getattr(twin, family)[name].copy_(getattr(layer, family)[name])
            layer.b.d.fill_(-torch.inf)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    y, state = network(x)
    expected, plain_state = plain(x)
    assert torch.equal(y, expected)
    for got, wanted in zip(state, plain_state, strict=True):
        assert_close(got, wanted, 0.0)


def test_with_the_depth_gate_open_and_the_others_shut_memory_and_gradient_pass_unchanged() -> None:
    network = stack()
    with torch.no_grad():
        for layer in list(network.layers)[1:]:
            layer.b.i.fill_(-torch.inf)
            layer.b.f.fill_(-torch.inf)
            layer.b.d.fill_(torch.inf)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    _, _, taps = network(x, taps=("0.c", "c"))
    assert torch.equal(taps["0.c"], taps["c"])
    cotangent = torch.randn_like(taps["c"])
    (passed,) = torch.autograd.grad(taps["c"], taps["0.c"], cotangent, retain_graph=True)
    assert torch.equal(passed, cotangent)


def test_the_depth_gate_reads_no_output_of_the_step_before() -> None:
    layer = Recurrent("depth-gated-lstm", 3, 5)
    assert "d" not in str(layer.U)
    assert list(get("depth-gated-lstm-first").program.inputs) == [("x", ("input",))]
