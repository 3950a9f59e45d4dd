"""Weight drop: recurrent maps with entries left out, one draw a call."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.conformance.networks import assert_close, batch_for, gradients, layer_of, run
from unrolled.errors import UsageError
from unrolled.language import parse
from unrolled.layers import Bidirectional, Recurrent, Stacked

X = torch.randn(4, 2, 3, dtype=torch.float64)


def thinned(layer: Recurrent, seed: int) -> dict[str, Tensor]:
    """The maps with which a call runs that begins at this seed."""
    torch.manual_seed(seed)
    return {f"{group.family}.{group.key}": layer.noise.thinned(group, value) for group, value in layer._stored()}


def test_a_call_is_that_of_the_plain_layer_with_the_thinned_maps() -> None:
    for backend in ("reference", "llvm"):
        layer = layer_of("gru-cho", weight_drop=0.5, backend=backend)
        maps = {name: value.detach() for name, value in thinned(layer, 1).items()}
        plain = layer_of("gru-cho", backend=backend)
        expected, _ = functional_call(plain, maps, (X,))
        torch.manual_seed(1)
        assert_close([layer(X)[0]], [expected], 1e-14)


def test_entries_of_recurrent_maps_are_dropped_at_the_share_and_the_rest_scaled_up() -> None:
    layer = layer_of("lstm", hidden_size=50, weight_drop=0.25)
    maps = thinned(layer, 0)
    kept = maps["U.i_f_g_o"] != 0
    assert abs(float(kept.double().mean()) - 0.75) < 0.02
    assert torch.allclose(maps["U.i_f_g_o"][kept], layer.U.i_f_g_o[kept] / 0.75)
    assert maps["W.i_f_g_o"] is layer.W.i_f_g_o
    assert maps["b.i_f_g_o"] is layer.b.i_f_g_o


def test_the_gradient_reaches_only_the_entries_that_are_kept() -> None:
    for backend in ("reference", "llvm"):
        layer = layer_of("lstm", weight_drop=0.5, backend=backend)
        kept = thinned(layer, 3)["U.i_f_g_o"] != 0
        torch.manual_seed(3)
        layer(X)[0].sum().backward()
        assert torch.equal(layer.U.i_f_g_o.grad != 0, kept)


def test_a_map_with_a_structure_loses_entries_that_are_stored() -> None:
    layer = layer_of("clockwork", weight_drop=0.5)
    reference = layer_of("clockwork", weight_drop=0.5, backend="reference")
    reference.load_state_dict(layer.state_dict())
    given = batch_for(layer, ragged=True)
    torch.manual_seed(2)
    expected, expected_gradients = gradients(reference, given)
    torch.manual_seed(2)
    got, got_gradients = gradients(layer, given)
    assert_close(got, expected)
    assert_close(got_gradients, expected_gradients)
    (stored,) = layer.U.parameters()
    assert 0 < int((thinned(layer, 2)["U.h"] == 0).sum()) < stored.numel()


def test_a_map_of_a_further_input_is_whole_and_a_map_of_what_reads_a_state_is_not() -> None:
    text = """
@cell
def own(x, h, below: Input["hidden"]):
    h = tanh(W.h @ x + U.below @ below + U.h @ tanh(h))
    return h
"""
    layer = Recurrent(parse(text), 3, 30, weight_drop=0.5)
    maps = thinned(layer, 0)
    assert bool((maps["U.below"] != 0).all())
    assert bool((maps["U.h"] == 0).any())


def test_evaluation_uses_the_weights_as_they_are_and_so_do_streams_and_state_dicts() -> None:
    layer, plain = layer_of("lstm", weight_drop=0.5).eval(), layer_of("lstm")
    plain.load_state_dict(layer.state_dict())
    assert_close([layer(X)[0]], [plain(X)[0]], 0.0)
    stream = layer.stream(2)
    assert_close([torch.stack([stream.step(step).clone() for step in X])], [plain(X)[0]])


def test_the_same_seed_gives_the_same_numbers_and_each_call_draws_anew() -> None:
    both = Bidirectional(layer_of("lstm", weight_drop=0.5), layer_of("lstm", weight_drop=0.5, reverse=True))
    stack = Stacked(both, layer_of("gru", 12, weight_drop=0.3))
    results = []
    for network, seed in ((stack, 1), (copy.deepcopy(stack), 1), (stack, 2)):
        torch.manual_seed(seed)
        results.append(network(X, lengths=[4, 2])[0])
    assert torch.equal(results[0], results[1])
    assert not torch.allclose(results[0], results[2])


def test_all_noise_together_has_the_gradients_of_the_reference() -> None:
    options = {"weight_drop": 0.3, "zoneout": 0.3, "recurrent_dropout": 0.3}
    layer, reference = layer_of("lstm", **options), layer_of("lstm", backend="reference", **options)
    reference.load_state_dict(layer.state_dict())
    given = batch_for(layer, ragged=True, resets=True)
    torch.manual_seed(6)
    expected, expected_gradients = gradients(reference, given)
    torch.manual_seed(6)
    got, got_gradients = gradients(layer, given)
    assert_close(got, expected)
    assert_close(got_gradients, expected_gradients)
    assert not torch.allclose(run(layer, given)[0], got[0])


def test_what_cannot_be_dropped_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="weight_drop is a share from 0 to below 1, not 1"):
        Recurrent("lstm", 3, 4, weight_drop=1.0)
    with pytest.raises(UsageError, match=r"recurrent_dropout is a share from 0 to below 1, not '0\.5'"):
        Recurrent("lstm", 3, 4, recurrent_dropout="0.5")
    text = "@cell\ndef leaky(x, h):\n    h = p.a * h + W.h @ x\n    return h\n"
    with pytest.raises(UsageError, match="weight_drop leaves out weights of recurrent maps; cell 'leaky' has none"):
        Recurrent(parse(text), 3, 4, weight_drop=0.5)
    with pytest.raises(
        UsageError, match="recurrent maps read on the axis of the output; cell 'indrnn' has no such map"
    ):
        Recurrent("indrnn", 3, 4, recurrent_dropout=0.5)
