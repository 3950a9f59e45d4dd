"""Words as vectors: each has its own, if it is known, and what its spelling gives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from unrolled.layers.bidirectional import Bidirectional
from unrolled.layers.pooling import make_pooling
from unrolled.layers.recurrent import Recurrent

# Of the entries of initial vectors: a word's own, where its spelling says most of it, and those of its n-grams.
OWN, OF_GROUPS = 0.02, 0.05
# Of the network that reads the characters of a word.
CHARACTER_VECTOR, CHARACTER_UNITS = 32, 64


class Words(NamedTuple):
    """A batch of texts: its distinct words, and where each of them stands.

    places    (time, batch) the place of each word among the distinct ones, anything in the padding
    lengths   (batch,) words of each text
    known     (distinct,) the number of each in the vocabulary, 0 if it is not there
    pieces    (pieces,) what the words are spelled of, one word after the other
    begins    (distinct,) where the pieces of each word begin
    groups    (groups,) what the texts as a whole are made of, each once a text, one text after the other
    starts    (batch,) where the groups of each text begin
    """

    places: Tensor
    lengths: Tensor
    known: Tensor
    pieces: Tensor
    begins: Tensor
    groups: Tensor
    starts: Tensor


class WordVectors(nn.Module):
    """A vector for each word: its own, if it is known, and what its spelling gives.

    The vectors of its n-grams add up with its own; its characters are read by an LSTM in both directions, whose
    last outputs stand beside its own.

    words          numbers of words, 0 that of the unknown ones
    size           of a word's own vector
    spelling       none, characters or ngrams: what pieces a word is spelled of
    pieces         numbers of pieces
    piece_dropout  share of the n-grams that are left out in training
    dropout        share of the entries that is dropped in training
    word_dropout   share of the words that are unknown in training: their own vector is that of the unknown, and one
                   that is spelled by n-grams says nothing at all

    Source   n-grams: Bojanowski et al. 2017; characters: Ling et al. 2015, Plank et al. 2016
    """

    def __init__(
        self,
        words: int,
        size: int,
        spelling: str,
        pieces: int,
        *,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        piece_dropout: float = 0.0,
    ):
        super().__init__()
        self.kind = spelling
        self.word_dropout, self.piece_dropout = word_dropout, piece_dropout
        self.own = nn.Embedding(words, size)
        nn.init.normal_(self.own.weight, std=1.0 if self.kind == "none" else OWN)
        self.output_size = size
        if self.kind == "ngrams":
            self.groups = nn.EmbeddingBag(pieces, size, mode="sum")
            nn.init.normal_(self.groups.weight, std=OF_GROUPS)
        elif self.kind == "characters":
            self.characters = nn.Embedding(pieces, CHARACTER_VECTOR)
            ahead, behind = (
                Recurrent("lstm", CHARACTER_VECTOR, CHARACTER_UNITS, reverse=back) for back in (False, True)
            )
            self.speller = Bidirectional(ahead, behind)
            self.ends = make_pooling("last", self.speller.output_size, self.speller.backward_size)
            self.output_size += self.speller.output_size
        self.dropout = nn.Dropout(dropout)

    def by_rows(self, wanted: bool = True) -> None:
        """Give sparse gradients of the tables from now on, for an optimiser that moves the rows of a batch alone; or
        dense ones, as any optimiser takes them.
        """
        self.own.sparse = wanted
        if self.kind == "ngrams":
            self.groups.sparse = wanted

    def forward(self, words: Words) -> Tensor:
        """Vectors of a batch.

        Shapes   returns (time, batch, output_size)
        """
        dropped = torch.rand(words.places.shape) < self.word_dropout if self.training and self.word_dropout else None
        if self.kind == "ngrams":
            vectors = self.dropout(self.own(words.known) + self._grouped(words))
            found = functional.embedding(words.places, vectors)
            return found if dropped is None else found.masked_fill(dropped[..., None], 0)
        numbers = words.known[words.places]
        own = self.own(numbers if dropped is None else numbers.masked_fill(dropped, 0))
        if self.kind == "characters":
            own = torch.cat([own, functional.embedding(words.places, self._spelled(words))], -1)
        return torch.as_tensor(self.dropout(own))

    def of_words(self, words: Words) -> Tensor:
        """The vector of each distinct word, as it is without dropout.

        Shapes   returns (distinct, output_size)
        """
        own: Tensor = self.own(words.known)
        if self.kind == "ngrams":
            return own + self._grouped(words)
        return torch.cat([own, self._spelled(words)], -1) if self.kind == "characters" else own

    def _grouped(self, words: Words) -> Tensor:
        """The sum of each distinct word's n-grams."""
        kept = None
        if self.training and self.piece_dropout:
            kept = functional.dropout(torch.ones(len(words.pieces)), self.piece_dropout)
        return torch.as_tensor(self.groups(words.pieces, words.begins, per_sample_weights=kept))

    def _spelled(self, words: Words) -> Tensor:
        """What each distinct word's characters give."""
        ends = torch.cat([words.begins[1:], words.begins.new_tensor([len(words.pieces)])])
        lengths = ends - words.begins
        if not len(lengths):
            return self.characters.weight.new_zeros(0, self.speller.output_size)
        letters = pad_sequence(list(words.pieces.split(lengths.tolist())))
        y, _ = self.speller(self.characters(letters), lengths=lengths)
        return torch.as_tensor(self.ends(y, lengths))
