from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import assert_close, layer_of
from unrolled.errors import UsageError
from unrolled.layers import Bidirectional, Stacked, gradient_by_step

NETWORKS: dict[str, Callable[[], Any]] = {
    "elman": lambda: layer_of("elman"),
    "lstm": lambda: layer_of("lstm"),
    "clockwork": lambda: layer_of("clockwork"),
    "stacked": lambda: Stacked(layer_of("lstm"), layer_of("elman", 6, 4)),
}


def loss(y: Tensor) -> Tensor:
    return (y.cumsum(0) * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)).square().sum()


@pytest.mark.parametrize("with_state", [False, True], ids=["from-zero", "from-a-state"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_distances_sum_to_the_gradient_of_every_parameter(name: str, with_state: bool) -> None:
    network = NETWORKS[name]()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    state = network(torch.randn(3, 2, 3, dtype=torch.float64))[1] if with_state else None
    state = torch.utils._pytree.tree_map(torch.Tensor.detach, state) if with_state else None
    loss(network(x, state)[0]).backward()
    for key, value in network.named_parameters():
        found = gradient_by_step(network, x, loss, key, state)
        assert found.shape == (5, *value.shape)
        assert value.grad is not None
        assert_close([found.sum(0)], [value.grad])


def test_the_first_entry_is_the_immediate_use() -> None:
    layer = layer_of("elman")
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    y, _ = layer(x)
    before = torch.cat([torch.zeros_like(y[:1]), y[:-1]])
    slope = 2 * y * (1 - y * y)
    expected = torch.einsum("tbi,tbj->ij", slope, before)
    assert_close([gradient_by_step(layer, x, lambda value: value.square().sum(), "U.h")[0]], [expected])
    immediate = torch.einsum("tbi,tbj->ij", slope, x)
    assert_close([gradient_by_step(layer, x, lambda value: value.square().sum(), "W.h")[0]], [immediate])


def test_a_contractive_network_forgets_with_distance() -> None:
    layer = layer_of("elman", 3, 6)
    with torch.no_grad():
        layer.U["h"].copy_(0.5 * torch.linalg.qr(layer.U["h"])[0])
    found = gradient_by_step(layer, torch.randn(12, 4, 3, dtype=torch.float64), lambda y: y[-1].sum(), "W.h")
    size = found.flatten(1).norm(dim=1)
    assert bool((size[3:] < size[0] * 0.6 ** torch.arange(3, 12)).all())
    assert float(size[-1]) < 1e-2 * float(size[0])
    assert float(size[-1]) > 0


def test_no_steps_have_no_gradient() -> None:
    layer = layer_of("elman")
    found = gradient_by_step(layer, torch.zeros(0, 2, 3, dtype=torch.float64), torch.sum, "U.h")
    assert found.shape == (0, 6, 6)


def test_what_cannot_be_taken_apart_is_refused_in_words() -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    with pytest.raises(UsageError, match=r"the layer has no parameter 'U.g'. Did you mean U.h"):
        gradient_by_step(layer_of("elman"), x, torch.sum, "U.g")
    both = Bidirectional(layer_of("elman"), layer_of("elman", reverse=True))
    for network, key in ((layer_of("elman", reverse=True), "U.h"), (both, "directions.0.U.h")):
        with pytest.raises(UsageError, match="reads backwards, or in both directions"):
            gradient_by_step(network, x, torch.sum, key)
    with pytest.raises(UsageError, match="reads time-major batches; the layer has batch_first=True"):
        gradient_by_step(layer_of("elman", batch_first=True), x, torch.sum, "U.h")
