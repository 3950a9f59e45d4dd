"""Attention is what a loop over rows, queries and steps gives, and torch's own where it has the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from unrolled.errors import ShapeError, UsageError
from unrolled.layers import Attention, make_attention
from unrolled.layers.attention import KINDS, Additive, General, MultiHead, Scaled

LENGTHS = torch.tensor([4, 0, 2])
NAN = float("nan")


def attention_of(kind: str) -> Attention:
    size = 6 if kind in ("dot", "scaled") else 5
    return make_attention(kind, 6, size).double() if kind != "multi-head" else MultiHead(6, 5, 3).double()


def batch(attention: Attention) -> tuple[Tensor, Tensor]:
    """Queries of three steps and a memory of four."""
    query = torch.randn(3, 3, attention.query_size, dtype=torch.float64)
    return query, torch.randn(4, 3, attention.memory_size, dtype=torch.float64)


def score(attention: Attention, query: Tensor, step: Tensor) -> Tensor:
    """How well one step of the memory fits one query, as the papers write it."""
    if isinstance(attention, Additive):
        w, u, v = (layer.weight for layer in (attention.of_query, attention.of_memory, attention.of_both))
        return v[0] @ torch.tanh(w @ query + u @ step)
    if isinstance(attention, General):
        return query @ attention.of_memory.weight @ step
    return query @ step / (math.sqrt(len(step)) if isinstance(attention, Scaled) else 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "multi-head"])
def test_the_context_is_the_weighted_mean_of_the_valid_steps_alone(kind: str) -> None:
    attention = attention_of(kind)
    query, memory = batch(attention)
    context, weights = attention(query, memory, LENGTHS)
    assert context.shape == (3, 3, attention.context_size)
    for row, length in enumerate(LENGTHS.tolist()):
        for time in range(3):
            steps = memory[:length, row]
            scores = [score(attention, query[time, row], step).exp() for step in steps]
            total = sum(scores, torch.zeros((), dtype=torch.float64))
            expected = [value / total for value in scores]
            torch.testing.assert_close(list(weights[time, row, :length]), expected)
            mean = sum((w * step for w, step in zip(expected, steps, strict=True)), torch.zeros_like(memory[0, 0]))
            torch.testing.assert_close(context[time, row], mean)
            assert not weights[time, row, length:].any()


@pytest.mark.parametrize("ragged", [False, True])
def test_many_heads_are_torch_s(ragged: bool) -> None:
    attention = make_attention("multi-head", 6, 5, heads=3).double()
    assert isinstance(attention, MultiHead)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn_like(parameter))
    peer = nn.MultiheadAttention(6, 3, kdim=5, vdim=5, dtype=torch.float64)
    maps = (attention.of_query, attention.of_keys, attention.of_values)
    peer.load_state_dict(
        {
            "q_proj_weight": maps[0].weight,
            "k_proj_weight": maps[1].weight,
            "v_proj_weight": maps[2].weight,
            "in_proj_bias": torch.cat([each.bias for each in maps]),
            "out_proj.weight": attention.of_heads.weight,
            "out_proj.bias": attention.of_heads.bias,
        }
    )
    query, memory = batch(attention)
    lengths = torch.tensor([4, 1, 2]) if ragged else torch.tensor([4, 4, 4])
    padding = torch.arange(4)[None] >= lengths[:, None]
    expected, expected_weights = peer(query, memory, memory, padding, average_attn_weights=False)
    context, weights = attention(query, memory, lengths if ragged else None)
    torch.testing.assert_close(context, expected)
    torch.testing.assert_close(weights, expected_weights.permute(2, 0, 1, 3))
    got = torch.autograd.grad(context.square().sum(), list(attention.parameters()))
    wanted = torch.autograd.grad(expected.square().sum(), list(peer.parameters()))
    in_order = [wanted[0], wanted[3][:6], wanted[1], wanted[3][6:12], wanted[2], wanted[3][12:], *wanted[4:]]
    for a, b in zip(got, in_order, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_with_an_empty_memory_finds_nothing(kind: str) -> None:
    attention = attention_of(kind)
    query, memory = batch(attention)
    for context, weights in (attention(query, memory, LENGTHS), attention(query, memory[:0])):
        assert not weights[:, 1].any()
        assert torch.equal(context[:, 1], torch.zeros_like(context[:, 1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poison", [NAN, float("inf")], ids=["nan", "inf"])
def test_padding_has_no_say(kind: str, poison: float) -> None:
    attention = attention_of(kind)
    query, memory = batch(attention)
    padding = (torch.arange(4)[:, None] >= LENGTHS)[..., None]
    given = [query, memory, *attention.parameters()]

    def found(filling: float) -> list[Tensor]:
        filled = torch.where(padding, filling, memory).requires_grad_()
        context, weights = attention(query.requires_grad_(), filled, LENGTHS)
        given[1] = filled
        loss = context.square().sum() + weights.square().sum()
        return [context, weights, *torch.autograd.grad(loss, given)]

    clean, poisoned = found(0.0), found(poison)
    assert all(torch.equal(a, b) for a, b in zip(clean, poisoned, strict=True))
    assert not poisoned[3][padding.expand_as(memory)].any()
    shorter, _ = attention(query[:, 2:], memory[:2, 2:])
    torch.testing.assert_close(clean[0][:, 2:], shorter)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_right(kind: str) -> None:
    attention = attention_of(kind)
    query, memory = batch(attention)
    parameters = list(attention.parameters())

    def run(query: Tensor, memory: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = attention(query, memory, LENGTHS)
        return found

    assert torch.autograd.gradcheck(run, (query[:2].requires_grad_(), memory.requires_grad_(), *parameters))


@pytest.mark.parametrize("kind", KINDS)
def test_one_query_at_a_time_asks_a_memory_that_was_prepared_once(kind: str) -> None:
    attention = attention_of(kind)
    query, memory = batch(attention)
    context, weights = attention(query, memory, LENGTHS)
    ready = attention.prepare(memory, LENGTHS)
    for time, step in enumerate(query):
        one, one_weights = attention(step, ready)
        torch.testing.assert_close(one, context[time])
        torch.testing.assert_close(one_weights, weights[time])


def test_the_names_are_those_of_the_literature() -> None:
    assert list(KINDS) == ["additive", "dot", "general", "multi-head", "scaled"]
    assert isinstance(make_attention("multi_head", 8, 3, heads=2), MultiHead)
    assert make_attention("additive", 8, 3, hidden_size=7).of_both.in_features == 7


def test_what_does_not_fit_is_refused_in_words() -> None:
    general = make_attention("general", 4, 3)
    query, memory = torch.randn(2, 4), torch.randn(5, 2, 3)
    with pytest.raises(UsageError, match=r"there is no attention 'aditive'\. Did you mean additive\?"):
        make_attention("aditive", 4, 3)
    with pytest.raises(UsageError, match=r"attention 'multi-head' has no option 'head'\. Did you mean heads\?"):
        make_attention("multi-head", 4, 3, head=2)
    with pytest.raises(UsageError, match="3 heads cannot share a query of 4 evenly"):
        make_attention("multi-head", 4, 3, heads=3)
    with pytest.raises(ShapeError, match="the query has 4, the memory 3: 'general' maps"):
        make_attention("dot", 4, 3)
    with pytest.raises(ShapeError, match=r"query is \(2, 3\); expected \(batch, 4\) or \(time, batch, 4\)"):
        general(memory[0], memory)
    with pytest.raises(ShapeError, match=r"memory is \(5, 2, 4\); expected \(time, batch, 3\)"):
        general(query, torch.randn(5, 2, 4))
    with pytest.raises(ShapeError, match="query has a batch of 1, the memory one of 2"):
        general(query[:1], memory)
    with pytest.raises(ShapeError, match="lengths run from 1 to 6; the sequences have 5 steps"):
        general(query, memory, [1, 6])
    with pytest.raises(ShapeError, match="a prepared memory has lengths of its own"):
        general(query, general.prepare(memory), [1, 2])
