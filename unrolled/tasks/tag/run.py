"""A trained tagger: it labels the tokens of sentences, says how sure it is, and which labels come next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.data.labelled import normalised
from unrolled.data.reader import Reader
from unrolled.data.sentences import Sentence, Sentences, sentences, sources_of_tokens
from unrolled.data.splitting import splitter
from unrolled.data.unlabelled import Unlabelled
from unrolled.errors import UsageError, short
from unrolled.language import Cell, parse
from unrolled.models.tagger import Tagger
from unrolled.report import Section, model_card
from unrolled.run import RunFolder
from unrolled.tasks.base import configured, with_weights
from unrolled.tasks.classify.labels import Labels
from unrolled.tasks.reading import TextRun, check_recorded, known_again
from unrolled.tasks.tag.assess import Method, assess
from unrolled.tasks.tag.pages import card_figures, sections, told
from unrolled.tasks.tag.reading import build, checker, read_in_pieces
from unrolled.tasks.tag.tags import Tags


class Tagged(NamedTuple):
    """The tokens of a sentence, the label of each and how likely it is held; and the class of the whole, if one is
    given: empty where there is none, or none that is likely enough.
    """

    tokens: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    intent: str = ""
    intent_probability: float = 0.0


class TagRun(TextRun):
    """A trained tagger."""

    unit = "tokens"
    model: Tagger

    def __init__(
        self,
        cell: Cell,
        model: Tagger,
        reader: Reader,
        tags: Tags,
        intents: Labels | None,
        config: Mapping[str, Any],
        metrics: Sequence[Mapping[str, Any]] = (),
    ):
        super().__init__(cell, model, config, metrics)
        self.reader, self.tags, self.intents = reader, tags, intents

    @classmethod
    def opened(cls, folder: RunFolder) -> TagRun:
        """The run that a folder holds.

        Raises   UsageError when its configuration makes no sense or its weights do not fit
        """
        options = configured(folder.config)
        check_recorded(folder.config, ("column",))
        cell = parse(folder.cell)
        try:
            if not isinstance(folder.vocabulary, Mapping) or set(folder.vocabulary) != {"reader", "tags", "intents"}:
                raise ValueError("it must have a reader, tags and intents")
            reader = Reader.from_json(folder.vocabulary["reader"])
            tags = Tags.from_json(folder.vocabulary["tags"])
            whole = folder.vocabulary["intents"]
            intents = None if whole is None else Labels.from_json(whole)
        except ValueError as error:
            raise UsageError(f"vocabulary.json is damaged: {error}") from None
        model = with_weights(lambda: build(options["model"], cell, reader, tags, intents), folder.weights)
        return cls(cell, model, reader, tags, intents, folder.config, folder.metrics)

    def split(self, text: str) -> list[str]:
        """The tokens of a text, as `predict` takes it apart: of the unit `words`, signs stand apart from words."""
        return splitter(self.reader.unit)(text)

    def predict(self, sentences: str | Sequence[str] | Sequence[Sequence[str]], *, fallback: float = 0.0) -> Any:
        """The labels of a sentence, a `Tagged`, or a list of them for a list of sentences.

        sentences   a text, which `split` takes apart; or a list of tokens; or a list of such lists
        fallback    the probability below which the class of the whole is given as none

        Raises   UsageError for what is no sentence
        """
        if isinstance(sentences, str):
            return self._tagged([self.split(sentences)], fallback)[0]
        if not isinstance(sentences, list | tuple):
            raise UsageError(f"a sentence is a text or a list of tokens, not {short(sentences)}")
        given = list(sentences)
        if given and all(isinstance(token, str) for token in given):
            return self._tagged([[str(token) for token in given]], fallback)[0]
        return self._tagged(given, fallback)

    def _tagged(self, given: Sequence[Sequence[str]], fallback: float, tagger: Tagger | None = None) -> list[Tagged]:
        texts = [_checked(tokens) for tokens in given]
        found = []
        for tokens, (numbers, probabilities, scores) in zip(
            given, read_in_pieces(tagger or self.model, self.reader, texts), strict=True
        ):
            labels = self.tags.labels(numbers.tolist())
            intent, probability = self._whole(scores)
            kept = intent if probability >= fallback else ""
            found.append(Tagged(tuple(tokens), tuple(labels), tuple(probabilities.tolist()), kept, probability))
        return found

    def _whole(self, scores: Tensor | None) -> tuple[str, float]:
        """The class of a sentence, and how likely it is held."""
        if self.intents is None or scores is None:
            return "", 0.0
        probabilities = self.intents.probabilities(scores[None])[0]
        likeliest = int(probabilities.argmax())
        return self.intents.names[likeliest], float(probabilities[likeliest])

    def n_best(self, sentence: str | Sequence[str], count: int = 5) -> list[tuple[tuple[str, ...], float]]:
        """The likeliest sequences of labels of a sentence, and how likely each is held; fewer where there are fewer.

        Raises   UsageError for a model without a chain, a sentence that is too long, what is no sentence
        """
        if self.model.crf is None:
            raise UsageError("each label is scored by itself: train with crf, which scores them with the ones before")
        tokens = _checked(self.split(sentence) if isinstance(sentence, str) else sentence)
        if len(tokens) > self.reader.longest:
            raise UsageError(f"the sentence has {len(tokens):,} tokens; {self.reader.longest:,} are read at once")
        words = self.reader.encode([tokens]).batch([0])
        with torch.inference_mode():
            found, logs = self.model.crf.best(self.model.eval()(words).labels, words.lengths, count)
        return [
            (tuple(self.tags.labels(labels[:, 0].tolist())), float(log[0].double().exp()))
            for labels, log in zip(found, logs, strict=True)
            if bool(log[0].isfinite())
        ]

    def evaluate(
        self, data: Any, *, encoding: str = "", column: str | None = None, label: str | None = None,
        skip_bad: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """How good the model is on labelled sentences: what `assess` gives.

        data      as `unrolled.train` takes them
        column    that of the tokens, label that of their labels: as in training if not given
        skip_bad  leave out what cannot be used, such as sentences with labels that none had in training

        Raises   UsageError for data that cannot be read
        """
        read = self._labelled(data, encoding, column, label, skip_bad)
        held = list(read)
        again = known_again([sentence.tokens[: self.reader.longest] for sentence in held], self.model.seen)
        found = assess(self.methods(held), self.tags, held, again, self.reader.lexicon.__contains__)
        return {**found, "skipped": read.skipped, "notices": read.notices}

    def rows(self, data: Any, *, column: str = "", encoding: str = "", skip_bad: bool = False) -> Unlabelled:
        """The rows of files, or of a table in memory, as they are; the column has a text, or a list of tokens.

        column   that of the tokens; as in training if not given
        """
        column = column or self.config["recorded"]["column"]
        encoding = encoding or self.config["data"]["encoding"]
        return Unlabelled(sources_of_tokens(data, encoding), [column], skip_bad=skip_bad)

    def _labelled(
        self, data: Any, encoding: str, column: str | None, label: str | None, skip_bad: bool
    ) -> Sentences:  # fmt: skip
        recorded = self.config["recorded"]
        return sentences(
            data,
            encoding=encoding or self.config["data"]["encoding"],
            text=column or recorded["column"],
            label=label or recorded["label"],
            intent=self.config["data"]["intent"],
            skip_bad=skip_bad,
            check=checker(self.tags, self.intents),
        )

    def methods(self, held: Sequence[Sentence]) -> list[Method]:
        """What the model gives of sentences, to be assessed; then what the one that reads forward only gives."""
        names = (self.cell.name, f"{self.cell.name}, forward only")
        return [self._method(name, tagger, held) for name, tagger in zip(names, self.model.each(), strict=False)]

    def _method(self, name: str, tagger: Tagger, held: Sequence[Sentence]) -> Method:
        found = self._tagged([sentence.tokens for sentence in held], 0.0, tagger)
        intents = [each.intent for each in found] if self.intents is not None else []
        probabilities = [np.array(each.probabilities) for each in found]
        return Method(name, [each.labels for each in found], probabilities, intents)

    def told(self, measured: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        """What an evaluation has measured, for people."""
        return told(measured)

    def assessed(self) -> Sequence[tuple[str, str]]:
        """What was measured of the held-out sentences, method by method, for people."""
        return card_figures(self.assessment)

    def sections(self) -> Sequence[Section]:
        """What the report shows of this task."""
        return sections(self.assessment)

    def vocabulary_json(self) -> Any:
        """The words and labels as they are written."""
        intents = None if self.intents is None else self.intents.to_json()
        return {"reader": self.reader.to_json(), "tags": self.tags.to_json(), "intents": intents}

    def card(self) -> str:
        """The model card."""
        found, model, names = self.config["recorded"], self.config["model"], self.tags.names
        files = ", ".join(Path(file["path"]).name for file in found.get("files", [])) or "sentences given in Python"
        whole = [] if self.intents is None else [("intents", ", ".join(self.intents.names))]
        return model_card(
            self.title,
            f"A model that gives each token of a sentence its label. It was trained on {files}.",
            [
                ("cell", self.cell.name),
                ("layers", str(model["layers"])),
                ("units", str(model["hidden_size"])),
                ("conditional random field", "yes" if model["crf"] else "no"),
                ("parameters", f"{self.parameters:,}"),
                ("labels", f"{len(names):,}: {', '.join(names[:24])}{' …' if len(names) > 24 else ''}"),
                *whole,
                ("sentences", f"{found['sentences']:,} to train on, {found['held_out_sentences']:,} to evaluate on"),
                ("unrolled", str(self.config.get("version", ""))),
            ],
            card_figures(self.assessment),
            'import unrolled\n\nrun = unrolled.load("PATH OF THIS FOLDER")\nprint(run.predict("A SENTENCE"))',
            ("tag", "token-classification"),
        )


def _checked(tokens: Any) -> list[str]:
    """The tokens of a sentence in Unicode form NFC.

    Raises   UsageError for what is no list of texts
    """
    if not isinstance(tokens, list | tuple) or not all(isinstance(token, str) for token in tokens):
        raise UsageError(f"a sentence is a text or a list of tokens, not {short(tokens)}")
    return [normalised(token) for token in tokens]
