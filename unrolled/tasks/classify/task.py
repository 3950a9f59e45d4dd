"""Labelled texts, split and encoded, and the model that learns their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from unrolled.data.examples import Examples, examples, split
from unrolled.data.reader import closed, learn_reader, spelling_of
from unrolled.data.words import LONGEST, Lexicon, Numbers, Texts
from unrolled.errors import UsageError, short
from unrolled.models.text import TextModel
from unrolled.options import ClassifyDataOptions, ClassifyOptions, ClassifyTrainingOptions
from unrolled.tasks.base import Loss, Run, configuration_of
from unrolled.tasks.classify.assess import assess
from unrolled.tasks.classify.baselines import baselines
from unrolled.tasks.classify.figures import figures, one_hot
from unrolled.tasks.classify.labels import Labels
from unrolled.tasks.classify.run import ClassifyRun, build, cell_of, read_all
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

SHOWN_LABELS = 12
# Of the linear model, at most.
WEIGHTS = 2**23
# Held-out texts that are read at an evaluation in training, at most.
EVALUATED_TEXTS = 20_000


class ClassifyTask(TextTask):
    """Texts with labels, split and encoded, and the model that learns them.

    Raises   UsageError when there are too few texts or labels, or the options do not fit together
    """

    name = "classify"
    unit = "texts"
    model: TextModel
    given: Examples
    other: Examples | None

    def __init__(
        self, texts: Examples, data: ClassifyDataOptions, model: ClassifyOptions, training: ClassifyTrainingOptions
    ):
        self.given, self.data, self.options = texts, with_paths(data, "held_out_data"), with_paths(model, "vectors")
        data, model = self.data, self.options
        self.cell = cell_of(model)
        _refuse_what_is_idle(data, model)
        self.labels = Labels.of(texts.labels, data.separator)
        self.other = self._held_out_data() if data.held_out_data else None
        wanted = list(texts.labels)
        if self.other is None:
            train, held_out = split(wanted, data.held_out, training.seed)
        else:
            train, held_out = np.arange(len(wanted)), np.arange(len(wanted), len(wanted) + len(self.other))
            wanted += self.other.labels
        self.reader = learn_reader(
            data.unit, (example.texts for example in self._of(train)), longest=data.longest, symbols=data.symbols
        )
        read = Texts(self.reader.split(*example.texts) for example in self._all())
        counts = read.counts(train)
        spelling = spelling_of(model.spelling, data.unit, counts, model.buckets, "ngrams")
        refuse_idle_spelling(model, spelling)
        self.reader.lexicon = Lexicon.of(counts, spelling, 1 if closed(data.unit) else data.min_count)
        self.reader.wide = self._wide(read, train)
        super().__init__(self.reader.encode(read), train, held_out, training)
        self.targets = self.labels.targets(wanted)
        self.weights = torch.ones(len(wanted))
        self.weights[train] = self.labels.weights(self.targets[train], training.class_weights)
        self.model = build(model, self.cell, self.reader, self.labels)
        if training.optimiser == "adamw":
            for member in self.model.each():
                member.vectors.by_rows()
        self.model.seen = seen([read.parts(int(row)) for row in train])
        self.notices += [*texts.notices, *(self.other.notices if self.other is not None else [])]
        if self.reader.cut:
            self.notices.append(f"{self.reader.cut:,} texts are longer than {data.longest:,} {data.unit}: cut there")
        if model.vectors:
            for member in self.model.each():
                said = begin_with(member.vectors, model.vectors, self.reader)
            self.notices.append(said)
        self._try_one_step()

    @classmethod
    def reading(cls, data: Any, settled: Mapping[str, Any], begun: Run | None = None) -> ClassifyTask:
        """The task on labelled texts; a run that it goes on from has nothing to give but its options."""
        options = settled["data"]
        read = examples(
            data,
            encoding=options.encoding,
            text=options.text,
            label=options.label,
            skip_bad=options.skip_bad,
            separator=options.separator,
        )
        return cls(read, **settled)

    def _held_out_data(self) -> Examples:
        """The texts to evaluate on, of a file of their own."""
        columns = self.given.columns
        return examples(
            self.data.held_out_data,
            encoding=self.data.encoding,
            text=columns.texts,
            label=columns.label,
            skip_bad=self.data.skip_bad,
            separator=self.data.separator,
            check=lambda example: self.labels.numbers(example.label),
        )

    def _wide(self, read: Texts, train: Numbers) -> int:
        """Numbers for groups of characters: as many as asked for, fewer where the texts are few or the labels many."""
        if self.options.model != "recurrent" or not self.options.wide:
            return 0
        characters = sum(len(word) * count for word, count in read.counts(train).items())
        most = min(LONGEST * characters, WEIGHTS // self.labels.scores)
        return min(self.options.wide, 1 << max(8, most.bit_length() - 1))

    def prepare(self) -> None:
        """The linear model is learned at once."""
        if self.model.bag is None:
            return
        targets, weights = self.targets[self.train], self.weights[self.train]
        # Where a text may have several labels each is a regression of its own: their losses add up.
        labels = len(self.labels.names) if self.labels.separator else 1
        groups, starts = map(torch.from_numpy, self.encoded.groups(self.train))
        self.model.bag.learn(
            groups, starts, lambda scores: labels * (self.labels.loss(scores, targets) * weights).mean()
        )

    @property
    def description(self) -> list[tuple[str, str]]:
        """What was understood of the data."""
        lengths, unit = self.encoded.lengths, self.data.unit
        counts = Counter(self.given.labels)
        shown = ", ".join(f"{short(label)} {count:,}" for label, count in counts.most_common(SHOWN_LABELS))
        more = f" and {len(counts) - SHOWN_LABELS:,} more" if len(counts) > SHOWN_LABELS else ""
        rows = [
            ("texts", f"{len(self.train):,} to train on, {len(self.held_out):,} to evaluate on"),
            ("labels", f"{len(self.labels.names):,}: {shown}{more}"),
            ("lengths", described(lengths[self.train], unit)),
            (
                unit,
                f"{len(self.reader.lexicon) - 1:,} with vectors of their own, spelling: "
                f"{self.reader.lexicon.spelling.kind}; unknown: {self._unknown(self.train):.2%} of what is trained on"
                + (f", {self._unknown(self.held_out):.2%} of what is held out" if len(self.held_out) else ""),
            ),
            ("model", f"{self.options.model}, {self.cell.name}, {self._parameters():,} parameters"),
            ("batches", f"{self.steps_per_epoch:,} an epoch; {self.padding:.1%} of their steps are padding"),
        ]
        again = self._known_again()
        if again.any():
            rows.insert(1, ("duplicates", f"{again.mean():.1%} of the texts to evaluate on stand among the others"))
        return rows

    def shown(self) -> list[str]:
        """The first texts as the network reads them, with their labels."""
        return [
            f"{' | '.join(self.encoded.texts.parts(int(row)))} → {self.given.labels[row]}"
            for row in self.train[:SHOWN_ROWS]
        ]

    def loss(self, window: Batch, state: None) -> tuple[Loss, None]:
        """The loss of a batch; each text counts by its weight, and each member of the model learns alone."""
        targets, weights = self.targets[window.rows], self.weights[window.rows]
        scores = self.model.apart(window.words)
        parts = [self.labels.loss(each, targets, smoothing=self.training.label_smoothing) for each in scores]
        objective = torch.stack([(each * weights).mean() for each in parts]).sum()
        with torch.no_grad():
            together = self.labels.loss(scores.mean(0), targets)
        return Loss(objective, together.mean(), together.sum()), state

    def measure(self) -> tuple[float, Mapping[str, float]]:
        """The loss of the held-out texts, of an even part of many; accuracy or micro F1, and macro F1."""
        rows = self.held_out[:: -(-len(self.held_out) // EVALUATED_TEXTS)]
        order, parts = read_all(self.encoded, rows, self.model.parts)
        targets = self.targets[order]
        self.model.weigh(parts, lambda scores: self.labels.loss(scores, targets).mean())
        scores = self.model.together(parts)
        loss = float(self.labels.loss(scores, targets).mean())
        several = bool(self.labels.separator)
        probabilities = self.labels.probabilities(scores).numpy()
        found = figures(probabilities, one_hot(targets.numpy(), len(self.labels.names)), several)
        names = ("micro_f1", "macro_f1") if several else ("accuracy", "macro_f1")
        return loss, {name: found[name] for name in names}

    def conclude(self) -> Sequence[Mapping[str, Any]]:
        """How good the model is on all held-out texts, and how good simple methods are that learned the same."""
        if not len(self.held_out):
            return []
        held = list(self._of(self.held_out))
        with torch.inference_mode():
            order, scores = read_all(self.encoded, self.held_out, self.model.eval())
        probabilities = np.empty((len(order), len(self.labels.names)))
        probabilities[np.searchsorted(self.held_out, order)] = self.labels.probabilities(scores).numpy()
        methods = [(self.options.model, probabilities)]
        if self.training.baselines:
            texts = ["\n".join(example.texts) for example in self._of(self.train)]
            others = ["\n".join(example.texts) for example in held]
            wanted, several = self.targets[self.train].numpy(), bool(self.labels.separator)
            found = baselines(texts, wanted, len(self.labels.names), others, several=several, seed=self.training.seed)
            methods += [(each.name, each.probabilities) for each in found]
        return [{"event": "assessment", **assess(methods, self.labels, held, self._known_again())}]

    def run(self, metrics: Sequence[Mapping[str, Any]], steps: int | None = None) -> ClassifyRun:
        """What was trained, ready to be used and saved; `steps` that were fixed for the training."""
        tables = {"data": self.data, "model": self.options, "training": self.training}
        recorded = {
            "steps": steps,
            "texts": len(self.train),
            "held_out_texts": len(self.held_out),
            "columns": list(self.given.columns.texts),
            "label": self.given.columns.label,
            "digest": self.digest,
            "files": [asdict(file) for file in self.given.files],
            "held_out_files": [asdict(file) for file in self.other.files] if self.other is not None else [],
            "padding": self.padding,
            "description": self.understood,
        }
        config = configuration_of(self.name, self.cell, tables, recorded)
        return ClassifyRun(self.cell, self.model, self.reader, self.labels, config, metrics)


# What a network of layers alone has.
OF_LAYERS = (
    "bidirectional", "layers", "structure", "recurrent_dropout", "zoneout", "weight_drop", "chrono", "precision", "wide"
)  # fmt: skip


def _refuse_what_is_idle(data: ClassifyDataOptions, model: ClassifyOptions) -> None:
    """Raise UsageError for options that have no effect beside others."""
    if model.model != "recurrent":
        refuse_idle(model, OF_LAYERS, f"a {model.model} has none of that")
    if model.model != "window-mlp":
        refuse_idle(model, ("words",), "only a window-mlp sees so many words at once")
    if model.model == "bag-of-words":
        refuse_idle(model, ("pooling",), "a bag of words is pooled as a mean")
    if model.structure == "sliced":
        if model.layers < 2:
            raise UsageError("a sliced network has 2 layers or more: a text is cut once less than there are layers")
        slices = model.parts ** (model.layers - 1)
        if slices > data.longest:
            raise UsageError(
                f"{model.layers} layers of {model.parts} parts cut a text into {slices:,} slices, more than the "
                f"{data.longest:,} steps that are read of it: give fewer parts, or layers"
            )
        refuse_idle(model, ("pooling",), "a sliced network takes what was read at the end of each slice")
    else:
        refuse_idle(model, ("parts",), "only a sliced network cuts a text into parts")
    if closed(data.unit):
        refuse_idle(data, ("min_count",), f"no {data.unit} are unknown, however rare")
    if data.held_out_data:
        refuse_idle(data, ("held_out",), IDLE_SHARE)
