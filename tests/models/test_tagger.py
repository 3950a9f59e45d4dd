"""A tagger scores every word, and the sentence besides; padding and other sentences mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
import torch

from unrolled.data.words import Encoded, Lexicon, Spelling, Texts
from unrolled.layers import CRF, network
from unrolled.layers.words import WordVectors
from unrolled.models.tagger import Tagger

TEXTS = [["a", "bc", "d"], ["bc"], ["d", "a", "new", "a", "bc"]]
WANTED = torch.tensor([[0, 2, 1, 0, 0], [1, 0, 0, 0, 0], [2, 2, 0, 1, 1]]).T


def encoded(texts: Sequence[Sequence[str]] = TEXTS) -> Encoded:
    return Encoded(Texts(texts), Lexicon(["a", "bc", "d"], Spelling("characters", characters=["a", "b", "c", "d"])))


def tagger(crf: bool = False, intents: int = 0) -> Tagger:
    torch.manual_seed(0)
    lexicon = Lexicon(["a", "bc", "d"], Spelling("characters", characters=["a", "b", "c", "d"]))
    vectors = WordVectors(len(lexicon), 6, lexicon.spelling.kind, lexicon.spelling.size)
    layer = network("gru", vectors.output_size, 5, bidirectional=True)
    made = Tagger(vectors, layer, 3, crf=CRF(3) if crf else None, intents=intents)
    if made.crf is not None:
        for parameter in made.crf.parameters():
            torch.nn.init.normal_(parameter)
    return made.eval()


@pytest.mark.parametrize("crf", [False, True])
def test_scores_and_losses_of_a_sentence_are_the_same_alone_and_among_others(crf: bool) -> None:
    made = tagger(crf, intents=2)
    words = encoded().batch([0, 1, 2])
    scores = made(words)
    losses = made.loss(scores.labels, WANTED, words.lengths)
    labels, probabilities = made.given(scores.labels, words.lengths)
    for row, text in enumerate(TEXTS):
        alone = encoded([text]).batch([0])
        found = made(alone)
        length = len(text)
        torch.testing.assert_close(found.labels[:, 0], scores.labels[:length, row])
        torch.testing.assert_close(found.intents[0], scores.intents[row])
        loss = made.loss(found.labels, WANTED[:length, [row]], alone.lengths)
        torch.testing.assert_close(loss[0], losses[row])
        own, sure = made.given(found.labels, alone.lengths)
        assert own[:, 0].tolist() == labels[:length, row].tolist()
        torch.testing.assert_close(sure[:, 0], probabilities[:length, row])


def test_without_a_chain_the_loss_is_a_cross_entropy_of_each_word_and_can_be_smoothed() -> None:
    made, words = tagger(), encoded().batch([0, 1, 2])
    scores = made(words).labels
    logs = torch.log_softmax(scores, -1)
    expected = torch.stack([
        sum((-logs[step, row, WANTED[step, row]] for step in range(len(text))), torch.zeros(()))
        for row, text in enumerate(TEXTS)
    ])  # fmt: skip
    torch.testing.assert_close(made.loss(scores, WANTED, words.lengths), expected)
    smooth = torch.stack([-logs[: len(text), row].mean(-1).sum() for row, text in enumerate(TEXTS)])
    found = made.loss(scores, WANTED, words.lengths, smoothing=0.1)
    torch.testing.assert_close(found, 0.9 * expected + 0.1 * smooth)


def test_with_a_chain_labels_and_probabilities_are_those_of_whole_sequences() -> None:
    made = tagger(crf=True)
    words = encoded().batch([0])
    scores = made(words).labels
    known = {
        labels: float(torch.exp(-made.loss(scores, torch.tensor(labels)[:, None], words.lengths)).detach())
        for labels in product(range(3), repeat=3)
    }
    best = max(known, key=lambda labels: known[labels])
    given, sure = made.given(scores, words.lengths)
    assert tuple(given[:, 0].tolist()) == best
    for step in range(3):
        expected = sum(p for labels, p in known.items() if labels[step] == best[step])
        assert float(sure[step, 0]) == pytest.approx(expected, abs=1e-5)


def test_where_nothing_is_said_of_the_whole_there_is_nothing() -> None:
    assert tagger()(encoded().batch([0])).intents is None
