"""What a torch module can do besides being called."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

import unrolled.nn as nn
from tests.nn.torch_pairs import CELLS, HIDDEN, INPUT, NETWORKS, as_list, inputs, pair, quiet

ALL = {**NETWORKS, **{f"{kind}-cell": value for kind, value in CELLS.items()}}


def make(kind: str) -> tuple[Any, torch.Tensor]:
    name, keywords = ALL[kind]
    return getattr(nn, name)(INPUT, HIDDEN, **keywords), torch.randn(2, INPUT)


def pickled(module: Any) -> Any:
    return pickle.loads(pickle.dumps(module))


def saved(module: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("again", [copy.deepcopy, pickled, saved], ids=["copied", "pickled", "saved"])
@pytest.mark.parametrize("kind", ALL)
def test_a_copy_computes_the_same_and_is_apart(kind: str, again: Any) -> None:
    made, x = make(kind)
    before = as_list(made(x))[0]
    other = again(made)
    assert torch.equal(as_list(other(x))[0], before)
    with torch.no_grad():
        for value in made.parameters():
            value.zero_()
    assert torch.equal(as_list(other(x))[0], before)
    assert repr(other) == repr(made)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_compiled_network_has_no_graph_break(kind: str, options: dict[str, Any]) -> None:
    quiet()
    torch._dynamo.reset()
    theirs, ours = pair(kind, **options)
    x = inputs("padded")
    y, state = torch.compile(ours, fullgraph=True, backend="aot_eager")(x)
    expected, expected_state = theirs(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(as_list(state), as_list(expected_state))
    y.square().sum().backward()
    expected.square().sum().backward()
    for value, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(value.grad, wanted.grad)


def test_a_model_that_packs_compiles_around_the_packing() -> None:
    torch._dynamo.reset()
    theirs, ours = pair("lstm")

    def model(network: Any, x: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(2 * x, [5, 3, 1])
        return torch.nn.utils.rnn.pad_packed_sequence(network(packed)[0])[0] + 1

    x = inputs("padded")
    torch.testing.assert_close(torch.compile(model, backend="aot_eager")(ours, x), model(theirs, x))


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_gradient_of_a_gradient_is_right(kind: str, form: str) -> None:
    _, ours = pair(kind, num_layers=2, bidirectional=True)
    ours.double()
    x = inputs("padded", torch.float64).requires_grad_()

    def run(value: torch.Tensor, recurrent: torch.Tensor) -> Any:
        given: Any = pack_padded_sequence(value, [5, 3, 1]) if form == "packed" else value
        y, state = torch.func.functional_call(ours, {"weight_hh_l0": recurrent}, (given,))
        return y[0], *as_list(state)

    recurrent = ours.weight_hh_l0.detach().clone().requires_grad_()
    assert torch.autograd.gradgradcheck(run, (x, recurrent), fast_mode=True)


def test_a_gradient_penalty_is_that_of_torch() -> None:
    theirs, ours = pair("gru")
    x = inputs("padded")
    for network in (theirs, ours):
        given = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(given)[0].sum(), given, create_graph=True)
        slope.square().sum().backward()
    for value, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        if wanted.grad is not None:
            torch.testing.assert_close(value.grad, wanted.grad)


@pytest.mark.parametrize("kind", ALL)
def test_a_module_moves_to_another_type_and_back(kind: str) -> None:
    made, x = make(kind)
    assert as_list(made.double()(x.double()))[0].dtype == torch.float64
    assert as_list(made.to(torch.float32)(x))[0].dtype == torch.float32


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_on_the_meta_device_is_filled_by_a_state_dict(kind: str) -> None:
    quiet()
    theirs, _ = pair(kind)
    name, keywords = NETWORKS[kind]
    made = getattr(nn, name)(INPUT, HIDDEN, device="meta", **keywords)
    made.load_state_dict(theirs.state_dict(), assign=True)
    x = inputs("padded")
    torch.testing.assert_close(made(x)[0], theirs(x)[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_inputs_of_any_strides_are_read(kind: str) -> None:
    quiet()
    theirs, ours = pair(kind)
    whole = torch.randn(INPUT, 10, 3)
    for x in (whole.permute(1, 2, 0), whole.permute(1, 2, 0)[::2], torch.randn(1, 1, INPUT).expand(5, 2, INPUT)):
        torch.testing.assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_states_go_on_from_window_to_window(kind: str) -> None:
    made = pair(kind, num_layers=2)[1]
    x = inputs("padded")
    whole, end = made(x)
    first, state = made(x[:2])
    second, state = made(x[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(as_list(state), as_list(end))


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_given_is_never_written_to(kind: str) -> None:
    made = pair(kind, num_layers=2, bidirectional=True)[1]
    packed = pack_padded_sequence(inputs("padded"), [2, 5, 1], enforce_sorted=False)
    kept = packed.data.clone()
    y, state = made(packed)
    state_before = [value.clone() for value in as_list(state)]
    made(packed, state)
    assert torch.equal(packed.data, kept)
    assert all(torch.equal(*both) for both in zip(as_list(state), state_before, strict=True))
    assert y.data.data_ptr() != packed.data.data_ptr()


@pytest.mark.parametrize("kind", NETWORKS)
def test_padding_never_reaches_a_packed_result(kind: str) -> None:
    made = pair(kind, bidirectional=True)[1]
    x = inputs("padded")
    expected, state = made(pack_padded_sequence(x, [5, 3, 1]))
    spoilt = x.clone()
    spoilt[3:, 1] = spoilt[1:, 2] = torch.nan
    y, same = made(pack_padded_sequence(spoilt, [5, 3, 1]))
    assert torch.equal(y.data, expected.data)
    assert all(torch.equal(*both) for both in zip(as_list(same), as_list(state), strict=True))


def test_in_inference_mode_nothing_is_kept_for_a_gradient() -> None:
    made = nn.LSTM(INPUT, HIDDEN)
    x = inputs("padded")
    with torch.inference_mode():
        y, _ = made(x)
    assert not y.requires_grad
    torch.testing.assert_close(y.clone(), made(x)[0].detach())
