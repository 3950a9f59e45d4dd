from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

from tests.nn.torch_pairs import NETWORKS, apply, assert_same, initial, inputs, pair, quiet, results

FORMS = ("padded", "batch_first", "unbatched", "packed", "unsorted")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both-ways"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", NETWORKS)
def test_outputs_states_and_gradients_are_those_of_torch(
    kind: str, layers: int, bidirectional: bool, bias: bool, form: str
) -> None:
    quiet()
    torch.manual_seed(0)
    options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": form == "batch_first"}
    theirs, ours = pair(kind, **options)
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 4e-6)):
        theirs.to(dtype)
        ours.to(dtype)
        x = inputs(form, dtype)
        for states in ([], initial(ours, form, dtype)):
            assert_same(results(ours, form, x, states), results(theirs, form, x, states), tolerance)


@pytest.mark.parametrize("form", ["packed", "unsorted"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_packed_sequence_comes_back_in_the_order_that_it_was_packed_in(kind: str, form: str) -> None:
    quiet()
    theirs, ours = pair(kind, bidirectional=True)
    x = inputs(form)
    expected, _ = apply(theirs, form, x, [])
    y, _ = apply(ours, form, x, [])
    assert type(y) is PackedSequence
    assert torch.equal(y.batch_sizes, expected.batch_sizes)
    for name in ("sorted_indices", "unsorted_indices"):
        index, wanted = getattr(y, name), getattr(expected, name)
        assert (index is None) == (wanted is None)
        assert index is None or torch.equal(index, wanted)


@pytest.mark.parametrize("form", ["packed", "padded", "batch_first"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_seed_drops_the_same_units_between_layers(kind: str, form: str) -> None:
    quiet()
    theirs, ours = pair(kind, num_layers=3, dropout=0.4, bidirectional=True, batch_first=form == "batch_first")
    x = inputs(form)
    torch.manual_seed(5)
    expected = results(theirs, form, x, [])
    torch.manual_seed(5)
    assert_same(results(ours, form, x, []), expected, 4e-6)


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_empty_batch_gives_empty_results(kind: str) -> None:
    quiet()
    theirs, ours = pair(kind, bidirectional=True)
    x = torch.randn(4, 0, 3)
    (y, state), (expected, expected_state) = ours(x), theirs(x)
    assert y.shape == expected.shape
    for value, wanted in zip(state, expected_state, strict=True):
        assert value.shape == wanted.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", NETWORKS)
def test_half_precision_weights_give_half_precision_results(kind: str, dtype: torch.dtype) -> None:
    quiet()
    theirs, ours = pair(kind)
    x = inputs("padded")
    expected, _ = theirs(x)
    y, state = ours.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    assert (y.float() - expected).abs().max() < 0.03
    assert all(value.dtype == dtype for value in (state if isinstance(state, tuple) else (state,)))
