from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from unrolled.errors import UsageError
from unrolled.layers import Recurrent
from unrolled.models.one_to_many import LanguageModel

SYMBOLS, HIDDEN = 7, 5
KINDS: dict[str, dict[str, Any]] = {
    "one-hot": {},
    "embedding": {"embedding_size": 4},
    "tied": {"embedding_size": HIDDEN, "tied": True},
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
EACH_CELL = pytest.mark.parametrize("cell", ["lstm", "gru", "mgu", "elman"])
EACH_DEPTH = pytest.mark.parametrize("layers", [1, 2])


def model_of(kind: str = "one-hot", cell: str = "lstm", **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(cell, SYMBOLS, HIDDEN, **{**KINDS[kind], **options})


def symbols_of(time: int, batch: int) -> Tensor:
    return torch.randint(SYMBOLS, (time, batch), generator=torch.Generator().manual_seed(1))


def seen_by(module: torch.nn.Module, model: LanguageModel, x: Tensor) -> list[Tensor]:
    """What a module gives while the model reads."""
    given: list[Tensor] = []
    hook = module.register_forward_hook(lambda _, __, output: given.append(output.detach()))
    model(x)
    hook.remove()
    return given


@EACH_CELL
@EACH_KIND
@EACH_DEPTH
def test_two_halves_with_the_state_between_them_are_the_whole(cell: str, kind: str, layers: int) -> None:
    model = model_of(kind, cell, layers=layers).eval()
    x = symbols_of(9, 3)
    whole, end = model(x)
    first, state = model(x[:4])
    second, last = model(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)
    assert whole.shape == (9, 3, SYMBOLS)


@EACH_KIND
def test_a_score_depends_on_no_later_symbol_and_on_no_other_row(kind: str) -> None:
    model = model_of(kind, layers=2).eval()
    x = symbols_of(6, 2)
    changed = x.clone()
    changed[4:, 0] = (changed[4:, 0] + 1) % SYMBOLS
    before, after = model(x)[0], model(changed)[0]
    assert torch.equal(before[:4], after[:4])
    assert torch.equal(before[:, 1], after[:, 1])
    assert not torch.equal(before[4:, 0], after[4:, 0])


@EACH_CELL
@EACH_DEPTH
def test_numbers_of_symbols_score_as_the_one_hot_vectors_that_they_stand_for(cell: str, layers: int) -> None:
    model = model_of(cell=cell, layers=layers).double()
    x = symbols_of(6, 3)
    assert model.head is not None
    found = model(x)[0]
    explicit = model.head(model.layers(functional.one_hot(x, SYMBOLS).double())[0])
    torch.testing.assert_close(found, explicit)
    weights = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, list(model.parameters()), weights),
        torch.autograd.grad(explicit, list(model.parameters()), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_with_an_embedding_the_layers_read_the_learned_vectors() -> None:
    model = model_of("embedding").eval()
    x = symbols_of(6, 3)
    assert model.embedding is not None
    assert model.head is not None
    assert model.embedding.weight.shape == (SYMBOLS, 4)
    expected = model.head(model.layers(model.embedding.weight[x])[0])
    assert torch.equal(model(x)[0], expected)


def test_the_gradient_of_tied_vectors_is_that_of_both_of_their_uses() -> None:
    model = model_of("tied").double()
    x, targets = symbols_of(6, 3), symbols_of(7, 3)[1:]
    assert model.embedding is not None
    functional.cross_entropy(model(x)[0].flatten(0, 1), targets.flatten()).backward()
    read = model.embedding.weight.detach().clone().requires_grad_()
    scored = model.embedding.weight.detach().clone().requires_grad_()
    y, _ = model.layers(functional.embedding(x, read))
    functional.cross_entropy(functional.linear(y, scored, model.bias).flatten(0, 1), targets.flatten()).backward()
    assert read.grad is not None
    assert scored.grad is not None
    assert float(read.grad.norm()) > 0
    assert float(scored.grad.norm()) > 0
    torch.testing.assert_close(model.embedding.weight.grad, read.grad + scored.grad)


@EACH_KIND
def test_weights_are_saved_once_each_and_come_back_from_safetensors(kind: str) -> None:
    model, other = model_of(kind, layers=2).eval(), model_of(kind, layers=2).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    state = model.state_dict()
    matrices = [name for name, value in state.items() if value.shape == (SYMBOLS, HIDDEN)]
    assert matrices == (["embedding.weight"] if kind == "tied" else ["head.weight"])
    assert sum(value.numel() for value in state.values()) == sum(p.numel() for p in model.parameters())
    other.load_state_dict(load(save(state)))
    assert torch.equal(other(symbols_of(5, 2))[0], model(symbols_of(5, 2))[0])


@pytest.mark.parametrize("size", [0, HIDDEN - 1, HIDDEN + 1])
def test_tied_vectors_of_another_size_than_the_output_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"tied needs vectors of the output's size: embedding_size 5, not {size}"):
        LanguageModel("lstm", SYMBOLS, HIDDEN, embedding_size=size, tied=True)


@EACH_KIND
@EACH_CELL
def test_a_new_model_holds_all_symbols_about_equally_likely(kind: str, cell: str) -> None:
    torch.manual_seed(0)
    sizes = {"embedding_size": 64} if kind != "one-hot" else {}
    model = LanguageModel(cell, 50, 64, tied=kind == "tied", **sizes)
    x = torch.randint(50, (40, 8))
    loss = functional.cross_entropy(model(x[:-1])[0].flatten(0, 1), x[1:].flatten())
    assert float(loss.detach()) == pytest.approx(math.log(50), rel=0.05)


def test_one_hot_vectors_are_looked_up_at_the_scale_of_one() -> None:
    torch.manual_seed(0)
    weights = dict(LanguageModel("lstm", 400, 64).named_parameters())
    scales = [float(value.detach().std()) for name, value in weights.items() if name.startswith("layers.layers.0.W")]
    assert scales == [pytest.approx(1.0, rel=0.05)]


def test_variational_dropout_drops_the_same_units_in_a_whole_window() -> None:
    model = model_of("embedding", layers=2, dropout=0.5, variational=True)
    x = symbols_of(20, 8)
    assert model.head is not None
    for given in seen_by(model.dropout, model, x):
        dropped = given == 0
        assert torch.equal(dropped, dropped[:1].expand_as(dropped))
        # Other units in other rows.
        assert not torch.equal(dropped[0, 0], dropped[0, 1])
        assert 0.3 < float(dropped.double().mean()) < 0.7
    first, second = (seen_by(model.dropout, model, x)[-1] == 0 for _ in range(2))
    assert not torch.equal(first, second)


def test_dropout_of_steps_drops_other_units_at_each_step() -> None:
    model = model_of("embedding", layers=2, dropout=0.5)
    given = seen_by(model.dropout, model, symbols_of(20, 8))
    # Of the vectors that are read, between the layers and before the scores.
    assert [each.shape[-1] for each in given] == [4, HIDDEN, HIDDEN]
    for each in given:
        dropped = each == 0
        assert len({tuple(row.tolist()) for row in dropped[:, 0]}) > 1


@pytest.mark.parametrize("variational", [False, True])
def test_nothing_is_dropped_in_evaluation(variational: bool) -> None:
    options: dict[str, Any] = {"layers": 2, "variational": variational}
    dropping = model_of("embedding", dropout=0.5, recurrent_dropout=0.5, **options).eval()
    plain = model_of("embedding", **options)
    plain.load_state_dict(dropping.state_dict())
    x = symbols_of(6, 3)
    assert torch.equal(dropping(x)[0], plain(x)[0])
    assert torch.equal(dropping(x)[0], dropping(x)[0])


def test_recurrent_dropout_changes_what_a_training_model_remembers_and_nothing_else() -> None:
    model = model_of(recurrent_dropout=0.5).train()
    x = symbols_of(8, 16)
    one, other, whole = model(x)[0], model(x)[0], copy.deepcopy(model).eval()(x)[0]
    # Nothing is remembered yet at the first step.
    assert torch.equal(one[0], whole[0])
    assert not torch.equal(one[1:], whole[1:])
    assert not torch.equal(one[1:], other[1:])


@EACH_KIND
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
def test_precision_is_that_of_every_layer_and_not_of_the_scores(kind: str, training: bool) -> None:
    narrow, wide = (model_of(kind, layers=2, precision=precision).train(training) for precision in ("bf16", ""))
    x = symbols_of(9, 3)
    assert [layer.precision for layer in narrow.layers.modules() if isinstance(layer, Recurrent)] == ["bf16"] * 2
    for given in (narrow(x)[0], narrow.next(x)[0]):
        assert given.dtype == torch.float32
    scores, expected = narrow(x)[0], wide(x)[0]
    assert not torch.equal(scores, expected)
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.02)
    y, _ = narrow.layers(x if narrow.embedding is None else narrow.embedding(x))
    if narrow.head is not None:
        assert torch.equal(functional.linear(y, narrow.head.weight, narrow.head.bias), scores)
    else:
        assert narrow.embedding is not None
        assert torch.equal(functional.linear(y, narrow.embedding.weight, narrow.bias), scores)


