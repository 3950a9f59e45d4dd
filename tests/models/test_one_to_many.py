from __future__ import annotations

import itertools

import pytest
import torch

from unrolled.models.one_to_many import LanguageModel


def model_of(cell: str = "lstm", layers: int = 1) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(cell, 7, 5, layers, dropout=0.5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "mgu"])
@pytest.mark.parametrize("layers", [1, 2])
def test_two_halves_with_the_state_between_them_are_the_whole(cell: str, layers: int) -> None:
    model = model_of(cell, layers).eval()
    x = torch.randint(7, (9, 3))
    whole, _ = model(x)
    first, state = model(x[:4])
    second, _ = model(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    assert whole.shape == (9, 3, 7)


def test_a_score_depends_on_no_later_symbol() -> None:
    model = model_of().eval()
    x = torch.randint(7, (6, 1))
    changed = x.clone()
    changed[4:] = (changed[4:] + 1) % 7
    assert torch.equal(model(x)[0][:4], model(changed)[0][:4])


def drawn(model: LanguageModel, temperature: float, count: int = 300, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return list(itertools.islice(model.generate(torch.tensor([1, 2]), temperature, generator), count))


def test_what_is_drawn_depends_on_the_seed_alone_and_never_is_the_unknown_symbol() -> None:
    model = model_of()
    with torch.no_grad():
        model.head.bias[0] = 100.0
    assert drawn(model, 1.0) == drawn(model, 1.0)
    assert drawn(model, 1.0) != drawn(model, 1.0, seed=1)
    assert set(drawn(model, 1.0)) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("temperature", [1e-3, 1e-300])
def test_a_low_temperature_draws_the_likeliest_symbol(temperature: float) -> None:
    model = model_of()
    symbols = [1, 2]
    for symbol in drawn(model, temperature, 5):
        scores = model.eval()(torch.tensor(symbols)[:, None])[0][-1, 0, 1:]
        assert symbol == 1 + int(scores.argmax())
        symbols.append(symbol)


def test_generation_leaves_the_model_in_the_mode_it_was_in() -> None:
    model = model_of().train()
    draws = model.generate(torch.tensor([1]))
    next(draws)
    draws.close()
    assert model.training
