"""Whole numbers stand for one-hot vectors: the same results, and never a vector made.

On the CPU engine they are the same bits where the product with vectors is taken before the loop too; in the loop it is
a term of the sum with the state's, which ends in other last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.conformance.networks import CELLS, batch_for, layer_of
from unrolled.errors import ShapeError
from unrolled.layers import Bidirectional, Recurrent, Stacked

NOT_ONE_HOT = ["average", "mogrifier-lstm", "qrnn"]
ONE_HOT = [name for name in CELLS if name not in NOT_ONE_HOT]


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", ONE_HOT)
def test_whole_numbers_are_one_hot_vectors_bit_for_bit(name: str, ragged: bool, backend: str) -> None:
    layer = layer_of(name, 4, 6, backend=backend, dtype=torch.float32, reverse=ragged)
    given = batch_for(layer, 5, 3, ragged=ragged, resets=ragged, taps=True)
    index = torch.randint(0, 4, (5, 3))
    found = []
    for x in (index, torch.nn.functional.one_hot(index, 4).float()):
        parameters = list(layer.parameters())
        keywords: dict[str, Any] = {**given.inputs, "lengths": given.lengths, "resets": given.resets}
        y, state, taps = layer(x, given.whole_state(), taps=given.taps, **keywords)
        loss = y.sum() + sum((2 * tap).sum() for tap in taps.values()) + sum(v.sum() for v in state)
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        found.append(([y, *state, *taps.values()], grads))
    (results, of_index), (expected, of_vectors) = found
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    for (key, _), a, b in zip(layer.named_parameters(), of_index, of_vectors, strict=True):
        if b is not None:
            assert a is not None
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("hidden", [3, 16, 33, 128])
@pytest.mark.parametrize("vocabulary", [7, 65, 600])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8, 33])
def test_they_are_the_same_bits_unless_a_product_with_vectors_is_taken_in_the_loop(
    batch: int, vocabulary: int, hidden: int, backend: str, number_of_threads: Callable[[int], None]
) -> None:
    in_the_loop = backend == "llvm" and batch >= 4 and vocabulary <= 512
    index = torch.randint(0, vocabulary, (5, batch))
    for dtype in (torch.float32, torch.float64):
        layer = layer_of("lstm", vocabulary, hidden, dtype=dtype, backend=backend)
        for threads in (1, 2):
            number_of_threads(threads)
            y, state = layer(index)
            of_vectors, last = layer(torch.nn.functional.one_hot(index, vocabulary).to(dtype))
            if in_the_loop:
                torch.testing.assert_close(y, of_vectors)
            else:
                assert all(torch.equal(a, b) for a, b in zip((y, *state), (of_vectors, *last), strict=True))


@pytest.fixture
def number_of_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_gradient_of_numbers_that_are_all_different_is_that_of_vectors_bit_for_bit() -> None:
    layer = layer_of("lstm", 15, 6, dtype=torch.float32)
    index = torch.randperm(15).reshape(5, 3)
    found = []
    for x in (index, torch.nn.functional.one_hot(index, 15).float()):
        y, _ = layer(x)
        found.append(torch.autograd.grad(y.square().sum(), list(layer.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class Shapes(TorchDispatchMode):
    """Records how many numbers the largest new tensor holds."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


@pytest.fixture
def shapes() -> Iterator[Shapes]:
    with Shapes() as mode:
        yield mode


@pytest.mark.parametrize("name", ["lstm", "mut1", "mingru"])
def test_no_one_hot_vector_is_ever_made(name: str, backend: str, shapes: Shapes) -> None:
    vocabulary = 20_000
    layer = Recurrent(CELLS[name], vocabulary, 2, init={"W": "normal"}, backend=backend)
    weights = max(value.numel() for value in layer.parameters())
    shapes.largest = 0
    index = torch.randint(0, vocabulary, (20, 10))
    y, _ = layer(index, lengths=torch.tensor([20, 0, *[7] * 8]))
    y.sum().backward()
    assert shapes.largest <= weights
    assert weights < 20 * 10 * vocabulary


def test_a_vocabulary_of_200_000_runs() -> None:
    layer = Recurrent("lstm", 200_000, 2)
    y, _ = layer(torch.randint(0, 200_000, (50, 8)))
    y.sum().backward()
    assert y.shape == (50, 8, 2)


@pytest.mark.parametrize("name", NOT_ONE_HOT)
def test_a_cell_that_uses_its_input_itself_wants_vectors(name: str) -> None:
    layer = layer_of(name)
    with pytest.raises(ShapeError, match="uses x itself, not only maps of it: give vectors, not whole numbers"):
        layer(torch.zeros(4, 2, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
def test_whole_numbers_of_every_type_are_read(dtype: torch.dtype) -> None:
    layer = layer_of("gru", 4)
    index = torch.randint(0, 4, (5, 3))
    y, _ = layer(index.to(dtype))
    expected, _ = layer(index)
    assert torch.equal(y, expected)
    torch.autograd.grad(y.sum(), list(layer.parameters()))


@pytest.mark.parametrize(("low", "high"), [(-1, 2), (0, 4)])
def test_numbers_outside_of_the_input_size_are_refused(low: int, high: int) -> None:
    layer = layer_of("gru", 4)
    with pytest.raises(ShapeError, match=f"x holds numbers from {low} to {high}; input_size is 4"):
        layer(torch.tensor([[low, high]]))


@pytest.mark.parametrize("outside", [-1, -100, 4, 2**62])
def test_numbers_in_the_padding_may_be_anything(outside: int) -> None:
    layer = layer_of("gru", 4)
    lengths = torch.tensor([2, 0, 3])
    index = torch.randint(0, 4, (3, 3))
    padding = torch.arange(3)[:, None] >= lengths
    expected, _ = layer(index, lengths=lengths)
    y, _ = layer(torch.where(padding, outside, index), lengths=lengths)
    assert torch.equal(y, expected)
    y.sum().backward()
    nothing, _ = layer(torch.full((3, 3), outside), lengths=torch.zeros(3, dtype=torch.int64))
    assert not nothing.any()


@pytest.mark.parametrize("x", [torch.zeros(4, 2, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.complex64)], ids=str)
def test_truth_values_and_complex_numbers_are_no_input(x: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match=r"not torch."):
        layer_of("gru")(x)


def test_whole_numbers_go_through_compositions() -> None:
    layers = Stacked(
        Bidirectional(layer_of("gru", 4, 3), layer_of("lstm", 4, 2, reverse=True)), layer_of("elman", 5, 3)
    )
    index = torch.randint(0, 4, (5, 3))
    lengths = torch.tensor([5, 0, 2])
    y, _ = layers(index, lengths=lengths)
    expected, _ = layers(torch.nn.functional.one_hot(index, 4).double(), lengths=lengths)
    assert torch.equal(y, expected)