@EACH_CELL
@EACH_KIND
@EACH_DEPTH
def test_a_reset_begins_a_document_as_if_it_were_read_alone(cell: str, kind: str, layers: int) -> None:
    model = model_of(kind, cell, layers=layers).eval()
    x = symbols_of(12, 2)
    starts: list[list[int]] = [[0, 3, 4, 9], [7]]
    resets = torch.zeros(12, 2, dtype=torch.bool)
    carried = model(symbols_of(5, 2).flip(0))[1]
    for row, begins in enumerate(starts):
        resets[begins, row] = True
    state, read = carried, []
    # Windows end before, at and after the beginnings of documents; one has none.
    for begin, end in itertools.pairwise([0, 3, 5, 7, 12]):
        scores, state = model(x[begin:end], state, resets[begin:end] if bool(resets[begin:end].any()) else None)
        read.append(scores)
    found = torch.cat(read)
    for row, begins in enumerate(starts):
        for begin, end in itertools.pairwise([*begins, 12]):
            alone, _ = model(x[begin:end, row : row + 1])
            torch.testing.assert_close(found[begin:end, row], alone[:, 0])
    # Until its first document begins, a row goes on from the state that it was given.
    going_on, _ = model(x[:7], carried)
    torch.testing.assert_close(found[:7, 1], going_on[:, 1])


