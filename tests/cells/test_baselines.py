"""The baselines without a memory, or without an order, are that; and what they cannot learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.conformance.networks import layer_of
from unrolled.layers import Recurrent


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def jacobian_of(cell: str, step: int) -> Tensor:
    layer = layer_of(cell, backend="reference")
    x = torch.randn(5, 1, 3, dtype=torch.float64)
    found = torch.autograd.functional.jacobian(lambda x: layer(x)[0][step, 0], x)
    assert isinstance(found, Tensor)
    return found[:, :, 0]


def test_the_perceptron_sees_the_present_input_alone() -> None:
    found = jacobian_of("mlp", 3)
    assert [bool(found[:, step].any()) for step in range(5)] == [False, False, False, True, False]
    layer = layer_of("mlp", backend="reference")
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    whole, _ = layer(x)
    torch.testing.assert_close(whole, torch.tanh(functional.linear(x, layer.W.h, layer.b.h)))
    assert torch.equal(layer(x[3:])[0], layer(x[3:], layer(x[:3])[1])[0])


def test_the_bag_of_words_weighs_all_that_was_read_alike() -> None:
    found = jacobian_of("bag-of-words", 3)
    assert all(torch.allclose(found[:, step], found[:, 0]) for step in range(4))
    assert found[:, 0].any()
    assert not found[:, 4].any()


@pytest.mark.parametrize("whole_numbers", [False, True], ids=["vectors", "one-hot"])
def test_order_cannot_matter_to_a_bag_of_words(whole_numbers: bool) -> None:
    bag, reader = layer_of("bag-of-words", backend="reference"), layer_of("elman", backend="reference")
    x = torch.randint(3, (9, 2)) if whole_numbers else torch.randn(9, 2, 3, dtype=torch.float64)
    shuffled = x[torch.randperm(9)]
    torch.testing.assert_close(bag(x)[0][-1], bag(shuffled)[0][-1])
    torch.testing.assert_close(bag(x)[1], bag(shuffled)[1])
    assert not torch.allclose(reader(x)[0][-1], reader(shuffled)[0][-1])


def test_a_bag_of_words_is_a_hidden_layer_on_the_mean_of_its_vectors() -> None:
    layer = layer_of("bag-of-words", backend="reference")
    x, lengths = torch.randint(3, (9, 3)), torch.tensor([9, 0, 4])
    _, state = layer(x, lengths=lengths)
    for row, length in ((0, 9), (2, 4)):
        mean = layer.W.e.T[x[:length, row]].mean(0)
        torch.testing.assert_close(state.h[row], torch.tanh(layer.U.h @ mean + layer.b.h))
    assert state.n.flatten().tolist() == [9, 0, 4]
    assert not state.h[1].any()


def accuracy_on_xor(hidden: nn.Module | None) -> float:
    """The share of the four cases that a network has right after training, with a hidden layer or without."""
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    target = torch.tensor([0, 1, 1, 0])
    head = nn.Linear(2 if hidden is None else 8, 2)
    optimiser = torch.optim.Adam([*head.parameters(), *(hidden.parameters() if hidden else ())], 0.05)

    def scores() -> Tensor:
        return torch.as_tensor(head(x if hidden is None else hidden(x[None])[0][0]))

    for _ in range(150):
        optimiser.zero_grad()
        functional.cross_entropy(scores(), target).backward()
        optimiser.step()
    return float((scores().argmax(-1) == target).float().mean())


def test_the_perceptron_learns_xor_and_a_linear_map_does_not() -> None:
    assert accuracy_on_xor(Recurrent("mlp", 2, 8, backend="reference")) == 1
    assert accuracy_on_xor(None) <= 0.75
