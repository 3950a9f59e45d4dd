"""The scan under torch.compile."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.conformance.networks import assert_close, layer_of
from unrolled.layers import Bidirectional, Stacked


def networks() -> dict[str, Callable[[], Any]]:
    return {
        "recurrent": lambda: layer_of("lstm"),
        "reverse": lambda: layer_of("gru-cho", reverse=True),
        "clock": lambda: layer_of("clockwork"),
        "learned-initial": lambda: layer_of("gru", learn_initial=True),
        "stacked": lambda: Stacked(layer_of("lstm"), layer_of("mgu", 6, 4)),
        "bidirectional": lambda: Bidirectional(layer_of("gru"), layer_of("lstm", reverse=True)),
        "batch-first": lambda: layer_of("simple-gru", batch_first=True),
    }


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", networks())
def test_a_network_compiles_whole_and_trains_the_same(name: str, ragged: bool) -> None:
    network = networks()[name]()
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 3, 3, dtype=torch.float64)
    batch = 4 if name == "batch-first" else 3
    lengths = torch.tensor([2, 0, 3, 1][:batch]) if ragged else None
    with torch.no_grad():
        # Compiled first: nothing is left to be made when the layer first runs.
        got, _ = compiled(x, None, lengths)
        assert_close([got], [network(x, None, lengths)[0]], 1e-12)
    found = []
    for run_it in (network, compiled):
        given = x.clone().requires_grad_()
        y, state = run_it(given, None, lengths)
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(state) if leaf.requires_grad]
        loss = y.square().sum() + sum(leaf.sum() for leaf in leaves)
        found.append([y, *torch.autograd.grad(loss, [given, *run_it.parameters()])])
    assert_close(found[1], found[0], 1e-12)


def test_a_compiled_layer_runs_over_any_time_without_compiling_anew() -> None:
    layer = layer_of("lstm")
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(layer, fullgraph=True, backend=counter, dynamic=True)
    for time in (5, 9, 3, 12):
        x = torch.randn(time, 2, 3, dtype=torch.float64)
        assert torch.equal(compiled(x)[0], layer(x)[0])
    assert counter.frame_count == 1


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_a_layer_with_recurrent_dropout_compiles_in_both_modes(training: bool) -> None:
    layer = layer_of("lstm", recurrent_dropout=0.5).train(training)
    y, _ = torch.compile(layer, fullgraph=True, backend="aot_eager")(torch.randn(4, 2, 3, dtype=torch.float64))
    assert y.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent", "stacked", "bidirectional"])
def test_inductor_compiles_a_network(name: str) -> None:
    network = networks()[name]()
    x = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    y, _ = torch.compile(network, fullgraph=True)(x, None, torch.tensor([2, 0, 4]))
    expected, _ = network(x, None, torch.tensor([2, 0, 4]))
    assert_close([y], [expected], 1e-12)
    wanted = [x, *network.parameters()]
    got = torch.autograd.grad(y.square().sum(), wanted)
    assert_close(got, torch.autograd.grad(expected.square().sum(), wanted), 1e-10)
