"""Keras on its torch backend, and what `from_keras` makes of its layers.

Two conventions differ: Keras returns what was read backwards in the order of reading, and repeats in the padding the
output of the last valid step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance.networks import assert_close
from tests.oracles.symbols import symbols
from unrolled import sequence
from unrolled.errors import UsageError
from unrolled.layers import Bidirectional, Recurrent, from_keras
from unrolled.layers.state import tensors_of

TIME, BATCH, INPUT, UNITS = 6, 4, 3, 5
LENGTHS = [4, 6, 0, 3]
# Of float32, relative to the largest value.
TOLERANCE = 2e-6

# A Keras class with options -> the cell that has its equations.
LAYERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "lstm": ("LSTM", {}, "lstm"),
    "gru-reset-after": ("GRU", {"reset_after": True}, "gru"),
    "gru-reset-before": ("GRU", {"reset_after": False}, "gru-cho"),
    "simple-tanh": ("SimpleRNN", {}, "elman"),
    "simple-relu": ("SimpleRNN", {"activation": "relu"}, "elman-relu"),
}
# Keras' gates in the order of its columns, as the cells here name them.
GATES = {"LSTM": "ifgo", "GRU": "zrg", "SimpleRNN": "h"}
# Keras' own, on its way from a tensor to numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
KINDS = pytest.mark.parametrize("kind", LAYERS)


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patched:
        # Keras writes its settings into a folder of its own.
        patched.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        patched.setenv("KERAS_BACKEND", "torch")
        yield pytest.importorskip("keras", reason="Keras is not installed: the extra dev brings it")


def layer_of(keras: Any, kind: str, *, bidirectional: bool = False, **options: Any) -> Any:
    """A Keras layer with random weights, biases too, that returns every step and its state."""
    name, more, _ = LAYERS[kind]
    layer = getattr(keras.layers, name)(UNITS, return_sequences=True, return_state=True, **more, **options)
    if bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build((BATCH, TIME, INPUT))
    layer.set_weights([0.5 * torch.randn(value.shape).numpy() for value in layer.get_weights()])
    return layer


def batch() -> Tensor:
    return torch.randn(BATCH, TIME, INPUT)


def states_for(layer: Recurrent | Bidirectional) -> list[Tensor]:
    return [torch.randn_like(value) for value in tensors_of(layer.initial_state(BATCH))]


def flat(results: tuple[Any, ...]) -> list[Tensor]:
    """The output and the tensors of the state, as Keras lists them."""
    return [results[0], *tensors_of(results[1])]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@KINDS
def test_outputs_and_states_are_those_of_keras(keras: Any, kind: str, bias: bool) -> None:
    theirs = layer_of(keras, kind, use_bias=bias)
    ours = from_keras(theirs)
    assert isinstance(ours, Recurrent)
    assert ours.cell.name == LAYERS[kind][2]
    x, states = batch(), states_for(ours)
    assert_close(flat(ours(x)), theirs(x), TOLERANCE)
    assert_close(flat(ours(x, states)), theirs(x, initial_state=states), TOLERANCE)


# Keras' loop for the others rounds every product to float32.
@pytest.mark.parametrize("kind", ["lstm", "gru-reset-after"])
def test_weights_in_float64_stay_so(keras: Any, kind: str) -> None:
    theirs = layer_of(keras, kind, dtype="float64")
    ours = from_keras(theirs)
    x = batch().double()
    assert_close(flat(ours(x)), theirs(x), 1e-13)


@KINDS
def test_gradients_are_those_of_keras(keras: Any, kind: str) -> None:
    theirs = layer_of(keras, kind)
    ours = from_keras(theirs)
    x, states = batch(), states_for(ours)
    found: list[list[Tensor]] = []
    for layer in (ours, theirs):
        given = [value.clone().requires_grad_() for value in (x, *states)]
        results = flat(ours(given[0], given[1:])) if layer is ours else theirs(given[0], initial_state=given[1:])
        sum((value * torch.linspace(-1, 1.3, value.numel()).view(value.shape)).sum() for value in results).backward()
        found.append([value.grad for value in given])
    assert_close(*found, TOLERANCE)
    expected = in_keras_order(symbols(ours, gradients=True), LAYERS[kind][0], "b.u" in symbols(ours))
    assert_close(expected, [value.value.grad for value in theirs.weights], TOLERANCE)


def in_keras_order(own: dict[str, Tensor], name: str, two_biases: bool) -> list[Tensor]:
    """Kernel, recurrent kernel and bias. The GRU that resets after the product has two biases of z and of r, which are
    only added: each has the gradient of the one here."""
    gates = GATES[name]
    biases = torch.cat([own[f"b.{gate}"] for gate in gates])
    if two_biases:
        biases = torch.stack([biases, torch.cat([own[f"b.{gate}"] for gate in "zru"])])
    return [*(torch.cat([own[f"{family}.{gate}"] for gate in gates]).T for family in "WU"), biases]


@KINDS
def test_reading_backwards_ends_at_the_first_step(keras: Any, kind: str) -> None:
    theirs = layer_of(keras, kind, go_backwards=True)
    ours = from_keras(theirs)
    x = batch()
    y, *states = theirs(x)
    assert_close(flat(ours(x)), [y.flip(1), *states], TOLERANCE)


@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backward"])
@KINDS
def test_a_mask_at_the_end_of_each_row_is_its_length(keras: Any, kind: str, backwards: bool) -> None:
    theirs = layer_of(keras, kind, go_backwards=backwards)
    ours = from_keras(theirs)
    x, valid = batch(), sequence.mask(torch.tensor(LENGTHS), TIME).T
    states = states_for(ours)
    y, *expected = theirs(x, mask=valid, initial_state=states)
    y = y.flip(1) if backwards else y
    assert_close(flat(ours(x, states, lengths=LENGTHS)), [torch.where(valid[..., None], y, 0), *expected], TOLERANCE)


@pytest.mark.parametrize("masked", [False, True], ids=["full", "ragged"])
@KINDS
def test_both_directions_stand_side_by_side(keras: Any, kind: str, masked: bool) -> None:
    theirs = layer_of(keras, kind, bidirectional=True)
    ours = from_keras(theirs)
    x, states = batch(), states_for(ours)
    half = len(states) // 2
    valid = sequence.mask(torch.tensor(LENGTHS), TIME).T if masked else None
    results = ours(x, (states[:half], states[half:]), lengths=LENGTHS if masked else None)
    assert_close(flat(results), theirs(x, mask=valid, initial_state=states), TOLERANCE)


@KINDS
def test_a_stateful_layer_is_one_whose_state_is_handed_on(keras: Any, kind: str) -> None:
    theirs = layer_of(keras, kind, stateful=True, dropout=0.3, recurrent_dropout=0.2)
    ours = from_keras(theirs)
    state = None
    for _ in range(3):
        x = batch()
        y, state = ours(x, state)
        assert_close([y, *state], theirs(x), TOLERANCE)


def test_the_weights_are_a_copy_and_can_be_trained(keras: Any) -> None:
    theirs = layer_of(keras, "lstm")
    ours = from_keras(theirs)
    before = [value.copy() for value in theirs.get_weights()]
    with torch.no_grad():
        for parameter in ours.parameters():
            assert parameter.requires_grad
            parameter.zero_()
    assert all((value == kept).all() for value, kept in zip(theirs.get_weights(), before, strict=True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "LSTM",
            {"activation": "relu"},
            r"LSTM with activation='relu', recurrent_activation='sigmoid' is no cell here",
        ),
        ("GRU", {"recurrent_activation": "hard_sigmoid"}, r"only one with .* reset_after=True or .* reset_after=False"),
        ("SimpleRNN", {"activation": None}, r"activation='linear' is no cell here, only one with activation='tanh' or"),
        ("Dense", {}, r"takes a Keras LSTM, GRU, SimpleRNN, or Bidirectional of these, not keras\..*Dense"),
    ],
)
def test_another_layer_or_activation_is_refused(keras: Any, name: str, options: dict[str, Any], message: str) -> None:
    layer = getattr(keras.layers, name)(UNITS, **options)
    layer.build((BATCH, TIME, INPUT))
    with pytest.raises(UsageError, match=message):
        from_keras(layer)


def test_a_class_derived_from_one_of_keras_is_refused(keras: Any) -> None:
    layer = type("LSTM", (keras.layers.LSTM,), {"__module__": "elsewhere"})(UNITS)
    with pytest.raises(UsageError, match=r"not elsewhere\.LSTM"):
        from_keras(layer)


def test_a_layer_of_torch_is_refused() -> None:
    with pytest.raises(UsageError, match=r"not torch\.nn\.modules\.rnn\.LSTM"):
        from_keras(torch.nn.LSTM(INPUT, UNITS))


def test_another_merge_of_the_directions_is_refused(keras: Any) -> None:
    layer = keras.layers.Bidirectional(keras.layers.GRU(UNITS), merge_mode="sum")
    with pytest.raises(UsageError, match=r"merge_mode='concat', not 'sum': take the forward_layer and"):
        from_keras(layer)


def test_a_layer_without_weights_is_refused(keras: Any) -> None:
    with pytest.raises(UsageError, match=r"'mine' has no weights yet: build it"):
        from_keras(keras.layers.LSTM(UNITS, name="mine"))
