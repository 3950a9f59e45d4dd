"""Frozen layers that take one step at a time give what the layer gives over the whole sequence."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("llvmlite")

import unrolled.nn
from tests.conformance.networks import NAMES, Batch, assert_close, batch_for, layer_of
from unrolled.backends.llvm import amx, narrow
from unrolled.backends.llvm.machine import host, unavailable
from unrolled.backends.llvm.stream import Stream, load_stream
from unrolled.errors import ShapeError, UsageError
from unrolled.layers import Bidirectional, Recurrent, Stacked, VariationalDropout

if unavailable():
    pytest.skip(unavailable(), allow_module_level=True)

pytestmark = pytest.mark.timeout(120, method="thread")

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


def steps_of(stream: Stream, given: Batch) -> torch.Tensor:
    found = []
    for step in range(len(given.x)):
        inputs = {name: value[step] for name, value in given.inputs.items()}
        found.append(stream.step(given.x[step], **inputs).clone())
    return torch.stack(found)


def assert_near(got: Any, expected: torch.Tensor) -> None:
    got, expected = torch.as_tensor(got), expected.detach()
    assert got.shape == expected.shape
    scale = float(expected.abs().max().clamp(min=1e-3))
    assert float((got - expected).abs().max()) <= TOLERANCE[expected.dtype] * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3], ids=["B1", "B3"])
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_what_the_layer_runs(name: str, batch: int, dtype: torch.dtype) -> None:
    layer = layer_of(name, dtype=dtype, backend="reference")
    given = batch_for(layer, time=6, batch=batch, clock=5)
    y, state = layer(given.x, given.whole_state(), **given.inputs)
    stream = layer.stream(batch)
    stream.state = given.whole_state()
    assert_near(steps_of(stream, given), y)
    assert list(stream.state) == list(state._fields)
    for field, value in zip(state._fields, state, strict=True):
        if field == "clock":
            assert stream.state[field] == int(value)
        else:
            assert_near(stream.state[field], value)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["lstm", "gru-cho", "layer-norm-lstm", "clockwork"])
def test_sizes_beyond_a_vector_and_threads(name: str, threads: int) -> None:
    layer = layer_of(name, 33, 48, backend="reference")
    given = batch_for(layer, time=9, batch=1, clock=0)
    y, _ = layer(given.x, given.whole_state(), **given.inputs)
    stream = layer.stream(threads=threads)
    stream.state = given.whole_state()
    assert_near(steps_of(stream, given), y)


def test_a_stack_is_streamed_whole() -> None:
    torch.manual_seed(1)
    stack = Stacked(
        Recurrent("lstm", 5, 8),
        torch.nn.Dropout(0.5),
        Recurrent("gru", 8, 6),
        VariationalDropout(),
        Recurrent("elman", 6, 7),
    ).eval()
    x = torch.randn(6, 2, 5)
    y, state = stack(x)
    stream = stack.stream(2)
    assert_near(torch.stack([stream.step(each).clone() for each in x]), y)
    for got, expected in zip(stream.state, state, strict=True):
        for name, value in got.items():
            assert_near(value, getattr(expected, name))
    further, _ = stack(x, state)
    stream.reset()
    stream.state = state
    assert_near(torch.stack([stream.step(each).clone() for each in x]), further)


def test_the_output_is_of_the_kind_and_shape_of_the_input_and_is_written_over() -> None:
    stream = Recurrent("gru", 3, 4).stream()
    x = torch.randn(3)
    first = stream.step(x)
    assert isinstance(first, torch.Tensor)
    assert first.shape == (4,)
    kept = first.clone()
    stream.reset()
    array = stream.step(x.numpy())
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    assert np.array_equal(array, kept.numpy())
    assert np.array_equal(stream.step(x.numpy()[None]), array[None])
    assert not torch.equal(first, kept)
    stream.step(x.double())[...] = 7.0
    assert not np.any(stream.state["h"] == 7.0)


def test_arrays_tensors_and_numbers_may_follow_one_another() -> None:
    layer = Recurrent("lstm", 5, 6, dtype=torch.float64)
    symbols = [3, 0, 4, 1, 1, 2, 0]
    x = torch.nn.functional.one_hot(torch.tensor(symbols), 5).double()
    y, _ = layer(x[:, None])
    forms = [
        lambda t: symbols[t],
        lambda t: x[t],
        lambda t: x[t].numpy(),
        lambda t: np.int64(symbols[t]),
        lambda t: torch.tensor(symbols[t]),
        lambda t: x[t].float(),
        lambda t: x.t().contiguous().t()[t],
    ]
    stream = layer.stream()
    for start in range(len(forms)):
        stream.reset()
        got = []
        for step in range(7):
            y_step = stream.step(forms[(start + step) % len(forms)](step))
            got.append(torch.as_tensor(y_step).clone())
        assert_near(torch.stack(got), y[:, 0])


def test_whole_numbers_of_a_batch() -> None:
    layer = Recurrent("gru", 5, 6)
    symbols = torch.tensor([[0, 4, 2], [1, 1, 3]])
    y, _ = layer(symbols)
    stream = layer.stream(3)
    assert_near(torch.stack([stream.step(each).clone() for each in symbols]), y)


def test_a_frozen_stream_does_not_see_new_weights_and_leaves_no_gradient() -> None:
    layer = Recurrent("lstm", 3, 4)
    stream, x = layer.stream(), torch.randn(1, 3, requires_grad=True)
    expected = layer(x[None])[0][0].detach()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    y = stream.step(x)
    assert_near(y, expected)
    assert not y.requires_grad


def test_rows_begin_anew_alone() -> None:
    layer = Recurrent("lstm", 3, 4, learn_initial=True)
    assert layer.initial is not None
    with torch.no_grad():
        layer.initial["c"].fill_(0.5)
    stream = layer.stream(2)
    assert np.all(stream.state["c"] == 0.5)
    stream.step(torch.randn(2, 3))
    before = stream.state["c"]
    stream.reset(1)
    assert np.all(stream.state["c"][1] == 0.5)
    assert np.array_equal(stream.state["c"][0], before[0])


def test_a_stream_goes_on_after_pickle_copy_and_file(tmp_path: Any) -> None:
    layer = layer_of("clockwork")
    x = torch.randn(8, 1, 3, dtype=torch.float64)
    y, _ = layer(x)
    stream = layer.stream()
    for step in range(3):
        stream.step(x[step])
    stream.save(tmp_path / "a.stream")
    for other in (pickle.loads(pickle.dumps(stream)), copy.deepcopy(stream), load_stream(tmp_path / "a.stream")):
        assert other.state["clock"] == 3
        assert_near(torch.stack([other.step(each).clone() for each in x[3:]]), y[3:])


@pytest.mark.parametrize("threads", [None, 2])
def test_a_copy_has_the_threads_of_the_stream(threads: int | None) -> None:
    stream = Recurrent("lstm", 5, 40).stream(threads=threads)
    x = torch.randn(5)
    expected = stream.step(x).clone()
    stream.reset()
    for other in (pickle.loads(pickle.dumps(stream)), copy.deepcopy(stream), copy.copy(stream)):
        assert other.threads == stream.threads == threads
        assert other._layers[0].threads == (threads or 1)
        assert torch.equal(other.step(x), expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 2, 5], ids=lambda batch: f"B{batch}")
@pytest.mark.parametrize("way", [narrow.WIDENED, narrow.MATRIX])
@pytest.mark.parametrize("name", ["lstm", "gru-cho", "clockwork", "layer-norm-lstm"])
def test_a_layer_in_bfloat16_is_streamed_in_it(
    name: str, way: str, batch: int, threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    if way == narrow.MATRIX and not amx.usable(host()):
        pytest.skip("the processor has no AMX, or the system does not grant it")
    monkeypatch.setattr(narrow, "way", lambda machine, batch: way)
    layer = layer_of(name, 33, 48, dtype=torch.float32, precision="bf16")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.4)
    exact = layer_of(name, 33, 48, backend="reference")
    exact.load_state_dict(layer.state_dict())
    given = batch_for(layer, time=4, batch=batch, clock=0)
    wide = given.with_flat([tensor.double() for tensor in given.flat])
    expected, _ = exact(wide.x, wide.whole_state(), **wide.inputs)
    stream = layer.stream(batch, threads=threads)
    stream.state = given.whole_state()
    stream.save(tmp_path / "a.stream")
    found = steps_of(stream, given)
    assert_close([found.double()], [expected], 2e-2)
    assert torch.equal(steps_of(load_stream(tmp_path / "a.stream"), given), found)
    layer.precision = ""
    plain = layer.stream(batch, threads=threads)
    plain.state = given.whole_state()
    in_float32 = steps_of(plain, given)
    assert_close([in_float32.double()], [expected], 1e-4)
    assert not torch.equal(in_float32, found)


def test_numbers_are_read_by_a_stream_in_bfloat16_and_float64_ignores_it() -> None:
    layer = Recurrent("lstm", 5, 40, precision="bf16")
    symbols = torch.tensor([[0, 4, 2], [1, 1, 3]])
    y, _ = layer(symbols)
    stream = layer.stream(3)
    got = torch.stack([stream.step(each).clone() for each in symbols])
    torch.testing.assert_close(got, y.detach(), rtol=0, atol=1e-2)
    layer.double()
    y, _ = layer(symbols)
    stream = layer.stream(3)
    assert_near(torch.stack([stream.step(each).clone() for each in symbols]), y)


def test_what_cannot_be_streamed_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="reads forward"):
        Recurrent("lstm", 3, 4, reverse=True).stream()
    both = Bidirectional(Recurrent("lstm", 3, 4), Recurrent("lstm", 3, 4, reverse=True))
    with pytest.raises(UsageError, match="one direction"):
        both.stream()
    with pytest.raises(UsageError, match="one direction"):
        Stacked(both).stream()
    with pytest.raises(UsageError, match="eval"):
        Recurrent("lstm", 3, 4, recurrent_dropout=0.5).stream()
    with pytest.raises(UsageError, match="eval"):
        Stacked(Recurrent("lstm", 3, 4), torch.nn.Dropout(0.5)).stream()
    with pytest.raises(UsageError, match="Linear"):
        Stacked(Recurrent("lstm", 3, 4), torch.nn.Linear(4, 4)).stream()
    with pytest.raises(UsageError, match="float16"):
        Recurrent("lstm", 3, 4, dtype=torch.float16).stream()
    for batch in (0, 1.5):
        with pytest.raises(UsageError, match="batch"):
            Recurrent("lstm", 3, 4).stream(batch)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused_in_words_and_changes_nothing() -> None:
    stream = layer_of("irregular").stream()
    before = stream.state["h"]
    x = np.zeros(3)
    for wrong, inputs in (
        (np.zeros(4), {"dt": 1.0}),
        (np.zeros((2, 3)), {"dt": 1.0}),
        (x, {}),
        (x, {"dt": np.zeros(2)}),
        (x, {"dt": 1.0, "bt": 1.0}),
        (5, {"dt": 1.0}),
        (-1, {"dt": 1.0}),
        (True, {"dt": 1.0}),
        ("x", {"dt": 1.0}),
    ):
        with pytest.raises(ShapeError):
            stream.step(wrong, **inputs)
    for state in ({"c": x}, {"h": x}, (before, before), {"h": np.zeros((2, 6))}):
        with pytest.raises(ShapeError):
            stream.state = state
    assert np.array_equal(stream.state["h"], before)
    with pytest.raises(ShapeError, match="itself"):
        layer_of("average").stream().step(1)


@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bias": False}, {"proj_size": 3}], ids=["one", "two", "projected"]
)
def test_torch_layers_are_streamed_too(options: dict[str, Any]) -> None:
    layer = unrolled.nn.LSTM(5, 6, **options)
    x = torch.randn(4, 2, 5)
    y, _ = layer(x)
    stream = layer.stream(2)
    assert_near(torch.stack([stream.step(each).clone() for each in x]), y)
    with pytest.raises(UsageError, match="bidirectional=False"):
        unrolled.nn.GRU(5, 6, bidirectional=True).stream()
    with pytest.raises(UsageError, match="eval"):
        unrolled.nn.RNN(5, 6, num_layers=2, dropout=0.5).stream()
