"""Networks by name are what they are when composed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unrolled.errors import UsageError
from unrolled.layers import GridLSTM, Recurrent, Residual, Stacked, Tied, network

X = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))


def same(made: Stacked, composed: Stacked) -> bool:
    composed.load_state_dict(made.state_dict())
    return torch.equal(made(X)[0], composed(X)[0])


def test_layers_stand_upon_each_other_with_the_dropout_between() -> None:
    made = network("gru", 3, 5, 2, dropout=nn.Identity(), backend="reference")
    lower, upper = (Recurrent("gru", size, 5, backend="reference") for size in (3, 5))
    assert same(made, Stacked(lower, nn.Identity(), upper))
    assert all(layer.backend == "reference" for layer in made.layers if isinstance(layer, Recurrent))


def test_residual_layers_add_what_they_read_above_the_lowest() -> None:
    made = network("gru", 3, 5, 3, structure="residual")
    assert same(made, Stacked(Recurrent("gru", 3, 5), *(Residual(Recurrent("gru", 5, 5)) for _ in range(2))))


def test_tied_layers_share_their_weights_above_the_lowest() -> None:
    made = network("gru", 3, 5, 4, structure="tied")
    assert same(made, Stacked(Recurrent("gru", 3, 5), Tied(Recurrent("gru", 5, 5), 3)))
    assert sum(p.numel() for p in made.parameters()) == sum(
        p.numel() for p in network("gru", 3, 5, 2).parameters()
    )  # fmt: skip


def test_a_depth_gated_network_begins_with_its_first_form() -> None:
    made = network("depth-gated-lstm", 3, 5, 3)
    cells = [layer.cell.name for layer in made.layers if isinstance(layer, Recurrent)]
    assert cells == ["depth-gated-lstm-first", "depth-gated-lstm", "depth-gated-lstm"]
    assert made(X)[0].shape == (4, 2, 5)


@pytest.mark.parametrize(("cell", "structure"), [("gru", "deep"), ("gru", "tied"), ("grid-block", "deep")])
def test_the_batch_may_come_first(cell: str, structure: str) -> None:
    made = network(cell, 3, 5, 2, structure=structure, batch_first=True)
    y, _ = made(X.transpose(0, 1))
    assert y.shape == (2, 4, 5)
    plain = network(cell, 3, 5, 2, structure=structure)
    plain.load_state_dict(made.state_dict())
    assert torch.equal(y.transpose(0, 1), plain(X)[0])


@pytest.mark.parametrize("structure", ["deep", "tied"])
def test_layers_of_a_block_are_a_grid(structure: str) -> None:
    made = network("grid-block", 3, 5, 2, structure=structure)
    assert same(made, GridLSTM(3, 5, 2, tied=structure == "tied"))


def test_the_lowest_layer_may_begin_otherwise() -> None:
    made = network("elman", 3, 5, 2, lowest={"W": "zeros"})
    lowest, upper = made.layers
    assert not lowest.W.h.any()
    assert upper.W.h.any()


def test_the_projection_of_a_grid_may_begin_otherwise() -> None:
    side, block, _ = network("grid-block", 3, 5, 2, lowest={"W": "zeros"}).layers
    assert not side.W.m.any()
    assert not side.W.y.any()
    assert block.W.i.any()


def test_initial_values_for_all_layers_go_before_those_of_the_lowest() -> None:
    made = network("lstm", 3, 5, 2, lowest={"W": "zeros", "b.i": 2.0}, init={"b.f": 3.0, "b.i": 4.0})
    assert all((layer.b.f == 3).all() and (layer.b.i == 4).all() for layer in made.layers)
    assert not made.layers[0].W.f.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"structure": "residul"}, "Did you mean residual"),
        ({"structure": "residual"}, "a residual stack has 2 layers or more, not 1"),
        ({"structure": "tied"}, "a tied stack has 2 layers or more, not 1"),
        ({"structure": "residual", "cell": "grid-block", "layers": 2}, "make a grid, which is deep or tied"),
        ({"layers": 0}, "1 layer or more"),
        ({"layers": 2.0}, r"1 layer or more, not 2\.0"),
    ],
)
def test_what_cannot_be_built_is_said(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        network(**{"cell": "lstm", "input_size": 3, "hidden_size": 5, **options})  # type: ignore[arg-type]
