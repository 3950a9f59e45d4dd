"""Zoneout: states that keep some of their units, against a loop in plain torch with the same masks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import assert_close, batch_for, gradients, layer_of, run
from unrolled.errors import UsageError
from unrolled.layers import Bidirectional, Recurrent, Stacked

BACKENDS = ("reference", "llvm")


def plain_lstm(layer: Recurrent, x: Tensor, masks: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Equations of the paper: h reads the memory as it is before zoneout."""
    h = c = x.new_zeros(x.shape[1], layer.hidden_size)
    ys = []
    for step, now in enumerate(x):
        i, f, g, o = (now @ layer.W.i_f_g_o.T + h @ layer.U.i_f_g_o.T + layer.b.i_f_g_o).chunk(4, -1)
        new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        shown = torch.sigmoid(o) * torch.tanh(new)
        c = masks["c"][step] * c + (1 - masks["c"][step]) * new
        h = masks["h"][step] * h + (1 - masks["h"][step]) * shown
        ys.append(h)
    return torch.stack(ys), c


def masks_of(layer: Recurrent, x: Tensor) -> dict[str, Tensor]:
    drawn = layer.noise.sequences(*x.shape[:2], x)
    return {name.removeprefix("zoneout "): mask for name, mask in drawn.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_lstm_in_training_is_the_papers_equations_with_the_same_masks(backend: str) -> None:
    layer = layer_of("lstm", zoneout={"h": 0.2, "c": 0.5}, backend=backend)
    x = torch.randn(6, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(4)
    y, state = layer(x)
    torch.manual_seed(4)
    expected, c = plain_lstm(layer, x, masks_of(layer, x))
    assert_close([y, state.c], [expected, c])
    wanted = [x, *layer.parameters()]
    weights = torch.randn_like(y)
    assert_close(
        torch.autograd.grad((y * weights).sum() + state.c.sum(), wanted),
        torch.autograd.grad((expected * weights).sum() + c.sum(), wanted),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_evaluation_old_and_new_are_mixed_by_the_probability(backend: str) -> None:
    layer = layer_of("lstm", zoneout={"h": 0.2, "c": 0.5}, backend=backend).eval()
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    share = {name: torch.full((6,), rate, dtype=x.dtype) for name, rate in layer.noise.zoneout.items()}
    expected, c = plain_lstm(layer, x, share)
    y, state = layer(x)
    assert_close([y, state.c], [expected, c])
    stream = layer.stream(3)
    assert_close([torch.stack([stream.step(step).clone() for step in x])], [expected])


def test_masks_have_their_probability_and_differ_by_step_row_unit_and_state() -> None:
    layer = layer_of("lstm", hidden_size=20, zoneout={"h": 0.1, "c": 0.5})
    masks = masks_of(layer, torch.zeros(100, 10, 3, dtype=torch.float64))
    assert set(masks["c"].unique().tolist()) == {0.0, 1.0}
    assert abs(float(masks["c"].mean()) - 0.5) < 0.02
    assert abs(float(masks["h"].mean()) - 0.1) < 0.01
    for axis in range(3):
        first, second = masks["c"].select(axis, 0), masks["c"].select(axis, 1)
        assert not torch.equal(first, second)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_probability_of_1_keeps_the_states_and_one_of_0_is_the_plain_layer(backend: str, training: bool) -> None:
    kept = layer_of("lstm", zoneout=1.0, backend=backend).train(training)
    none = layer_of("lstm", zoneout=0.0, backend=backend).train(training)
    plain = layer_of("lstm", backend=backend).train(training)
    none.load_state_dict(plain.state_dict())
    given = batch_for(kept, ragged=True)
    assert_close(run(kept, given)[1:], given.state, 0.0)
    assert_close(run(none, given), run(plain, given), 0.0)


def test_the_same_seed_gives_the_same_numbers_and_each_call_draws_anew() -> None:
    layer = layer_of("gru", zoneout=0.3)
    given = batch_for(layer)
    first = torch.manual_seed(9) and run(layer, given)[0]
    second = run(layer, given)[0]
    again = torch.manual_seed(9) and run(layer, given)[0]
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(("name", "training"), [("clockwork", True), ("weird", True), ("weird", False)])
def test_the_engine_gives_the_results_and_gradients_of_the_reference(name: str, training: bool) -> None:
    layer = layer_of(name, zoneout=0.3, backend="llvm").train(training)
    reference = layer_of(name, zoneout=0.3, backend="reference").train(training)
    reference.load_state_dict(layer.state_dict())
    given = batch_for(layer, ragged=True, resets=True, taps=True)
    torch.manual_seed(3)
    expected, expected_gradients = gradients(reference, given)
    torch.manual_seed(3)
    got, got_gradients = gradients(layer, given)
    assert_close(got, expected)
    assert_close(got_gradients, expected_gradients)


@pytest.mark.parametrize("options", [{}, {"reverse": True}], ids=["forward", "reverse"])
def test_padding_changes_no_row(options: dict[str, Any]) -> None:
    layer = layer_of("lstm", zoneout=0.4, **options).eval()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    y, state = layer(x, lengths=[5, 2])
    alone, own = layer(x[:2, 1:])
    assert_close([y[:2, 1:], state.c[1:]], [alone, own.c])


def test_zoneout_copies_and_stands_in_stacks_and_both_directions() -> None:
    layer = layer_of("lstm", zoneout=0.4)
    both = Bidirectional(layer, layer_of("lstm", zoneout=0.4, reverse=True))
    stack = Stacked(both, layer_of("gru", 12, zoneout={"h": 0.2}))
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    torch.manual_seed(2)
    y, _ = stack(x, lengths=[5, 0, 3])
    y.sum().backward()
    for other in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        torch.manual_seed(2)
        assert torch.equal(other(x, lengths=[5, 0, 3])[0], y)
    assert not torch.allclose(stack.eval()(x, lengths=[5, 0, 3])[0], y)


def test_state_dicts_are_those_of_the_plain_layer() -> None:
    assert list(Recurrent("lstm", 3, 4, zoneout=0.1).state_dict()) == list(Recurrent("lstm", 3, 4).state_dict())


@pytest.mark.parametrize(
    ("zoneout", "words"),
    [
        (1.5, r"zoneout is a probability from 0 to 1, not 1\.5"),
        ({"h": -0.1}, r"zoneout is a probability from 0 to 1, not -0\.1"),
        (True, "zoneout is a probability from 0 to 1, not True"),
        ("0.1", r"zoneout is a probability from 0 to 1, not '0\.1'"),
        ({"f": 0.1}, "zoneout names 'f', which is no state of the cell"),
    ],
    ids=str,
)
def test_what_is_no_probability_or_no_state_is_refused_in_words(zoneout: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Recurrent("lstm", 3, 4, zoneout=zoneout)


def test_a_stream_of_a_layer_in_training_is_refused() -> None:
    for options in ({"zoneout": 0.1}, {"weight_drop": 0.1}):
        with pytest.raises(UsageError, match=r"a stream does not: call \.eval"):
            Recurrent("lstm", 3, 4, **options).stream()


def test_a_state_is_held_or_kept_at_random() -> None:
    Recurrent("lstm", 3, 4, clamp={"c": 0}, zoneout={"h": 0.1})
    with pytest.raises(UsageError, match="clamp holds c, and zoneout keeps old values of it: give one of them"):
        Recurrent("lstm", 3, 4, clamp={"c": 0}, zoneout=0.1)
