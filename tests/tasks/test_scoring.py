from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from tests.tasks.chains import ENGLISH, Chain, chain, random_chain, stream_of, vocabulary_of
from unrolled.data.stream import IGNORED, Stream
from unrolled.models.one_to_many import LanguageModel
from unrolled.tasks.language_model import scoring
from unrolled.tasks.language_model.scoring import Score, Tally, log_probabilities, score, score_dynamically

TEXT = ENGLISH * 12


def network(symbols: int, cell: str = "gru", **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    model = LanguageModel(cell, symbols, 8, **options)
    with torch.no_grad():
        # Far from the even distribution, so that what is read matters.
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


def plain(model: LanguageModel, stream: Stream) -> tuple[float, dict[int, int]]:
    """One reading in one row, state and all, with the ranks counted one by one."""
    numbers = torch.from_numpy(stream.numbers.astype("int64"))
    resets = torch.zeros(len(numbers) - 1, 1, dtype=torch.bool)
    resets[[start for start in stream.starts.tolist() if start < len(resets)]] = True
    with torch.no_grad():
        scores = copy.deepcopy(model).eval()(numbers[:-1, None], None, resets)[0][:, 0]
    nats = -float(torch.log_softmax(scores.double(), -1).gather(-1, numbers[1:, None]).sum())
    ranks = [int((row > row[target]).sum()) for row, target in zip(scores, numbers[1:], strict=True)]
    return nats, {k: sum(rank < k for rank in ranks) for k in (1, 3, 5)}


@pytest.mark.parametrize("length", [1, 2, 3, 255, 256, 257, 600])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_score_is_that_of_a_plain_single_reading(length: int, cell: str) -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = network(len(vocabulary), cell, layers=2), stream_of([TEXT[:length]], vocabulary)
    nats, among = plain(model, stream)
    found = score(model, stream)
    assert found.tokens == length
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.among == among


@pytest.mark.parametrize("rows", [1, 2, 3, 16])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 15, 16, 17, 33, 100, 511])
def test_every_token_is_counted_once_in_however_many_rows(
    rows: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = random_chain(vocabulary, 0), stream_of([TEXT[:length]], vocabulary)
    # The scores of a chain depend on the present symbol alone: no token is dearer for where a row begins.
    nats, among = plain(model, stream)
    monkeypatch.setattr(scoring, "PIECE", 1)
    monkeypatch.setattr(scoring, "ROWS", rows)
    monkeypatch.setattr(scoring, "STEPS", 7)
    found = score(model, stream)
    assert found.tokens == length
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.among == among


def test_a_long_text_is_read_side_by_side_and_costs_little_more() -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = network(len(vocabulary)), stream_of([ENGLISH * 200], vocabulary)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    found = score(model, stream)
    assert set(seen) == {len(ENGLISH) * 200 // scoring.PIECE}
    nats, _ = plain(model, stream)
    assert found.tokens == len(ENGLISH) * 200
    assert found.nats == pytest.approx(nats, rel=1e-2)


def test_windows_are_shorter_where_a_vocabulary_is_large_and_the_state_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = network(len(vocabulary)), stream_of([TEXT[:100]], vocabulary)
    whole = score(model, stream)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    for held, steps in ((3 * len(vocabulary), 3), (1, 1)):
        monkeypatch.setattr(scoring, "SCORES", held)
        seen.clear()
        assert score(model, stream).nats == pytest.approx(whole.nats, rel=1e-5)
        assert max(seen) == steps


@pytest.mark.parametrize("at_most", [1, 2, 50, 99, 100, 10**6])
def test_a_score_of_the_beginning_counts_as_many_tokens_as_it_may(at_most: int) -> None:
    vocabulary = vocabulary_of("characters")
    model = network(len(vocabulary))
    found = score(model, stream_of([TEXT[:100]], vocabulary), at_most)
    expected = score(model, stream_of([TEXT[: min(100, at_most)]], vocabulary))
    assert found.tokens == expected.tokens == min(100, at_most)
    assert found.nats == pytest.approx(expected.nats, rel=1e-5)


@pytest.mark.parametrize("at_most", [5, 12, 13, 14, 40])
def test_the_beginning_of_several_documents_keeps_their_boundaries(at_most: int) -> None:
    vocabulary = vocabulary_of("characters", end=True)
    model, stream = network(len(vocabulary)), stream_of(["the dog sat.", "the mat and the log"], vocabulary, "document")
    found = score(model, stream, at_most)
    shorter = Stream(stream.numbers[: at_most + 1], stream.starts[: 1 + (at_most > 13)], 0, 0, None)
    assert found.tokens == min(at_most, len(stream.numbers) - 1)
    assert found.nats == pytest.approx(plain(model, shorter)[0], rel=1e-5)


def test_documents_cost_together_what_each_costs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = vocabulary_of("characters", end=True)
    model = network(len(vocabulary), layers=2)
    texts = ["the dog sat on the log", "t", "and the mat, and the cat." * 3, "on"]
    alone = [score(model, stream_of([text], vocabulary, "document")) for text in texts]
    monkeypatch.setattr(scoring, "STEPS", 10)
    found = score(model, stream_of(texts, vocabulary, "document"))
    assert found.nats == pytest.approx(sum(each.nats for each in alone), rel=1e-5)
    assert found.tokens == sum(each.tokens for each in alone)
    assert found.among == {k: sum(each.among[k] for each in alone) for k in (1, 3, 5)}


@pytest.mark.parametrize("training", [False, True])
def test_a_score_drops_nothing_and_leaves_the_model_in_the_mode_it_was_in(training: bool) -> None:
    vocabulary = vocabulary_of("characters")
    model = network(len(vocabulary), dropout=0.5, recurrent_dropout=0.5).train(training)
    stream = stream_of([TEXT[:50]], vocabulary)
    assert score(model, stream) == score(model, stream)
    assert model.training is training
    log_probabilities(model, torch.tensor([1, 2, 3]))
    assert model.training is training
    list(score_dynamically(model, stream, 0.1, 8))
    assert model.training is training


def test_ranks_count_targets_among_the_likeliest_and_skip_where_nothing_follows() -> None:
    tally = Tally()
    scores = torch.tensor([0.0, 5.0, 4.0, 3.0, 2.0, 1.0, -1.0]).expand(7, 1, -1)
    tally.add(scores, torch.arange(7)[:, None])
    tally.add(scores[:2], torch.tensor([[1], [IGNORED]]))
    # Of the ranks 5, 0, 1, 2, 3, 4 and 6, and once more 0.
    assert tally.score().among == {1: 2, 3: 4, 5: 6}
    assert tally.score().tokens == 8


@pytest.mark.parametrize("symbols", [1, 2, 4])
def test_fewer_symbols_than_ranks_are_all_among_the_likeliest(symbols: int) -> None:
    tally = Tally()
    tally.add(torch.randn(3, 2, symbols), torch.zeros(3, 2, dtype=torch.int64))
    assert tally.score().among[5] == 6


def last(found: Any) -> Score:
    *_, measured = found
    return measured


def test_with_next_to_no_learning_a_dynamic_score_is_the_static_one_of_one_row() -> None:
    vocabulary = vocabulary_of("characters", end=True)
    model = network(len(vocabulary), layers=2, dropout=0.5)
    stream = stream_of([TEXT[:300], "the dog", TEXT[:50]], vocabulary, "document")
    static = score(model, stream)
    moving = last(score_dynamically(model, stream, 1e-12, 16))
    assert moving.nats == pytest.approx(static.nats, rel=1e-5)
    assert (moving.tokens, moving.among) == (static.tokens, static.among)


@pytest.mark.parametrize("window", [1, 7, 64, 1000])
def test_each_window_is_scored_before_it_is_learned_from(window: int) -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = network(len(vocabulary)), stream_of([TEXT[:100]], vocabulary)
    first, *_ = found = list(score_dynamically(model, stream, 1.0, window))
    assert first.nats == pytest.approx(score(model, stream, window).nats, rel=1e-5)
    assert [each.tokens for each in found] == [min(100, end) for end in range(window, 100 + window, window)]


def test_the_model_itself_stays_as_it_is_bit_for_bit() -> None:
    vocabulary = vocabulary_of("characters")
    model = network(len(vocabulary), embedding_size=8, tied=True)
    before = copy.deepcopy(model.state_dict())
    scored = last(score_dynamically(model, stream_of([TEXT], vocabulary), 0.5, 16))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert last(score_dynamically(model, stream_of([TEXT], vocabulary), 0.5, 16)) == scored


def test_a_model_that_goes_on_learning_predicts_a_new_repetitive_text_better() -> None:
    vocabulary = vocabulary_of("characters")
    model = chain_like_network(vocabulary.encode(ENGLISH * 4).tolist(), len(vocabulary))
    strange = stream_of(["tad tad tad gol gol gol " * 25], vocabulary)
    static = score(model, strange).nats
    assert last(score_dynamically(model, strange, 0.1, 32)).nats < 0.8 * static
    # More is learned from what is read again and again.
    found = list(score_dynamically(model, strange, 0.1, 32))
    assert found[-1].nats / found[-1].tokens < 0.8 * found[0].nats / found[0].tokens


def chain_like_network(numbers: list[int], symbols: int) -> LanguageModel:
    """A small network that has learned a text."""
    torch.manual_seed(0)
    model, read = LanguageModel("gru", symbols, 24), torch.tensor(numbers)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        scores, _ = model(read[:-1, None])
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(scores[:, 0], read[1:]).backward()
        optimiser.step()
    return model


def test_going_on_learning_needs_no_gradients_to_be_switched_on() -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = network(len(vocabulary)), stream_of([TEXT[:60]], vocabulary)
    expected = last(score_dynamically(model, stream, 0.5, 16))
    with torch.no_grad():
        assert last(score_dynamically(model, stream, 0.5, 16)) == expected
        assert not torch.is_grad_enabled()


def test_a_step_that_is_not_finite_is_not_learned_from() -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = network(len(vocabulary)), stream_of([TEXT[:60]], vocabulary)
    with torch.no_grad():
        assert model.head is not None
        model.head.bias[int(vocabulary.encode("g")[0])] = -math.inf
    for measured in score_dynamically(model, stream, 0.5, 16):
        assert not math.isnan(measured.nats)


def test_log_probabilities_are_those_of_each_symbol_after_all_before_it() -> None:
    vocabulary = vocabulary_of("characters")
    model, stream = network(len(vocabulary)), stream_of([TEXT[:40]], vocabulary)
    found = log_probabilities(model, torch.from_numpy(stream.numbers.astype("int64")))
    assert found.shape == (40,)
    assert -float(found.sum()) == pytest.approx(score(model, stream).nats, rel=1e-5)
    certain = chain(vocabulary, {"t": "h", "h": "e"})
    sure = log_probabilities(certain, torch.from_numpy(vocabulary.encode("the").astype("int64")))
    torch.testing.assert_close(sure.exp(), torch.ones(2, dtype=torch.float64))
    assert isinstance(certain, Chain)
