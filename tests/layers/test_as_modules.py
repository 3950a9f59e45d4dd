"""Layers among the tools that people use around torch modules."""

import io

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from unrolled.errors import CellError, ShapeError, UsageError
from unrolled.language import parse
from unrolled.layers import Bidirectional, Recurrent, Stacked

SLOPE_AT_ZERO = """
@cell
def distance(x, h):
    d = W.a @ x - h
    n = sqrt(d * d)
    h = W.a @ x + 0 * n
    return h
"""
SHIFTED = """
@cell
def shifted(x, h, before: State["input"]):
    d = W.a @ (x - before)
    h = tanh(U.h @ h) + sqrt(d * d)
    return h, x
"""


def layer_of(cell="gru", **options):
    torch.manual_seed(0)
    return Recurrent(cell, 3, 4, dtype=torch.float64, **options)


def test_activation_checkpointing_gives_the_same_gradients():
    layer, x = layer_of(), torch.randn(5, 2, 3, dtype=torch.float64)
    plain = torch.autograd.grad(layer(x)[0].sum(), list(layer.parameters()))
    again = checkpoint(lambda x: layer(x)[0], x, use_reentrant=False)
    for got, wanted in zip(torch.autograd.grad(again.sum(), list(layer.parameters())), plain, strict=True):
        torch.testing.assert_close(got, wanted)


def test_saved_tensors_are_unpacked_once():
    layer, x = layer_of(), torch.randn(5, 2, 3, dtype=torch.float64)
    packed, unpacked = [], []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (packed.append(1), tensor)[1], lambda tensor: (unpacked.append(1), tensor)[1]
    )
    with hooks:
        layer(x)[0].sum().backward()
    assert len(unpacked) == len(packed)


@pytest.mark.parametrize("text", [SLOPE_AT_ZERO, SHIFTED], ids=["state", "delay"])
@pytest.mark.parametrize("backend", ["", "reference"])
def test_padding_does_not_bring_infinite_slopes_that_no_valid_step_has(text, backend):
    layer = layer_of(parse(text), backend=backend)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    y, _ = layer(x, lengths=torch.tensor([4, 2]))
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (alone,) = torch.autograd.grad(layer(x[:2, 1:])[0].square().sum(), x)
    torch.testing.assert_close(first[:2, 1], alone[:2, 1])
    assert first.isfinite().all()
    assert torch.autograd.grad(first.square().sum(), x)[0].isfinite().all()


def test_hooks_of_inner_layers_fire():
    inner = layer_of()
    seen = []
    inner.register_forward_hook(lambda module, given, result: seen.append(result[0].shape))
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    Stacked(inner)(x)
    Bidirectional(inner, layer_of(reverse=True))(x)
    assert seen == [(5, 2, 4)] * 2


def test_batch_first_belongs_to_the_outermost_layer():
    with pytest.raises(UsageError, match="outermost"):
        Stacked(layer_of(batch_first=True))
    with pytest.raises(UsageError, match="outermost"):
        Bidirectional(layer_of(), layer_of(reverse=True, batch_first=True))


def test_lengths_may_be_a_list():
    layer, x = layer_of(), torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x, lengths=[5, 2])[0], layer(x, lengths=torch.tensor([5, 2]))[0])


def test_a_saved_state_opens_where_only_weights_may():
    _, state = layer_of("lstm")(torch.randn(5, 2, 3, dtype=torch.float64))
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    opened = torch.load(file, weights_only=True)
    assert opened._fields == ("h", "c")
    torch.testing.assert_close(opened.c, state.c)


def test_a_layer_on_meta_gives_shapes():
    layer = Recurrent("lstm", 3, 4, device="meta")
    y, state = layer(torch.empty(5, 2, 3, device="meta"))
    assert y.shape == (5, 2, 4)
    assert state.c.device.type == "meta"


def test_a_state_that_is_a_view_compiles():
    layer = layer_of()
    x, h = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, (h.t(),))[0], layer(x, (h.t(),))[0])


def test_gradients_that_nobody_wants_are_not_computed():
    layer, x = layer_of(), torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(layer(x)[0].square().sum(), x)[0]
    layer.requires_grad_(False)
    products = 0

    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal products
            result = function(*args, **(kwargs or {}))
            if function == torch.ops.aten.mm.default and result.shape[0] >= 12:
                products += 1
            return result

    y = layer(x)[0].square().sum()
    with Counting():
        (got,) = torch.autograd.grad(y, x)
    torch.testing.assert_close(got, wanted)
    assert products == 0


def test_one_hot_input_reads_a_structured_map():
    cell = parse(
        "@cell(structure={'W.h': low_rank(2)})\ndef thin(x, h):\n    h = tanh(W.h @ x + U.h @ h)\n    return h"
    )
    layer, index = layer_of(cell), torch.randint(3, (5, 2))
    dense = torch.nn.functional.one_hot(index, 3).double()
    torch.testing.assert_close(layer(index)[0], layer(dense)[0])
    by_index = torch.autograd.grad(layer(index)[0].sum(), list(layer.parameters()))
    by_vector = torch.autograd.grad(layer(dense)[0].sum(), list(layer.parameters()))
    for got, expected in zip(by_index, by_vector, strict=True):
        torch.testing.assert_close(got, expected)


def test_the_backend_of_a_forward_runs_its_backward_too(monkeypatch):
    layer, x = layer_of(), torch.randn(5, 2, 3, dtype=torch.float64)
    loss = layer(x)[0].sum()
    monkeypatch.setenv("UNROLLED_BACKEND", "nowhere")
    loss.backward()
    with pytest.raises(UsageError, match="nowhere"):
        layer(x)


def test_two_arguments_of_one_name_are_refused():
    with pytest.raises(CellError, match="two arguments are called h"):
        parse("@cell\ndef twice(x, h, h):\n    return h, h")


def test_taps_are_names_not_letters():
    with pytest.raises(ShapeError, match=r"taps=\('g',\)"):
        layer_of()(torch.randn(5, 2, 3, dtype=torch.float64), taps="g")
