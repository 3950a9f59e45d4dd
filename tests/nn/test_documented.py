"""What torch's documentation says of RNN, LSTM and GRU, statement by statement."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import unrolled.nn as nn
from tests.nn.torch_pairs import HIDDEN, INPUT, NETWORKS, PROJECTION, as_list, as_state, initial, inputs

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def network(kind: str, input_size: int = INPUT, **options: Any) -> Any:
    name, keywords = NETWORKS[kind]
    return getattr(nn, name)(input_size, HIDDEN, **keywords, **options)


def width(kind: str) -> int:
    return PROJECTION if kind == "lstm-projected" else HIDDEN


def test_the_examples_of_the_documentation_run() -> None:
    rnn: Any = nn.RNN(10, 20, 2)
    output, hn = rnn(torch.randn(5, 3, 10), torch.randn(2, 3, 20))
    assert output.shape == (5, 3, 20)
    assert hn.shape == (2, 3, 20)
    rnn = nn.LSTM(10, 20, 2)
    output, (hn, cn) = rnn(torch.randn(5, 3, 10), (torch.randn(2, 3, 20), torch.randn(2, 3, 20)))
    assert output.shape == (5, 3, 20)
    assert hn.shape == cn.shape == (2, 3, 20)
    rnn = nn.GRU(10, 20, 2)
    output, hn = rnn(torch.randn(5, 3, 10), torch.randn(2, 3, 20))
    assert output.shape == (5, 3, 20)
    assert hn.shape == (2, 3, 20)
    for rnn in (nn.RNNCell(10, 20), nn.GRUCell(10, 20)):
        given, hx = torch.randn(6, 3, 10), torch.randn(3, 20)
        for i in range(6):
            hx = rnn(given[i], hx)
        assert hx.shape == (3, 20)
    rnn = nn.LSTMCell(10, 20)
    given, hx, cx = torch.randn(2, 3, 10), torch.randn(3, 20), torch.randn(3, 20)
    for i in range(given.size()[0]):
        hx, cx = rnn(given[i], (hx, cx))
    assert hx.shape == cx.shape == (3, 20)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_documented_loop_of_an_rnn_computes_what_the_rnn_computes(batch_first: bool) -> None:
    rnn: Any = nn.RNN(INPUT, HIDDEN, 2, batch_first=batch_first)
    params = dict(rnn.named_parameters())
    x = inputs("batch_first" if batch_first else "padded")
    given = initial(rnn, "padded")[0]

    def forward(x: Any, hx: Any = None, batch_first: bool = False) -> Any:
        if batch_first:
            x = x.transpose(0, 1)
        seq_len, batch_size, _ = x.size()
        if hx is None:
            hx = torch.zeros(rnn.num_layers, batch_size, rnn.hidden_size)
        h_t_minus_1 = hx.clone()
        h_t = hx.clone()
        output = []
        for t in range(seq_len):
            for layer in range(rnn.num_layers):
                input_t = x[t] if layer == 0 else h_t[layer - 1]
                h_t[layer] = torch.tanh(
                    input_t @ params[f"weight_ih_l{layer}"].T
                    + h_t_minus_1[layer] @ params[f"weight_hh_l{layer}"].T
                    + params[f"bias_hh_l{layer}"]
                    + params[f"bias_ih_l{layer}"]
                )
            output.append(h_t[-1].clone())
            h_t_minus_1 = h_t.clone()
        output = torch.stack(output)
        if batch_first:
            output = output.transpose(0, 1)
        return output, h_t

    with torch.no_grad():
        for state in (None, given):
            for value, expected in zip(rnn(x, state), forward(x, state, batch_first), strict=True):
                torch.testing.assert_close(value, expected)


def test_the_reset_gate_of_the_gru_acts_after_the_recurrent_product() -> None:
    gru: Any = nn.GRU(INPUT, HIDDEN)
    x, h = inputs("padded")[:1], initial(gru, "padded")[0]
    with torch.no_grad():
        w, u = gru.weight_ih_l0.chunk(3), gru.weight_hh_l0.chunk(3)
        b, c = gru.bias_ih_l0.chunk(3), gru.bias_hh_l0.chunk(3)
        r = torch.sigmoid(x @ w[0].T + b[0] + h @ u[0].T + c[0])
        z = torch.sigmoid(x @ w[1].T + b[1] + h @ u[1].T + c[1])
        n = torch.tanh(x @ w[2].T + b[2] + r * (h @ u[2].T + c[2]))
        torch.testing.assert_close(gru(x, h)[0], (1 - z) * n + z * h)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both-ways"])
@pytest.mark.parametrize("form", ["padded", "batch_first", "unbatched"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_outputs_and_states_have_the_documented_shapes(kind: str, form: str, bidirectional: bool) -> None:
    made = network(kind, num_layers=2, bidirectional=bidirectional, batch_first=form == "batch_first")
    x = inputs(form)
    y, state = made(x)
    directions = 2 if bidirectional else 1
    batch = () if form == "unbatched" else (3,)
    assert y.shape == (*x.shape[:-1], directions * width(kind))
    h, *c = as_list(state)
    assert h.shape == (directions * 2, *batch, width(kind))
    assert all(value.shape == (directions * 2, *batch, HIDDEN) for value in c)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both-ways"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_have_the_documented_names_and_shapes(kind: str, bidirectional: bool, bias: bool) -> None:
    made = network(kind, num_layers=2, bidirectional=bidirectional, bias=bias)
    rows = GATES[NETWORKS[kind][0]] * HIDDEN
    expected: dict[str, tuple[int, ...]] = {}
    for layer in range(2):
        below = INPUT if layer == 0 else width(kind) * (2 if bidirectional else 1)
        for suffix in ("", "_reverse") if bidirectional else ("",):
            expected[f"weight_ih_l{layer}{suffix}"] = (rows, below)
            expected[f"weight_hh_l{layer}{suffix}"] = (rows, width(kind))
            if bias:
                expected[f"bias_ih_l{layer}{suffix}"] = expected[f"bias_hh_l{layer}{suffix}"] = (rows,)
            if kind == "lstm-projected":
                expected[f"weight_hr_l{layer}{suffix}"] = (PROJECTION, HIDDEN)
    assert {name: tuple(value.shape) for name, value in made.state_dict().items()} == expected


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_begin_uniform_within_one_over_the_root_of_the_hidden_size(kind: str) -> None:
    for value in network(kind, num_layers=2).parameters():
        assert value.abs().max() <= 1 / math.sqrt(HIDDEN)
        assert value.std() > 0.1 / math.sqrt(HIDDEN)


@pytest.mark.parametrize("kind", NETWORKS)
def test_states_default_to_zeros(kind: str) -> None:
    made = network(kind)
    x = inputs("padded")
    zeros = [torch.zeros_like(value) for value in initial(made, "padded")]
    assert torch.equal(made(x)[0], made(x, as_state(zeros))[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_second_layer_reads_the_outputs_of_the_first(kind: str) -> None:
    whole = network(kind, num_layers=2)
    layers = network(kind), network(kind, width(kind))
    for index, layer in enumerate(layers):
        for name, value in layer.named_parameters():
            value.data = getattr(whole, name.replace("_l0", f"_l{index}")).data
    x = inputs("padded")
    below, first = layers[0](x)
    above, second = layers[1](below)
    y, state = whole(x)
    assert torch.equal(y, above)
    for value, *each in zip(as_list(state), as_list(first), as_list(second), strict=True):
        assert torch.equal(value, torch.cat(each))


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_final_states_of_both_directions_stand_at_the_two_ends_of_the_output(kind: str) -> None:
    made = network(kind, bidirectional=True)
    y, state = made(inputs("padded"))
    h = as_list(state)[0]
    apart = y.view(y.shape[0], y.shape[1], 2, width(kind))
    assert torch.equal(h[0], apart[-1, :, 0])
    assert torch.equal(h[1], apart[0, :, 1])
    assert not torch.equal(h[1], apart[-1, :, 1])


@pytest.mark.parametrize("kind", NETWORKS)
def test_batch_first_turns_inputs_and_outputs_but_no_states(kind: str) -> None:
    made, turned = network(kind, num_layers=2), network(kind, num_layers=2, batch_first=True)
    turned.load_state_dict(made.state_dict())
    x = inputs("padded")
    given = as_state(initial(made, "padded"))
    (y, state), (y_turned, state_turned) = made(x, given), turned(x.transpose(0, 1), given)
    assert torch.equal(y, y_turned.transpose(0, 1))
    for value, other in zip(as_list(state), as_list(state_turned), strict=True):
        assert torch.equal(value, other)


@pytest.mark.parametrize("kind", NETWORKS)
def test_batch_first_is_ignored_for_a_single_sequence(kind: str) -> None:
    made, turned = network(kind), network(kind, batch_first=True)
    turned.load_state_dict(made.state_dict())
    x = inputs("unbatched")
    given = as_state(initial(made, "unbatched"))
    assert torch.equal(made(x, given)[0], turned(x, given)[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_dropout_acts_in_training_on_every_layer_but_the_last(kind: str) -> None:
    made = network(kind, num_layers=2, dropout=1.0)
    x, other = inputs("padded"), inputs("padded")
    dropped = made(x)[0]
    assert torch.equal(dropped, made(other)[0])
    assert dropped.abs().max() > 0 or kind == "rnn-relu"
    made.eval()
    assert not torch.equal(made(x)[0], made(other)[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_dropout_with_one_layer_warns_and_does_nothing(kind: str) -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer"):
        made = network(kind, dropout=0.5)
    x = inputs("padded")
    assert torch.equal(made(x)[0], made(x)[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_bias_there_are_no_biases(kind: str) -> None:
    made = network(kind, bias=False)
    assert not any("bias" in name for name, _ in made.named_parameters())
    assert made(torch.zeros(4, 2, INPUT))[0].abs().max() == 0


def test_the_projected_output_is_a_map_of_the_gated_memory() -> None:
    made: Any = nn.LSTM(INPUT, HIDDEN, proj_size=PROJECTION)
    y, (h, c) = made(inputs("padded"))
    assert torch.equal(y[-1], h[0])
    with torch.no_grad():
        made.weight_hr_l0.zero_()
    y, (h, c) = made(inputs("padded"))
    assert y.abs().max() == h.abs().max() == 0
    assert c.abs().max() > 0
