"""Attention: the steps of a memory, each weighted by how well it fits a query."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unrolled import sequence
from unrolled.errors import ShapeError, UsageError, did_you_mean
from unrolled.layers.given import check_tensor


class Memory(NamedTuple):
    """A memory made ready for any number of queries.

    Shapes   keys and values (memory time, batch, feature), of many heads (memory time, batch · heads, feature);
             valid (memory time, batch) likewise, false in the padding
    """

    keys: Tensor
    values: Tensor
    valid: Tensor


class Attention(nn.Module):
    """The mean of a memory's values, weighted by the softmax of the scores of its keys with a query.

    A kind of attention is a subclass that says what keys and scores are. Padding of the memory gets no weight, whatever
    it holds; a row whose memory is empty gets zeros. In a decoder, Bahdanau's query is the state before the step and
    Luong's the one after it: the caller chooses.
    """

    def __init__(self, query_size: int, memory_size: int):
        super().__init__()
        self.query_size = query_size
        self.memory_size = memory_size
        self.context_size = memory_size

    def forward(
        self, query: Tensor, memory: Tensor | Memory, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The context of each query, and the weights that made it.

        Shapes   query (query time, batch, query_size), or (batch, query_size) for one step; memory (memory time,
                 batch, memory_size), or what `prepare` made of it; lengths (batch,) valid steps of the memory
                 returns context (query time, batch, context_size) and weights (query time, batch, memory time), of
                 many heads (query time, batch, heads, memory time); of one step without the first axis
        Raises   ShapeError when something does not fit, in words
        """
        check_tensor("query", query)
        if isinstance(memory, Memory) and lengths is not None:
            raise ShapeError("a prepared memory has lengths of its own; leave out lengths")
        ready = memory if isinstance(memory, Memory) else self.prepare(memory, lengths)
        if query.dim() not in (2, 3) or query.shape[-1] != self.query_size:
            expected = f"(batch, {self.query_size}) or (time, batch, {self.query_size})"
            raise ShapeError(f"query is {tuple(query.shape)}; expected {expected}")
        steps = query if query.dim() == 3 else query[None]
        context, weights = self.attend(steps, ready)
        return (context, weights) if query.dim() == 3 else (context[0], weights[0])

    def prepare(self, memory: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Memory:
        """What is computed of a memory alone, once for all the steps that will ask it.

        Shapes   memory (memory time, batch, memory_size); lengths (batch,)
        """
        check_tensor("memory", memory)
        if memory.dim() != 3 or memory.shape[-1] != self.memory_size:
            raise ShapeError(f"memory is {tuple(memory.shape)}; expected (time, batch, {self.memory_size})")
        values, valid = masked(memory, lengths)
        return Memory(self.keys(values), values, valid)

    def attend(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """The context and weights of several steps.

        Shapes   query (query time, batch, query_size)
        """
        if query.shape[1] != memory.keys.shape[1]:
            raise ShapeError(f"query has a batch of {query.shape[1]}, the memory one of {memory.keys.shape[1]}")
        weights = masked_softmax(self.scores(query, memory.keys), memory.valid.T, -1)
        return torch.einsum("qbm,mbv->qbv", weights, memory.values), weights

    def keys(self, memory: Tensor) -> Tensor:
        """What of a memory is compared with queries: itself, or a map of it.

        Shapes   (memory time, batch, memory_size) to (memory time, batch, key)
        """
        return memory

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """How well each key fits each query.

        Shapes   returns (query time, batch, memory time)
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.query_size}, {self.memory_size} -> {self.context_size}"


class Additive(Attention):
    """A hidden layer on query and memory scores them: v · tanh(W query + U memory), without biases, as it is printed.

    hidden_size   of that layer; 0 for the query's

    Source   Bahdanau, Cho & Bengio 2015, arXiv 1409.0473
    """

    def __init__(self, query_size: int, memory_size: int, hidden_size: int = 0):
        super().__init__(query_size, memory_size)
        self.of_query = nn.Linear(query_size, hidden_size or query_size, bias=False)
        self.of_memory = nn.Linear(memory_size, hidden_size or query_size, bias=False)
        self.of_both = nn.Linear(hidden_size or query_size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """U memory."""
        return torch.as_tensor(self.of_memory(memory))

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """A hidden layer for each pair."""
        pairs = self.of_query(query)[:, :, None] + keys.transpose(0, 1)
        return torch.as_tensor(self.of_both(torch.tanh(pairs))[..., 0])


class Dot(Attention):
    """The inner product of query and memory scores them; both are of one size.

    Raises   ShapeError for two sizes
    Source   Luong, Pham & Manning 2015, arXiv 1508.04025
    """

    def __init__(self, query_size: int, memory_size: int):
        super().__init__(query_size, memory_size)
        if query_size != memory_size:
            raise ShapeError(
                f"an inner product needs one size; the query has {query_size}, the memory {memory_size}: 'general' "
                "maps the one to the other"
            )

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """An inner product for each pair."""
        return torch.einsum("qbk,mbk->qbm", query, keys)


class Scaled(Dot):
    """The inner product, divided by the square root of the size: its spread stays 1 at any size.

    Source   Vaswani et al. 2017, arXiv 1706.03762
    """

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """A scaled inner product for each pair."""
        return super().scores(query, keys) / math.sqrt(keys.shape[-1])


class General(Attention):
    """The inner product of the query with a learned map of the memory.

    Source   Luong, Pham & Manning 2015, arXiv 1508.04025
    """

    def __init__(self, query_size: int, memory_size: int):
        super().__init__(query_size, memory_size)
        self.of_memory = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """The map of the memory."""
        return torch.as_tensor(self.of_memory(memory))

    def scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """An inner product for each pair."""
        return torch.einsum("qbk,mbk->qbm", query, keys)


class MultiHead(Scaled):
    """Several scaled attentions side by side, each on maps of its own; a last map joins what they found.

    Keys, values and context have the query's size, which the heads share out. All four maps have biases, as those of
    `torch.nn.MultiheadAttention` have.

    Raises   UsageError unless the heads share out the query evenly
    Source   Vaswani et al. 2017, arXiv 1706.03762
    """

    def __init__(self, query_size: int, memory_size: int, heads: int = 4):
        Attention.__init__(self, query_size, memory_size)
        if heads < 1 or query_size % heads:
            raise UsageError(f"{heads} heads cannot share a query of {query_size} evenly: give heads that divide it")
        self.heads = heads
        self.context_size = query_size
        self.of_query = nn.Linear(query_size, query_size)
        self.of_keys = nn.Linear(memory_size, query_size)
        self.of_values = nn.Linear(memory_size, query_size)
        self.of_heads = nn.Linear(query_size, query_size)

    def prepare(self, memory: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Memory:
        """Keys and values of every head; heads lie beside one another on the axis of the batch."""
        _, values, valid = super().prepare(memory, lengths)
        keys, values = self._parted(self.of_keys(values)), self._parted(self.of_values(values))
        return Memory(keys, values, valid.repeat_interleave(self.heads, 1))

    def attend(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Attend in every head, and join them."""
        context, weights = super().attend(self._parted(self.of_query(query)), memory)
        joined = self.of_heads(context.reshape(*query.shape[:2], self.context_size))
        # The last map has a bias.
        found = torch.where(memory.valid.any(0)[:: self.heads, None], joined, 0)
        return found, weights.unflatten(1, (query.shape[1], self.heads))

    def _parted(self, x: Tensor) -> Tensor:
        time, batch = x.shape[:2]
        return x.reshape(time, batch * self.heads, x.shape[-1] // self.heads)


KINDS: dict[str, type[Attention]] = {
    "additive": Additive,
    "dot": Dot,
    "general": General,
    "multi-head": MultiHead,
    "scaled": Scaled,
}


def make_attention(kind: str, query_size: int, memory_size: int, **options: int) -> Attention:
    """The attention of this name: additive, dot, general, multi-head or scaled.

    options   hidden_size of 'additive', heads of 'multi-head'

    Raises   UsageError for a name or an option that there is not; ShapeError for sizes that do not fit the kind
    """
    chosen = KINDS.get(kind.replace("_", "-"))
    if chosen is None:
        raise UsageError(f"there is no attention {kind!r}.{did_you_mean(kind, KINDS)}")
    known = list(inspect.signature(chosen).parameters)[2:]
    for name in options:
        if name not in known:
            raise UsageError(f"attention {kind!r} has no option {name!r}.{did_you_mean(name, known)}")
    return chosen(query_size, memory_size, **options)


def masked(x: Tensor, lengths: Tensor | Sequence[int] | None, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    """A batch with one value in all of its padding, and its mask: nothing that the padding held, such as NaN, remains.

    Shapes   x (time, batch, feature); returns x and (time, batch)
    """
    time, batch = x.shape[:2]
    if lengths is None:
        return x, x.new_ones(time, batch, dtype=torch.bool)
    lengths = sequence.check_lengths(torch.as_tensor(lengths, device=x.device), time, batch)
    valid = sequence.mask(lengths, time)
    return torch.where(valid[..., None], x, padding), valid


def masked_softmax(scores: Tensor, valid: Tensor, axis: int) -> Tensor:
    """The softmax over the valid entries of an axis; the others, and all where none is valid, get 0."""
    # Not -inf, whose softmax is NaN where nothing is valid.
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~valid, lowest), axis).masked_fill(~valid, 0)
