"""The language model: text in, the next character out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unrolled.cells import resolve
from unrolled.data.text import Vocabulary, columns, read_text, windows
from unrolled.errors import UnrolledError, UsageError, did_you_mean
from unrolled.language import Cell, parse
from unrolled.models.one_to_many import LanguageModel
from unrolled.options import SEEDS, LanguageModelOptions, TrainingOptions, check, check_number
from unrolled.run import RunFolder

# The held-out text is read in this many pieces side by side, a fixed number so that figures compare.
EVALUATION_ROWS = 16
EVALUATION_WINDOW = 256
IGNORED = -100
CONFIGURATION = ("task", "model", "training")


def build(options: LanguageModelOptions, cell: Cell, symbols: int) -> LanguageModel:
    """A new model of these options.

    Raises   UnrolledError when it is too large for the memory
    """
    try:
        return LanguageModel(
            cell, symbols, options.hidden_size, options.layers, options.dropout, backend=options.backend
        )
    except (MemoryError, RuntimeError) as error:
        raise UnrolledError(
            f"a model with hidden_size {options.hidden_size} and {options.layers} layers cannot be made: "
            f"{str(error).splitlines()[0]}"
        ) from error


class LanguageModelTask:
    """A text, split and encoded, and the model that learns it."""

    name = "language-model"
    unit = "characters"

    def __init__(self, text: str, options: LanguageModelOptions):
        check(options)
        cut = int(len(text) * (1 - options.held_out))
        self.options = options
        self.cell = resolve(options.cell)
        self.training_text, self.held_out_text = text[:cut], text[cut:]
        self.vocabulary = Vocabulary.of(self.training_text)
        self._columns = columns(self.vocabulary.encode(self.training_text), options.batch_size)
        if len(self._columns) < 2:
            raise UsageError(
                f"the text has {len(text)} characters, {len(self.training_text)} of them to train on: too few for "
                f"batch_size {options.batch_size}, whose rows need 2 or more each"
            )
        if len(self.held_out_text) < 2:
            raise UsageError(f"held_out {options.held_out} leaves {len(self.held_out_text)} characters to evaluate on")
        self.model = build(options, self.cell, len(self.vocabulary))
        self._try_one_step()

    @classmethod
    def of_files(cls, data: Sequence[str | Path], options: LanguageModelOptions) -> LanguageModelTask:
        """The task of one or more UTF-8 files, read one after the other."""
        return cls("\n\n".join(read_text(Path(path)) for path in data), options)

    @torch.no_grad()
    def _try_one_step(self) -> None:
        """Meet what cannot run, such as a cell that reads further inputs, before anything is made of it."""
        self.model.eval()
        self.model(self._columns[:1])
        self.model.train()

    @property
    def steps_per_epoch(self) -> int:
        """Windows in one reading of the text."""
        return math.ceil((len(self._columns) - 1) / self.options.window)

    @property
    def per_step(self) -> int:
        """Characters in one window."""
        return self.options.window * self.options.batch_size

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The windows of one reading, in order: the state is carried from each to the next."""
        return windows(self._columns, self.options.window)

    def loss(self, window: tuple[Tensor, Tensor], state: Any) -> tuple[Tensor, Any]:
        """Mean nats per character over a window, and the state after it."""
        inputs, targets = window
        scores, state = self.model(inputs, state)
        return functional.cross_entropy(scores.flatten(0, 1), targets.flatten()), state

    def evaluate(self) -> float:
        """Nats per character of the held-out text."""
        return nats(self.model, self.vocabulary, self.held_out_text)

    def run(self, training: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> LanguageModelRun:
        """What was trained, ready to be used and saved."""
        options = {key: value for key, value in vars(self.options).items() if key != "cell"}
        config = {"task": self.name, "model": {"cell": self.cell.name, **options}, "training": dict(training)}
        return LanguageModelRun(self.cell, self.model, self.vocabulary, config, list(metrics))


@dataclass
class LanguageModelRun:
    """A trained language model."""

    cell: Cell
    model: LanguageModel
    vocabulary: Vocabulary
    config: Mapping[str, Any]
    metrics: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def opened(cls, folder: RunFolder) -> LanguageModelRun:
        """The run that a folder holds.

        Raises   UsageError when its configuration makes no sense or its weights do not fit
        """
        cell, vocabulary = parse(folder.cell), Vocabulary(folder.symbols)
        options = _configured(folder.config, cell)
        model = build(options, cell, len(vocabulary))
        try:
            model.load_state_dict(dict(folder.weights))
        except RuntimeError as error:
            raise UsageError(
                f"weights, equations, vocabulary and configuration do not fit together: "
                f"{str(error).splitlines()[-1].strip()}"
            ) from None
        if not all(bool(weight.isfinite().all()) for weight in model.state_dict().values()):
            raise UsageError("a weight is not a finite number")
        model.eval()
        return cls(cell, model, vocabulary, folder.config, list(folder.metrics))

    def save(self, path: str | Path) -> None:
        """Write the run folder."""
        weights = self.model.state_dict()
        RunFolder(self.config, self.cell.text, weights, self.vocabulary.symbols, self.metrics).write(Path(path))

    def evaluate(self, text: str) -> dict[str, float]:
        """How well the model foretells a text: nats and bits per character, and perplexity."""
        if len(text) < 2:
            raise UsageError("a text to evaluate on has 2 characters or more")
        loss = nats(self.model, self.vocabulary, text)
        return {"nats": loss, "bits": loss / math.log(2), "perplexity": math.exp(loss)}

    def generate(self, prompt: str = "", length: int = 400, temperature: float = 1.0, seed: int = 0) -> str:
        """`length` characters drawn after the prompt; a temperature below 1 keeps to the likely, one above 1 strays.

        Raises   UsageError for a prompt with characters that the vocabulary lacks, or a number that makes no sense
        """
        check_number("temperature", temperature, {"above": 0})
        check_number("length", length, {"from": 0})
        check_number("seed", seed, SEEDS)
        generator = torch.Generator().manual_seed(seed)
        drawn = self.model.generate(self._prompt(prompt), temperature, generator)
        return "".join(self.vocabulary.symbols[number] for number in itertools.islice(drawn, length))

    def likeliest(self, prompt: str, count: int = 5) -> list[tuple[str, float]]:
        """The likeliest next characters after a prompt, with their probabilities."""
        check_number("count", count, {"above": 0})
        with torch.no_grad():
            self.model.eval()
            scores, _ = self.model(self._prompt(prompt)[:, None])
        best = torch.softmax(scores[-1, 0], -1).topk(min(count, len(self.vocabulary)))
        return [(self.vocabulary.symbols[n], float(p)) for p, n in zip(best.values, best.indices, strict=True)]

    def _prompt(self, text: str) -> Tensor:
        """The numbers of a prompt, of the beginning of a line if it is empty."""
        unknown = sorted(set(text) - set(self.vocabulary.symbols))
        if unknown:
            raise UsageError(f"the prompt has characters that the model was not trained on: {' '.join(unknown)}")
        return self.vocabulary.encode(text or "\n")


def _configured(config: Mapping[str, Any], cell: Cell) -> LanguageModelOptions:
    """The options of the model that a configuration gives.

    Raises   UsageError for a table or key that is missing or unknown, or a value of the wrong type
    """
    for name in config:
        if name not in CONFIGURATION:
            raise UsageError(f"config.toml has {name!r}, which is unknown.{did_you_mean(name, CONFIGURATION)}")
    for table, kind in (("model", LanguageModelOptions), ("training", TrainingOptions)):
        given, known = config.get(table), {option.name for option in fields(kind)}
        if not isinstance(given, Mapping):
            raise UsageError(f"config.toml has no table [{table}]")
        for name in given:
            if name not in known:
                raise UsageError(
                    f"config.toml has {name!r} in [{table}], which is unknown.{did_you_mean(name, known - set(given))}"
                )
        check(kind(**given))
    return LanguageModelOptions(**{**config["model"], "cell": cell})


@torch.no_grad()
def nats(model: LanguageModel, vocabulary: Vocabulary, text: str) -> float:
    """Mean nats per character of a text, its first character not counted.

    It is read in a few pieces side by side, each but the first begun without what stands before it: a little dearer
    than one reading, never cheaper. A character that the vocabulary lacks costs what the symbol for unknown ones does.
    """
    stream = vocabulary.encode(text)
    pairs, rows = len(stream) - 1, min(EVALUATION_ROWS, max(1, (len(stream) - 1) // 2))
    steps = math.ceil(pairs / rows)
    inputs, targets = stream.new_zeros(rows * steps), stream.new_full((rows * steps,), IGNORED)
    inputs[:pairs], targets[:pairs] = stream[:-1], stream[1:]
    inputs, targets = inputs.view(rows, steps).t(), targets.view(rows, steps).t()
    training = model.training
    model.eval()
    total, state = 0.0, None
    for start in range(0, steps, EVALUATION_WINDOW):
        part = slice(start, start + EVALUATION_WINDOW)
        scores, state = model(inputs[part], state)
        total += float(functional.cross_entropy(scores.flatten(0, 1), targets[part].flatten(), reduction="sum"))
    model.train(training)
    return total / pairs
