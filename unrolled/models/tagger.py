"""A network that reads words and labels each of them, and, where it is asked to, the sentence as a whole."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled import sequence
from unrolled.layers import CRF, SequenceLayer, make_pooling
from unrolled.layers.words import Words, WordVectors
from unrolled.models.text import WordModel


class Scores(NamedTuple):
    """What a tagger gives of a batch.

    labels    (time, batch, label), anything in the padding
    intents   (batch, score), None where nothing is said of the whole
    """

    labels: Tensor
    intents: Tensor | None


class Tagger(WordModel):
    """A score of each label for each word, by a linear map of a layer's output; a chain over them besides.

    labels    how many there are
    crf       scores labels with the ones before them; None to take each by itself
    intents   scores of the sentence as a whole, by the largest outputs over time; 0 for none
    dropout   share of the outputs that is dropped in training

    `forward_only` may be set to another one, which learns from the same batches and is only compared with.

    Source   Huang, Xu & Yu 2015; with a class of the whole: Liu & Lane 2016, "Attention-based recurrent neural network
             models for joint intent detection and slot filling", whose attention is a maximum here
    """

    def __init__(
        self,
        vectors: WordVectors,
        layer: SequenceLayer,
        labels: int,
        *,
        crf: CRF | None = None,
        intents: int = 0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.vectors = vectors
        self.layer = layer
        self.dropout = nn.Dropout(dropout)
        self.labels = nn.Linear(layer.output_size, labels)
        self.crf = crf
        self.pooling = make_pooling("max", layer.output_size, layer.backward_size) if intents else None
        self.intents = nn.Linear(layer.output_size, intents) if intents else None
        self.forward_only: Tagger | None = None

    def each(self) -> list[Tagger]:
        """All that learn: this one, and the one that reads forward only, if there is one."""
        return [self] if self.forward_only is None else [self, self.forward_only]

    def forward(self, words: Words) -> Scores:
        """Scores of a batch."""
        y, _ = self.layer(self.vectors(words), lengths=words.lengths)
        y = self.dropout(y)
        intents = None
        if self.pooling is not None and self.intents is not None:
            intents = self.intents(self.pooling(y, words.lengths))
        return Scores(self.labels(y), intents)

    def loss(self, scores: Tensor, wanted: Tensor, lengths: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """The loss of each sentence's labels, the sum over its words, in nats.

        smoothing   share of the probability that is wanted of all labels alike, where there is no chain

        Shapes   scores (time, batch, label); wanted (time, batch), whole numbers; returns (batch,)
        """
        if self.crf is not None:
            return -torch.as_tensor(self.crf(scores, wanted, lengths))
        valid = sequence.mask(lengths, len(scores))
        each = functional.cross_entropy(
            scores.flatten(0, 1), wanted.flatten(), label_smoothing=smoothing, reduction="none"
        )
        return torch.where(valid, each.view(wanted.shape), 0).sum(0)

    def given(self, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The label of each word and its probability; with a chain, the likeliest labels of the sentence as a whole.

        Shapes   scores (time, batch, label); returns (time, batch) twice, anything in the padding
        """
        if self.crf is None:
            probabilities, labels = torch.softmax(scores.double(), -1).max(-1)
            return labels, probabilities
        labels = self.crf.decode(scores, lengths)
        marginals = self.crf.marginals(scores, lengths).double()
        return labels, marginals.gather(2, labels.clamp(min=0)[..., None])[..., 0]
