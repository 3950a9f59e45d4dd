"""A trained classifier: it gives texts labels, says how sure it is, and what of a text it goes by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.cells import resolve
from unrolled.data.examples import Examples, examples, sources_of
from unrolled.data.labelled import normalised
from unrolled.data.reader import Reader
from unrolled.data.unlabelled import Unlabelled
from unrolled.data.words import Encoded, Numbers
from unrolled.errors import UsageError, short
from unrolled.language import Cell, parse
from unrolled.layers import SequenceLayer, Stacked, sliced
from unrolled.layers.words import Words
from unrolled.models.bag import Bag
from unrolled.models.many_to_one import ManyToOne, SlicedToOne
from unrolled.models.text import Member, TextModel
from unrolled.options import ClassifyOptions
from unrolled.report import Section, model_card
from unrolled.run import RunFolder
from unrolled.tasks.base import configured, with_weights
from unrolled.tasks.classify.assess import assess
from unrolled.tasks.classify.explain import Influence, influences
from unrolled.tasks.classify.figures import Probabilities, decided
from unrolled.tasks.classify.labels import Labels
from unrolled.tasks.classify.pages import card_figures, sections, told
from unrolled.tasks.reading import (
    TextRun,
    check_recorded,
    in_batches,
    known_again,
    layers_of,
    within_memory,
    word_vectors,
)

# What is not recurrent, and the cell whose equations it follows.
COMPARED = {"bag-of-words": "bag-of-words", "mlp": "mlp", "window-mlp": "mlp"}


class Prediction(NamedTuple):
    """The label of a text, or its labels, how likely it is held, and how likely each label is."""

    label: str
    probability: float
    probabilities: Mapping[str, float]


def cell_of(options: ClassifyOptions) -> Cell:
    """The cell whose equations the model has.

    Raises   UsageError where a cell is asked for that the kind of model does not have
    """
    given, follows = resolve(options.cell), COMPARED.get(options.model)
    if follows is None:
        return given
    if given not in (resolve(ClassifyOptions.cell), resolve(follows)):
        raise UsageError(f"a {options.model} has no cell of its own: leave out cell, or model")
    return resolve(follows)


def build(options: ClassifyOptions, cell: Cell, reader: Reader, labels: Labels) -> TextModel:
    """A new model of these options.

    Raises   UnrolledError when it is too large for the memory
    """
    # The mean of a bag is its last output.
    pooling = "last" if options.model == "bag-of-words" else options.pooling

    def member() -> Member:
        vectors = word_vectors(options, reader)
        if options.structure == "sliced":
            level = replace(options, structure="deep", layers=1)

            def make(index: int, size: int) -> SequenceLayer:
                layer = layers_of(level, cell, size)
                return Stacked(nn.Dropout(options.dropout), layer) if index else layer

            layers = sliced(make, vectors.output_size, parts=options.parts, times=options.layers - 1)
            return Member(vectors, SlicedToOne(layers, labels.scores, dropout=options.dropout))
        layer = layers_of(options, cell, vectors.output_size, options.model, options.words)
        return Member(vectors, ManyToOne(layer, labels.scores, pooling=pooling, dropout=options.dropout))

    with within_memory(options):
        bag = Bag(reader.wide, labels.scores) if reader.wide else None
        return TextModel([member() for _ in range(options.members)], bag)


def read_all(encoded: Encoded, rows: Numbers, call: Callable[[Words], Tensor]) -> tuple[Numbers, Tensor]:
    """What a model gives of texts, such as their scores, and the rows that they are of, in another order."""
    found = list(in_batches(encoded, rows, call))
    return np.concatenate([rows for rows, _ in found]), torch.cat([scores for _, scores in found])


class ClassifyRun(TextRun):
    """A trained classifier."""

    unit = "texts"
    model: TextModel

    def __init__(
        self,
        cell: Cell,
        model: TextModel,
        reader: Reader,
        labels: Labels,
        config: Mapping[str, Any],
        metrics: Sequence[Mapping[str, Any]] = (),
    ):
        super().__init__(cell, model, config, metrics)
        self.reader, self.labels = reader, labels

    @classmethod
    def opened(cls, folder: RunFolder) -> ClassifyRun:
        """The run that a folder holds.

        Raises   UsageError when its configuration makes no sense or its weights do not fit
        """
        options = configured(folder.config)
        check_recorded(folder.config, ("columns", "label", "texts", "held_out_texts"))
        cell = parse(folder.cell)
        try:
            if not isinstance(folder.vocabulary, Mapping) or set(folder.vocabulary) != {"reader", "labels"}:
                raise ValueError("it must have a reader and labels")
            reader = Reader.from_json(folder.vocabulary["reader"])
            labels = Labels.from_json(folder.vocabulary["labels"])
        except ValueError as error:
            raise UsageError(f"vocabulary.json is damaged: {error}") from None
        model = with_weights(lambda: build(options["model"], cell, reader, labels), folder.weights)
        return cls(cell, model, reader, labels, folder.config, folder.metrics)

    def probabilities(self, texts: Sequence[str | Sequence[str]]) -> Probabilities:
        """How likely each label of each text is.

        texts     each one text, or one of each column that was trained on

        Shapes   returns (texts, label), in the order of `labels.names`
        Raises   UsageError for what is no text, or has other columns
        """
        read = [self.reader.split(*self._columns(text)) for text in texts]
        encoded = self.reader.encode(read)
        found = np.zeros((len(read), len(self.labels.names)))
        if len(read):
            with torch.inference_mode():
                rows, scores = read_all(encoded, np.arange(len(read)), self.model.eval())
                found[rows] = self.labels.probabilities(scores).numpy()
        return found

    def _columns(self, text: str | Sequence[str]) -> tuple[str, ...]:
        expected = self.config["recorded"]["columns"]
        columns = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, Sequence) else ()
        if not columns or not all(isinstance(each, str) for each in columns):
            raise UsageError(f"{short(text)} is no text")
        if len(columns) != len(expected):
            raise UsageError(
                f"a text has {len(expected)} columns, {', '.join(expected)}, not {len(columns)}: give "
                + ("a text" if len(expected) == 1 else "a tuple of texts for each")
            )
        return tuple(map(normalised, columns))

    def predict(self, texts: str | Sequence[str | Sequence[str]]) -> Any:
        """The label of a text, a `Prediction`, or a list of them for a list of texts.

        Where a text may have several labels, those with a probability above a half are given, joined by the separator,
        and the probability is that of the least likely of them; where none is given, that it has none of them.

        Raises   UsageError for what is no text
        """
        if isinstance(texts, str):
            return self.predict([texts])[0]
        if not isinstance(texts, Iterable):
            raise UsageError(f"{short(texts)} is no text, nor a list of texts")
        texts = list(texts)
        return [self._predicted(row) for row in self.probabilities(texts)]

    def _predicted(self, row: np.ndarray[Any, np.dtype[np.float64]]) -> Prediction:
        given = decided(row[None], bool(self.labels.separator))[0]
        names = [self.labels.names[place] for place in np.flatnonzero(given)]
        sure = float(row[given].min()) if given.any() else float(1 - row.max())
        shown = (self.labels.separator or " ").join(names)
        return Prediction(shown, sure, dict(zip(self.labels.names, row.tolist(), strict=True)))

    def evaluate(
        self, data: Any, *, encoding: str = "", column: str | None = None, label: str | None = None,
        skip_bad: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """How good the model is on texts with labels: what `assess` gives.

        data      as `unrolled.train` takes them
        column    that of the texts, several with commas between; label that of the labels: as in training if not given
        skip_bad  leave out what cannot be used, such as texts with labels that no text had in training

        Raises   UsageError for data that cannot be read
        """
        read = self._examples(data, encoding, column, label, skip_bad)
        held = list(read)
        found = self.probabilities([example.texts for example in held])
        again = known_again([self.reader.split(*example.texts) for example in held], self.model.seen)
        return {
            **assess([(str(self.config["model"]["model"]), found)], self.labels, held, again),
            "skipped": read.skipped,
            "notices": read.notices,
        }

    def _examples(self, data: Any, encoding: str, column: str | None, label: str | None, skip_bad: bool) -> Examples:
        recorded = self.config["recorded"]
        return examples(
            data,
            encoding=encoding or self.config["data"]["encoding"],
            text=column or recorded["columns"],
            label=label or recorded["label"],
            skip_bad=skip_bad,
            separator=self.labels.separator,
            check=lambda example: self.labels.numbers(example.label),
        )

    def rows(self, data: Any, *, column: str = "", encoding: str = "", skip_bad: bool = False) -> Unlabelled:
        """The rows of files, or of a table in memory, whose texts can be given to `predict`.

        column   that of the texts, several with commas between; as in training if not given
        """
        columns = [name.strip() for name in column.split(",")] if column else list(self.config["recorded"]["columns"])
        expected = len(self.config["recorded"]["columns"])
        if len(columns) != expected:
            raise UsageError(f"the model reads {expected} columns, not {len(columns)}: {', '.join(columns)}")
        encoding = encoding or self.config["data"]["encoding"]
        return Unlabelled(sources_of(data, encoding), columns, skip_bad=skip_bad)

    def explain(self, text: str | Sequence[str], label: str = "") -> list[Influence]:
        """What each part of a text does for a label: the one that the model gives, if not given.

        Raises   UsageError for what is no text, or a label that there is not
        """
        parts = self.reader.split(*self._columns(text))
        wanted = self.labels.numbers(label or self.predict([text])[0].label)
        # A text without a label: what speaks for the first one.
        return influences(self.model.eval(), self.reader, parts, self.labels, wanted[0] if wanted else 0)

    def told(self, measured: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """What an evaluation has measured, for people."""
        return told(measured)

    def assessed(self) -> Sequence[tuple[str, str]]:
        """What was measured of the held-out texts, method by method, for people."""
        return card_figures(self.assessment)

    def sections(self) -> Sequence[Section]:
        """What the report shows of this task."""
        return sections(self)

    def vocabulary_json(self) -> Any:
        """The words and labels as they are written."""
        return {"reader": self.reader.to_json(), "labels": self.labels.to_json()}

    def card(self) -> str:
        """The model card."""
        found, model = self.config["recorded"], self.config["model"]
        names = ", ".join(Path(file["path"]).name for file in found.get("files", [])) or "texts given in Python"
        labels = self.labels.names
        return model_card(
            self.title,
            f"A model that reads {self.config['data']['unit']} and gives a text its label. It was trained on {names}.",
            [
                ("model", model["model"]),
                ("cell", self.cell.name),
                ("layers", str(model["layers"])),
                ("units", str(model["hidden_size"])),
                ("parameters", f"{self.parameters:,}"),
                ("labels", f"{len(labels):,}: {', '.join(labels[:12])}{' …' if len(labels) > 12 else ''}"),
                ("texts", f"{found['texts']:,} to train on, {found['held_out_texts']:,} to evaluate on"),
                ("unrolled", str(self.config.get("version", ""))),
            ],
            card_figures(self.assessment),
            'import unrolled\n\nrun = unrolled.load("PATH OF THIS FOLDER")\nprint(run.predict("A TEXT"))',
            ("classify", "text-classification"),
        )
