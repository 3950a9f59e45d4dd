"""Sentences with a label for each token, split and encoded, and the model that learns them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unrolled.cells import resolve
from unrolled.data.examples import split
from unrolled.data.reader import learn_reader, spelling_of
from unrolled.data.sentences import Sentences, sentences
from unrolled.data.subwords import SUBWORDS
from unrolled.data.words import Encoded, Lexicon, Numbers, Texts
from unrolled.errors import UsageError, short
from unrolled.models.tagger import Tagger
from unrolled.options import TagDataOptions, TagOptions, TagTrainingOptions
from unrolled.tasks.base import Loss, Run, configuration_of
from unrolled.tasks.classify.labels import Labels
from unrolled.tasks.reading import (
    IDLE_SHARE,
    SHOWN_ROWS,
    Batch,
    TextTask,
    begin_with,
    described,
    refuse_idle,
    refuse_idle_spelling,
    seen,
    with_paths,
)
from unrolled.tasks.tag.assess import Method, assess
from unrolled.tasks.tag.baseline import MostFrequent
from unrolled.tasks.tag.reading import Read, build, checker, in_batches, read
from unrolled.tasks.tag.run import TagRun
from unrolled.tasks.tag.scores import figures
from unrolled.tasks.tag.tags import Tags

SHOWN_LABELS = 12
# Held-out sentences that are read at an evaluation in training, at most.
EVALUATED_SENTENCES = 5_000


class TagTask(TextTask):
    """Sentences with labels, split and encoded, and the model that learns them.

    Of a sentence that is too long the first tokens are learned; all are assessed in the end, read in pieces.

    Raises   UsageError when there are too few sentences or labels, or the options do not fit together
    """

    name = "tag"
    unit = "tokens"
    model: Tagger
    given: Sentences
    other: Sentences | None

    def __init__(self, given: Sentences, data: TagDataOptions, model: TagOptions, training: TagTrainingOptions):
        self.given, self.data, self.options = given, with_paths(data, "held_out_data"), with_paths(model, "vectors")
        data, model = self.data, self.options
        if model.forward_too and not model.bidirectional:
            raise UsageError("a network that reads forward only has nothing to compare with: leave out forward_too")
        if data.held_out_data:
            refuse_idle(data, ("held_out",), IDLE_SHARE)
        if data.unit in SUBWORDS or data.symbols is not None:
            raise UsageError(
                "tokens are labelled as the data have them, and no subwords learned: leave out unit, symbols"
            )
        self.cell = resolve(model.cell)
        self.tags = Tags.of(given.labels, data.scheme)
        self.intents = Labels.of(given.intents) if data.intent else None
        self.other = self._held_out_data() if data.held_out_data else None
        count = len(given)
        if self.other is None:
            train, held_out = split(given.intents, data.held_out, training.seed)
        else:
            train, held_out = np.arange(count), np.arange(count, count + len(self.other))
        self.reader = learn_reader(data.unit, [], longest=data.longest)
        texts = Texts(sentence.tokens[: data.longest] for sentence in self._all())
        counts = texts.counts(train)
        spelling = spelling_of(model.spelling, data.unit, counts, model.buckets, "characters")
        refuse_idle_spelling(model, spelling)
        self.reader.lexicon = Lexicon.of(counts, spelling, data.min_count)
        super().__init__(Encoded(texts, self.reader.lexicon), train, held_out, training)
        labels = [*given.labels, *(self.other.labels if self.other is not None else [])]
        self.wanted = [self.tags.numbers(each[: data.longest]) for each in labels]
        self.classes = self._classes()
        self.model = build(model, self.cell, self.reader, self.tags, self.intents)
        for tagger in self.model.each():
            if training.optimiser == "adamw":
                tagger.vectors.by_rows()
        self.model.seen = seen([texts.parts(int(row)) for row in train])
        self.notices += [*given.notices, *(self.other.notices if self.other is not None else [])]
        self.notices += self._said_of(labels)
        if model.vectors:
            for tagger in self.model.each():
                said = begin_with(tagger.vectors, model.vectors, self.reader)
            self.notices.append(said)
        self._try_one_step()

    @classmethod
    def reading(cls, data: Any, settled: Mapping[str, Any], begun: Run | None = None) -> TagTask:
        """The task on labelled sentences; a run that it goes on from has nothing to give but its options."""
        options = settled["data"]
        given = sentences(
            data,
            encoding=options.encoding,
            text=options.text,
            label=options.label,
            intent=options.intent,
            skip_bad=options.skip_bad,
        )
        return cls(given, **settled)

    def _held_out_data(self) -> Sentences:
        """The sentences to evaluate on, of a file of their own."""
        columns = self.given.columns
        return sentences(
            self.data.held_out_data,
            encoding=self.data.encoding,
            text=columns.tokens,
            label=columns.labels,
            intent=columns.intent,
            skip_bad=self.data.skip_bad,
            check=checker(self.tags, self.intents),
        )

    def _classes(self) -> Tensor | None:
        """The class of each sentence."""
        if self.intents is None:
            return None
        return self.intents.targets([*self.given.intents, *(self.other.intents if self.other is not None else [])])

    def _said_of(self, labels: Sequence[Sequence[str]]) -> list[str]:
        """What the user should know of the labels and the lengths."""
        found = []
        wrong = [self.tags.misfits(each) for each in labels]
        if any(wrong):
            found.append(
                f"{sum(wrong):,} tags of {np.count_nonzero(wrong):,} sentences do not fit those beside them in "
                f"{self.tags.scheme}: mended, an entity that goes on without having begun begins there."
            )
        long = sum(len(each) > self.data.longest for each in labels)
        if long:
            found.append(
                f"{long:,} sentences have more than {self.data.longest:,} tokens: the first are learned, "
                "all are labelled, piece by piece."
            )
        return found

    @property
    def description(self) -> list[tuple[str, str]]:
        """What was understood of the data."""
        lengths = self.encoded.lengths
        rows = [
            ("sentences", f"{len(self.train):,} to train on, {len(self.held_out):,} to evaluate on"),
            ("labels", _counted(chain.from_iterable(self.given.labels))),
            ("lengths", described(lengths[self.train], "tokens")),
            (
                "words",
                f"{len(self.reader.lexicon) - 1:,} with vectors of their own, spelling: "
                f"{self.reader.lexicon.spelling.kind}"
                + (f"; unknown: {self._unknown(self.held_out):.2%} of what is held out" if len(self.held_out) else ""),
            ),
            ("model", f"{self.cell.name}{', CRF' if self.options.crf else ''}, {self._parameters():,} parameters"),
            ("batches", f"{self.steps_per_epoch:,} an epoch; {self.padding:.1%} of their steps are padding"),
        ]
        if self.tags.scheme:
            inner = f", {self.tags.inner} in the model" if self.tags.inner != self.tags.scheme else ""
            rows.insert(2, ("scheme", f"{self.tags.scheme}{inner}"))
        if self.intents is not None:
            rows.insert(2, ("intents", _counted(self.given.intents)))
        again = self._known_again()
        if again.any():
            rows.insert(1, ("duplicates", f"{again.mean():.1%} of the sentences to evaluate on stand among the others"))
        return rows

    def size(self, rows: Numbers) -> int:
        """The tokens."""
        return int(self.encoded.lengths[rows].sum())

    def shown(self) -> list[str]:
        """The first sentences as the network reads them, with their labels."""
        return [
            " ".join(
                f"{token}/{self.tags.names[number]}"
                for token, number in zip(self.encoded.texts.parts(int(row)), self.wanted[row], strict=True)
            )
            for row in self.train[:SHOWN_ROWS]
        ]

    def _targets(self, rows: Numbers) -> Tensor:
        """The numbers of labels that are wanted.

        Shapes   returns (time, batch), 0 in the padding
        """
        found = np.zeros((int(self.encoded.lengths[rows].max()), len(rows)), np.int64)
        for column, row in enumerate(rows):
            found[: len(self.wanted[row]), column] = self.wanted[row]
        return torch.from_numpy(found)

    def loss(self, window: Batch, state: None) -> tuple[Loss, None]:
        """The loss of a batch, the mean over its tokens; that of the intents, the mean over its sentences, besides."""
        found, *others = [self._loss(tagger, window) for tagger in self.model.each()]
        # Each learns from its own loss.
        return found._replace(objective=sum((other.objective for other in others), found.objective)), state

    def _loss(self, tagger: Tagger, window: Batch) -> Loss:
        scores, lengths, smoothing = tagger(window.words), window.words.lengths, self.training.label_smoothing
        total = tagger.loss(scores.labels, self._targets(window.rows), lengths, smoothing=smoothing).sum()
        mean = total / lengths.sum()
        if self.intents is None or self.classes is None:
            return Loss(mean, mean, total)
        whole = self.intents.loss(scores.intents, self.classes[window.rows], smoothing=smoothing).mean()
        return Loss(mean + whole, mean, total)

    def measure(self) -> tuple[float, Mapping[str, float]]:
        """The loss of the held-out labels, of an even part of many sentences, a token; entity F1 or accuracy."""
        rows = self.held_out[:: -(-len(self.held_out) // EVALUATED_SENTENCES)]
        nats = 0.0
        found: dict[int, Read] = {}
        for places, words, scores in in_batches(self.model, self.encoded, rows):
            nats += float(self.model.loss(scores.labels, self._targets(places), words.lengths).sum())
            found |= zip(places.tolist(), read(self.model, words, scores), strict=True)
        given = [self.tags.labels(found[row].numbers.tolist()) for row in rows.tolist()]
        wanted = [self.tags.labels(self.wanted[row].tolist()) for row in rows]
        measured = figures(wanted, given, self.tags.scheme, [np.zeros(len(each), bool) for each in wanted])
        kept: dict[str, float] = {name: measured[name] for name in ("entity_f1", "accuracy") if name in measured}
        if self.intents is not None and self.classes is not None:
            whole = torch.stack([torch.as_tensor(found[row].intents) for row in rows.tolist()])
            likeliest = self.intents.probabilities(whole).argmax(1)
            kept["intent_accuracy"] = float((likeliest == self.classes[rows]).double().mean())
        return nats / max(1, int(self.encoded.lengths[rows].sum())), kept

    def conclude(self) -> Sequence[Mapping[str, Any]]:
        """How good the model is on all held-out sentences, and how good it is to know nothing but words."""
        if not len(self.held_out):
            return []
        held = list(self._of(self.held_out))
        methods = self.run([]).methods(held)
        if self.training.baselines:
            trained = self._of(self.train)
            usual = MostFrequent((each.tokens, self.tags.mended(each.labels), each.intent) for each in trained)
            given = [self.tags.mended(usual.labels(sentence.tokens)) for sentence in held]
            whole = [usual.intent] * len(held) if self.intents is not None else []
            methods.append(Method(usual.name, given, intents=whole))
        again, is_known = self._known_again(), self.reader.lexicon.__contains__
        return [{"event": "assessment", **assess(methods, self.tags, held, again, is_known)}]

    def run(self, metrics: Sequence[Mapping[str, Any]], steps: int | None = None) -> TagRun:
        """What was trained, ready to be used and saved; `steps` that were fixed for the training."""
        tables = {"data": self.data, "model": self.options, "training": self.training}
        recorded = {
            "steps": steps,
            "sentences": len(self.train),
            "held_out_sentences": len(self.held_out),
            "column": self.given.columns.tokens,
            "label": self.given.columns.labels,
            "digest": self.digest,
            "files": [asdict(file) for file in self.given.files],
            "held_out_files": [asdict(file) for file in self.other.files] if self.other is not None else [],
            "padding": self.padding,
            "description": self.understood,
        }
        config = configuration_of(self.name, self.cell, tables, recorded)
        return TagRun(self.cell, self.model, self.reader, self.tags, self.intents, config, metrics)


def _counted(labels: Any) -> str:
    """How many labels there are, the most frequent ones with their numbers."""
    counts = Counter(labels)
    shown = ", ".join(f"{short(label)} {count:,}" for label, count in counts.most_common(SHOWN_LABELS))
    more = f" and {len(counts) - SHOWN_LABELS:,} more" if len(counts) > SHOWN_LABELS else ""
    return f"{len(counts):,}: {shown}{more}"