@EACH_KIND
def test_generation_draws_from_the_scores_of_all_that_was_drawn_before(kind: str) -> None:
    model = model_of(kind).eval()
    asked: list[Tensor] = []

    def draw(scores: Tensor) -> Tensor:
        asked.append(scores)
        return torch.tensor([len(asked) % SYMBOLS, (3 * len(asked)) % SYMBOLS])

    prompt = torch.tensor([1, 2, 3])
    drawn = torch.stack(list(itertools.islice(model.generate(prompt, draw, rows=2), 6)))
    assert drawn.shape == (6, 2)
    read = torch.cat([prompt[:, None].expand(-1, 2), drawn])
    torch.testing.assert_close(torch.stack(asked), model(read)[0][2:8])


def test_generation_drops_nothing_and_leaves_mode_and_gradients_as_they_were() -> None:
    model = model_of(dropout=0.5).train()
    draws = model.generate(torch.tensor([1]), lambda scores: scores.argmax(-1))
    first = [int(next(draws)) for _ in range(5)]
    assert torch.is_grad_enabled()
    draws.close()
    assert model.training
    again = model.eval().generate(torch.tensor([1]), lambda scores: scores.argmax(-1))
    assert [int(symbol) for symbol in itertools.islice(again, 5)] == first
    again.close()
    assert not model.training


def test_a_copy_is_its_own_and_scores_alike() -> None:
    model = model_of("tied", layers=2).eval()
    other = copy.deepcopy(model)
    x = symbols_of(4, 2)
    assert torch.equal(model(x)[0], other(x)[0])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    assert not torch.equal(model(x)[0], other(x)[0])
