"""A text, split and encoded, and the model that learns it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from unrolled.cells import resolve
from unrolled.data.corpus import Corpus, corpus
from unrolled.data.numbering import texts
from unrolled.data.stream import IGNORED, SideBySide, Stream, Window, stream
from unrolled.data.subwords import SUBWORDS, learn_subwords
from unrolled.data.units import unit
from unrolled.data.vocabulary import Vocabulary
from unrolled.errors import UnrolledError, UsageError
from unrolled.models.sampling import Sampler
from unrolled.options import LanguageModelOptions, TextOptions, WindowOptions
from unrolled.tasks.base import Loss, Run, configuration_of
from unrolled.tasks.language_model.run import LanguageModelRun, build
from unrolled.tasks.language_model.scoring import score
from unrolled.tasks.language_model.start import adopt
from unrolled.tasks.language_model.writing import write

# Subwords, if nothing else is said.
SYMBOLS = 8000
# Held-out tokens that are read at an evaluation in training, at most.
EVALUATED_TOKENS = 2**18
SHOWN_ROWS, SHOWN_STEPS = 5, 64
SAMPLE_LENGTH = 200
SAMPLE_TEMPERATURE = 0.8


class LanguageModelTask:
    """A corpus, split and encoded, and the model that learns it.

    known     the vocabulary of an earlier run: what is new in the corpus is put at its end
    notices   what the user should know of what was found

    Raises   UsageError when there is too little text, or the options do not fit together
    """

    name = "language-model"

    def __init__(
        self,
        corpus: Corpus,
        data: TextOptions,
        model: LanguageModelOptions,
        training: WindowOptions,
        *,
        known: Vocabulary | None = None,
    ):
        self.corpus = corpus
        self.notices = list(corpus.notices)
        self.data = replace(
            data,
            end_token=data.end_token or ("document" if corpus.documents > 1 else "none"),
            min_count=data.min_count or (2 if data.unit == "words" else 1),
            symbols=data.symbols or (SYMBOLS if data.unit in SUBWORDS else None),
        )
        is_learned = data.unit in SUBWORDS
        if data.symbols is not None and not is_learned:
            raise UsageError(f"{data.unit} are not learned, so that their number cannot be chosen: leave out symbols")
        if (is_learned or unit(data.unit).closed) and (data.min_count or 1) > 1:
            raise UsageError(f"no {data.unit} are unknown, however rare: leave out min_count")
        self.cell = resolve(model.cell)
        self._cut = self._split()
        counted = self._count(known)
        self.unit = counted.unit.symbols
        self.vocabulary = counted if known is None else known.extended(counted)
        self.train_stream = self._stream(0, self._cut)
        self.held_out_stream = self._stream(self._cut, None) if self._cut < corpus.characters else None
        self.options = model
        self.training = replace(training, batch_size=self._rows(training))
        self._pieces = SideBySide(self.train_stream, self.training.batch_size)
        self.model = build(model, self.cell, len(self.vocabulary))
        self._try_one_step()

    @classmethod
    def reading(cls, data: Any, settled: Mapping[str, Any], begun: Run | None = None) -> LanguageModelTask:
        """The task on texts, and with the vocabulary of a run that it goes on from."""
        read = corpus(data, encoding=settled["data"].encoding, column=settled["data"].text)
        known = begun.vocabulary if isinstance(begun, LanguageModelRun) else None
        return cls(read, **settled, known=known)

    def _count(self, known: Vocabulary | None) -> Vocabulary:
        """The symbols of the text that is trained on; subwords are those of an earlier run, if there is one."""
        name, end_token = self.data.unit, self.data.end_token
        kind = unit("bytes" if name in SUBWORDS else name)
        read = texts(self.corpus, kind, end_token=end_token, stop=self._cut)
        if name in SUBWORDS:
            kind = known.unit if known is not None else learn_subwords(name, read, self.data.symbols or SYMBOLS)
        return Vocabulary.of(kind, read, end=end_token != "none", min_count=self.data.min_count or 1)

    def _split(self) -> int:
        """How many characters are trained on."""
        share, characters = self.data.held_out, self.corpus.characters
        cut = int(characters * (1 - share))
        if characters < 2 or cut < 1:
            raise UsageError(f"the text has {characters} characters: too few to learn from")
        if share and cut == characters:
            raise UsageError(
                f"held_out {share} leaves nothing of {characters} characters to evaluate on: give 0 or more"
            )
        return cut

    def _stream(self, start: int, stop: int | None) -> Stream:
        made = stream(self.corpus, self.vocabulary, end_token=self.data.end_token, start=start, stop=stop)
        if len(made.numbers) < 2:
            use = "evaluate on: give another held_out" if start else "learn from"
            raise UsageError(f"of {made.characters} characters, white space alone, nothing is left to {use}")
        if made.path is not None:
            self.notices.append(f"the tokens lie in {made.path}")
        return made

    def _rows(self, training: WindowOptions) -> int:
        """Rows that fill a window each: as many as the options say, fewer for a short text."""
        rows = max(1, min(training.batch_size, (len(self.train_stream.numbers) - 1) // training.window))
        if rows < training.batch_size:
            self.notices.append(f"the text is short: batch_size {rows} instead of {training.batch_size}")
        return rows

    @torch.no_grad()
    def _try_one_step(self) -> None:
        """Meet what cannot run, such as a cell that reads further inputs, before anything is made of it."""
        self.model.eval()
        self.model(self._pieces.window(0, 1).inputs)
        self.model.train()

    @property
    def digest(self) -> str:
        """A hash of the texts as they were read."""
        return self.corpus.digest

    @property
    def steps_per_epoch(self) -> int:
        """Windows in one epoch."""
        return math.ceil(self._pieces.steps / self.training.window)

    def units(self, steps: int) -> int:
        """Tokens in the first so many windows, over all epochs."""
        epochs, rest = divmod(steps, self.steps_per_epoch)
        tokens = len(self.train_stream.numbers) - 1
        return epochs * tokens + min(rest * self.training.window * self.training.batch_size, tokens)

    def windows(self, epoch: int, first: int) -> Iterator[Window]:
        """The windows of an epoch, in the order of the text: the state is carried from each to the next."""
        return self._pieces.windows(self.training.window, first * self.training.window)

    def prepare(self) -> None:
        """Nothing is learned before the first step."""

    def state(self) -> Any:
        """The state that an epoch begins with."""
        return self.model.layers.initial_state(self.training.batch_size)

    def loss(self, window: Window, state: Any) -> tuple[Loss, Any]:
        """The loss over a window, and the state after it."""
        scores, state = self.model(window.inputs, state, window.resets)
        mean = functional.cross_entropy(scores.flatten(0, 1), window.targets.flatten(), ignore_index=IGNORED)
        total = mean * len(window.inputs)
        return Loss(total if self.training.reduction == "sum" else mean, mean, total), state

    def figures(self) -> Mapping[str, float]:
        """None: the loss decides."""
        return {}

    def conclude(self) -> Sequence[Mapping[str, Any]]:
        """Nothing is measured once more."""
        return []

    def evaluate(self) -> float | None:
        """Nats per token of the held-out text, of its beginning if it is long."""
        if self.held_out_stream is None:
            return None
        measured = score(self.model, self.held_out_stream, EVALUATED_TOKENS)
        return measured.nats / measured.tokens

    def sample(self) -> str:
        """A short text that the model writes now, from nothing."""
        sampler = Sampler(SAMPLE_TEMPERATURE)
        try:
            *_, (text,) = write(self.model, self.vocabulary, length=SAMPLE_LENGTH, sampler=sampler)
        except UnrolledError:
            # While a training diverges; the loop will say so.
            return ""
        return text.shown

    @cached_property
    def description(self) -> list[tuple[str, str]]:
        """What was understood of the data."""
        train, held_out = self.train_stream, self.held_out_stream
        rows = [("text", f"{self.corpus.characters:,} characters in {self._documents()}")]
        if self.corpus.documents > 1:
            lengths = np.diff(train.starts, append=len(train.numbers) - 1)
            shown = f"{lengths.min():,} to {lengths.max():,}, {int(np.median(lengths)):,} at the median"
            rows.append(("lengths", f"{shown}: {self.unit} of a document, with what separates it from the next"))
        if held_out is not None:
            tokens = len(held_out.numbers) - 1
            part = f"; the first {EVALUATED_TOKENS:,} are measured in training" if tokens > EVALUATED_TOKENS else ""
            rows.append(("held out", f"the last {held_out.characters:,} characters, {tokens:,} tokens{part}"))
        rows += [
            ("tokens", f"{len(train.numbers) - 1:,} {self.unit} to train on"),
            ("symbols", f"{len(self.vocabulary):,}, {self._unknown(train, held_out)}"),
            (
                "end",
                {"none": "no symbol for it"}.get(
                    self.data.end_token, f"a symbol at the end of each {self.data.end_token}"
                ),
            ),
            ("model", f"{self.cell.name}, {sum(p.numel() for p in self.model.parameters()):,} parameters"),
            (
                "window",
                f"{self.training.batch_size} rows of {self.training.window} steps; "
                f"{self.steps_per_epoch:,} windows an epoch",
            ),
        ]
        return rows

    def _documents(self) -> str:
        return f"{self.corpus.documents:,} documents" if self.corpus.documents > 1 else "one document"

    def _unknown(self, train: Stream, held_out: Stream | None) -> str:
        if self.vocabulary.unknown is None:
            return "none can be unknown"
        parts = [(train, "trained on"), *([(held_out, "held out")] if held_out is not None else [])]
        return "unknown: " + ", ".join(
            f"{made.unknown / max(1, len(made.numbers) - 1):.2%} of what is {name}" for made, name in parts
        )

    def shown(self) -> list[str]:
        """The beginnings of rows, decoded: what the network is given to read."""
        inputs = self._pieces.window(0, SHOWN_STEPS).inputs
        return [self.vocabulary.decode(row.tolist()) for row in inputs.T[:SHOWN_ROWS]]

    def adopt(self, begun: LanguageModelRun) -> None:
        """Begin with the weights of an earlier run, whose vocabulary this one's begins with."""
        self.notices.append(adopt(self.model, self.vocabulary, begun))

    def run(self, metrics: Sequence[Mapping[str, Any]], steps: int | None = None) -> LanguageModelRun:
        """What was trained, ready to be used and saved.

        steps   that were fixed for the training
        """
        tables = {"data": self.data, "model": self.options, "training": self.training}
        config = configuration_of(self.name, self.cell, tables, self._recorded(steps))
        return LanguageModelRun(self.cell, self.model, self.vocabulary, config, metrics)

    def _recorded(self, steps: int | None) -> dict[str, Any]:
        held_out = self.held_out_stream
        return {
            "steps": steps,
            "documents": self.corpus.documents,
            "characters": self.corpus.characters,
            "symbols": len(self.vocabulary),
            "tokens": len(self.train_stream.numbers) - 1,
            "held_out_tokens": len(held_out.numbers) - 1 if held_out is not None else None,
            "held_out_characters": held_out.characters if held_out is not None else None,
            "held_out_unknown": held_out.unknown if held_out is not None else None,
            "digest": self.corpus.digest,
            "files": [asdict(file) for file in self.corpus.files],
        }
