"""A sequence, or each of its steps, gets scores from whatever layer reads it, with symbols or vectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from unrolled.errors import ShapeError, UsageError
from unrolled.layers import Bidirectional, Embedded, Recurrent, SequenceLayer, WindowMLP, sliced
from unrolled.layers.pooling import POOLINGS
from unrolled.models.many_to_many import ManyToMany
from unrolled.models.many_to_one import ManyToOne

LENGTHS = torch.tensor([6, 0, 2])


def layer_of(cell: str, **options: bool) -> Recurrent:
    return Recurrent(cell, 4, 5, backend="reference", **options)


LAYERS: dict[str, Callable[[], SequenceLayer]] = {
    "lstm": lambda: layer_of("lstm"),
    "both": lambda: Bidirectional(layer_of("gru"), layer_of("gru", reverse=True)),
    "bag-of-words": lambda: layer_of("bag-of-words"),
    "mlp": lambda: layer_of("mlp"),
    "window-mlp": lambda: WindowMLP(4, 5, 3),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("symbols", [0, 9], ids=["vectors", "symbols"])
def test_the_scores_of_a_row_are_those_of_the_row_alone(name: str, pooling: str, symbols: int) -> None:
    model = ManyToOne(LAYERS[name](), 3, pooling=pooling, symbols=symbols).double()
    x = torch.randint(symbols, (6, 3)) if symbols else torch.randn(6, 3, 4, dtype=torch.float64)
    poisoned = x.clone()
    poisoned[2:, 2], poisoned[:, 1] = (-100, -100) if symbols else (float("nan"), float("nan"))
    scores = model(poisoned, LENGTHS)
    assert scores.shape == (3, 3)
    torch.testing.assert_close(scores[:1], model(x[:, :1]))
    torch.testing.assert_close(scores[2:], model(x[:2, 2:]))
    torch.testing.assert_close(scores[1], model.head.bias)
    torch.testing.assert_close(model(poisoned, LENGTHS.tolist()), scores)
    scores.square().sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in model.parameters())


def test_each_step_gets_scores_and_the_state_goes_on() -> None:
    model = ManyToMany(layer_of("gru"), 3, symbols=9)
    x = torch.randint(9, (6, 3))
    scores, _ = model(x, lengths=LENGTHS)
    assert scores.shape == (6, 3, 3)
    whole, last = model(x)
    torch.testing.assert_close(scores[:2, 2], whole[:2, 2])
    begun, state = model(x[:4])
    rest, state = model(x[4:], state)
    torch.testing.assert_close(torch.cat([begun, rest]), whole)
    torch.testing.assert_close(state.h, last.h)
    anew, _ = model(x, resets=torch.arange(6)[:, None].expand(6, 3) == 4)
    torch.testing.assert_close(anew[4:], model(x[4:])[0])


@pytest.mark.parametrize("symbols", [0, 9], ids=["vectors", "symbols"])
@pytest.mark.parametrize("cell", ["gru", "bag-of-words"])
def test_what_is_built_around_a_layer_is_of_its_type_and_device(cell: str, symbols: int) -> None:
    made = (
        ManyToOne(Recurrent(cell, 4, 4, device="meta", dtype=torch.float64), 3, pooling="attention", symbols=symbols),
        ManyToMany(Recurrent(cell, 4, 4, device="meta", dtype=torch.float64), 3, symbols=symbols),
    )
    for model in made:
        assert {(value.dtype, value.device.type) for value in model.parameters()} == {(torch.float64, "meta")}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32], ids=str)
def test_symbols_are_whole_numbers_of_any_type(dtype: torch.dtype) -> None:
    model, x = ManyToOne(layer_of("gru"), 3, symbols=9), torch.randint(9, (6, 3))
    assert torch.equal(model(x.to(dtype), LENGTHS), model(x, LENGTHS))


def test_dropout_is_of_the_vectors_and_of_the_output_in_training_only() -> None:
    model = ManyToOne(layer_of("gru"), 3, symbols=9, dropout=0.5)
    x = torch.randint(9, (6, 3))
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    assert isinstance(model.layer, Embedded)
    assert model.layer.dropout.p == model.dropout.p == 0.5


def trained(model: ManyToOne, x: Tensor, target: Tensor) -> float:
    """The share of the rows that a model has right after a short training on them."""
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(60):
        optimiser.zero_grad()
        functional.cross_entropy(model(x), target).backward()
        optimiser.step()
    return float((model(x).argmax(-1) == target).float().mean())


def test_a_bag_of_words_cannot_tell_what_came_first_and_a_recurrent_layer_can() -> None:
    first = torch.randint(2, (64,))
    x = torch.stack([first, 1 - first])
    assert trained(ManyToOne(layer_of("bag-of-words"), 2, symbols=2), x, first) < 0.75
    assert trained(ManyToOne(layer_of("elman"), 2, symbols=2), x, first) == 1


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="there is no pooling 'mode'"):
        ManyToOne(layer_of("gru"), 3, pooling="mode")
    for model_of in (ManyToOne, ManyToMany):
        with pytest.raises(UsageError, match="layers inside another one are time-major"):
            model_of(Recurrent("gru", 4, 5, batch_first=True), 3)
        with pytest.raises(UsageError, match="Sliced is no layer over sequences"):
            model_of(sliced(lambda level, size: Recurrent("gru", size, 5), 4, parts=2, times=1), 3)
    model = ManyToOne(layer_of("gru"), 3, symbols=9)
    with pytest.raises(ShapeError, match="x holds numbers from 9 to 9; input_size is 9"):
        model(torch.full((6, 3), 9))
    with pytest.raises(ShapeError, match=r"x is torch\.float32; expected whole numbers, those of symbols"):
        model(torch.randn(6, 3, 4))
    with pytest.raises(ShapeError, match="x is a numpy array"):
        model(torch.zeros(6, 3).numpy())
    with pytest.raises(ShapeError, match="x is of type PackedSequence; expected a tensor"):
        ManyToMany(layer_of("gru"), 3)(pack_padded_sequence(torch.randn(6, 3, 4), [6, 3, 2]))
