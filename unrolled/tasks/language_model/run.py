"""A trained language model: it predicts, scores and writes text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import torch

from unrolled.data.corpus import corpus
from unrolled.data.stream import Stream, stream
from unrolled.data.vocabulary import Vocabulary
from unrolled.errors import UnrolledError, UsageError
from unrolled.language import Cell, parse
from unrolled.models.one_to_many import LanguageModel
from unrolled.models.sampling import Sampler, check_whole
from unrolled.options import LanguageModelOptions, check_number
from unrolled.report import Section, model_card
from unrolled.run import RunFolder
from unrolled.tasks.base import Run, configured, of_layers, with_weights
from unrolled.tasks.language_model.scoring import Score, log_probabilities, score, score_dynamically
from unrolled.tasks.language_model.writing import Text, read_prompt, write

SHOWN_TEMPERATURES = (0.5, 0.8, 1.0)
SHOWN_LENGTH = 400
# Of plain gradient descent on a window, in dynamic evaluation.
DYNAMIC_RATE = 0.1


def build(options: LanguageModelOptions, cell: Cell, symbols: int) -> LanguageModel:
    """A new model of these options.

    Raises   UnrolledError when it is too large for the memory
    """
    try:
        return LanguageModel(
            cell,
            symbols,
            options.hidden_size,
            layers=options.layers,
            embedding_size=options.embedding_size,
            tied=options.tied,
            dropout=options.dropout,
            variational=options.dropout_kind == "variational",
            **of_layers(options),
        )
    except (MemoryError, RuntimeError) as error:
        raise UnrolledError(
            f"a model with hidden_size {options.hidden_size} and {options.layers} layers cannot be made: "
            f"{str(error).splitlines()[0]}"
        ) from error


class LanguageModelRun(Run):
    """A trained language model."""

    model: LanguageModel

    def __init__(
        self,
        cell: Cell,
        model: LanguageModel,
        vocabulary: Vocabulary,
        config: Mapping[str, Any],
        metrics: Sequence[Mapping[str, Any]] = (),
    ):
        super().__init__(cell, model, config, metrics)
        self.vocabulary = vocabulary
        self.unit = vocabulary.unit.symbols

    @classmethod
    def opened(cls, folder: RunFolder) -> LanguageModelRun:
        """The run that a folder holds.

        Raises   UsageError when its configuration makes no sense or its weights do not fit
        """
        options = configured(folder.config)
        cell = parse(folder.cell)
        try:
            vocabulary = Vocabulary.from_json(folder.vocabulary)
        except ValueError as error:
            raise UsageError(f"vocabulary.json is damaged: {error}") from None
        model = with_weights(lambda: build(options["model"], cell, len(vocabulary)), folder.weights)
        return cls(cell, model, vocabulary, folder.config, folder.metrics)

    def evaluate(
        self,
        data: Any,
        *,
        encoding: str = "",
        column: str | None = None,
        dynamic: bool = False,
        learning_rate: float = DYNAMIC_RATE,
        show: Callable[[Iterator[Score], int], Iterator[Score]] | None = None,
    ) -> dict[str, float]:
        """How well the model predicts texts: nats and bits per token, bits per character, perplexity, and how often
        the next token was the likeliest, among the 3, among the 5 likeliest.

        data      as `unrolled.train` takes them: paths, a list of texts, or a table
        column    that of the texts, as in training if not given; empty where the data are no table
        dynamic   read in one piece and go on learning, by gradient descent of this learning rate whose norm is clipped
                  at 1; the run stays as it is
        show      takes the scores so far and the number of tokens, and passes the scores on: to show progress

        Raises   UsageError for data that cannot be read
        """
        options = self.config["data"]
        tokens = self._read(data, encoding or options["encoding"], options["text"] if column is None else column)
        if dynamic:
            check_number("learning_rate", learning_rate, {"above": 0})
            window = self.config["training"]["window"]
            scores = score_dynamically(self.model, tokens, learning_rate, window)
            *_, measured = show(scores, len(tokens.numbers) - 1) if show is not None else scores
        else:
            measured = score(self.model, tokens)
        return _figures(measured, tokens)

    def _read(self, data: Any, encoding: str, column: str) -> Stream:
        read = corpus(data, encoding=encoding, column=column)
        tokens = stream(read, self.vocabulary, end_token=self.config["data"]["end_token"])
        if len(tokens.numbers) < 2:
            raise UsageError("the data hold nothing to predict: white space alone")
        return tokens

    def log_probabilities(self, text: str) -> list[tuple[str, float]]:
        """The log-probability in nats of each token of a text, given all before it.

        Raises   UsageError for a text without a token
        """
        numbers = torch.from_numpy(self._read({"text": [text]}, "utf-8", "text").numbers.astype("int64"))
        found = log_probabilities(self.model, numbers).tolist()
        return [(self._shown(n), p) for n, p in zip(numbers[1:].tolist(), found, strict=True)]

    def predict(self, prompt: str = "", top: int = 5, allow_unknown: bool = False) -> list[tuple[str, float]]:
        """The likeliest next symbols after a prompt, with their probabilities.

        Raises   UsageError for a prompt with symbols that the vocabulary lacks, unless `allow_unknown`
        """
        check_whole("top", top, {"above": 0})
        numbers = read_prompt(self.vocabulary, prompt, allow_unknown, self._lines)
        scores, _ = self.model.eval().next(numbers[:, None])
        best = torch.softmax(scores[0].double(), -1).topk(min(top, len(self.vocabulary)))
        return [(self._shown(n), p) for p, n in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def _shown(self, number: int) -> str:
        """A symbol as text; a byte that is no character by itself, and what stands for no text, by its name."""
        if number in (self.vocabulary.unknown, self.vocabulary.end):
            return self.vocabulary.name(number)
        symbol = self.vocabulary.raw(number)
        return self.vocabulary.name(number) if self.vocabulary.unit.closed and not symbol.isascii() else symbol

    @overload
    def generate(self, prompt: str = "", *, samples: None = None, **options: Any) -> str: ...

    @overload
    def generate(self, prompt: str = "", *, samples: int, **options: Any) -> list[str]: ...

    def generate(self, prompt: str = "", *, samples: int | None = None, **options: Any) -> str | list[str]:
        """The prompt and what the model writes on, until its symbol for the end or `length` symbols.

        samples   how many texts, given as a list; one text if left out
        options   length, temperature, top_k, top_p, seed, allow_unknown, as `write` has them

        Raises   UsageError for a prompt that the model cannot read, or a number that makes no sense
        """
        *_, texts = self.write(prompt, samples=1 if samples is None else samples, **options)
        return texts[0].shown if samples is None else [text.shown for text in texts]

    def write(
        self,
        prompt: str = "",
        *,
        samples: int = 1,
        length: int = 400,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
        allow_unknown: bool = False,
    ) -> Iterator[Sequence[Text]]:
        """Texts that go on from a prompt side by side, given after each symbol: `text.shown` is what is certain.

        length          symbols to draw at most
        temperature     below 1 keeps to the likely, above 1 strays; 0 always takes the likeliest
        top_k, top_p    draw among the k likeliest only, among the fewest that hold this share of the probability
        seed            another number draws another text
        allow_unknown   read what is unknown in the prompt, and write the symbol for it where it is drawn

        Raises   UsageError for a prompt that the model cannot read, or a number that makes no sense
        """
        return write(
            self.model,
            self.vocabulary,
            prompt,
            rows=samples,
            length=length,
            sampler=Sampler(temperature, top_k, top_p),
            seed=seed,
            allow_unknown=allow_unknown,
            lines=self._lines,
        )

    @property
    def _lines(self) -> bool:
        """Whether the symbol for the end stands for a line break."""
        return bool(self.config["data"]["end_token"] == "line")

    def sections(self) -> Sequence[Section]:
        """What it writes, from nothing, at several temperatures."""
        try:
            written = [
                (f"temperature {temperature}", self.generate(length=SHOWN_LENGTH, temperature=temperature))
                for temperature in SHOWN_TEMPERATURES
            ]
        except UnrolledError as error:
            written = [("", str(error))]
        return [Section.table("Held-out text", self.figures()), Section.samples("What it writes", written)]

    def assessed(self) -> Sequence[tuple[str, str]]:
        """What the lowest held-out loss means, for people."""
        return self.figures()

    def figures(self) -> list[tuple[str, str]]:
        """What the lowest held-out loss of the training means."""
        loss, found = self.held_out_loss, self.config.get("recorded", {})
        if loss is None:
            return [("held-out text", "none")]
        bits = loss / math.log(2)
        unknown = found.get("held_out_unknown", 0) / max(1, found["held_out_tokens"])
        per_character = bits * found["held_out_tokens"] / max(1, found["held_out_characters"])
        return [
            ("nats per token", f"{loss:.4f}"),
            ("bits per token", f"{bits:.4f}"),
            ("bits per character", f"{per_character:.4f}"),
            ("perplexity", f"{math.exp(min(loss, 700.0)):.2f}"),
            *([("unknown tokens", f"{unknown:.2%}; their spelling is not counted")] if unknown else []),
        ]

    def vocabulary_json(self) -> Any:
        """The vocabulary as it is written."""
        return self.vocabulary.to_json()

    def card(self) -> str:
        """The model card."""
        data, found = self.config["data"], self.config.get("recorded", {})
        names = ", ".join(Path(file["path"]).name for file in found.get("files", [])) or "texts given in Python"
        return model_card(
            self.title,
            f"A language model that reads {self.unit} and predicts the next one. It was trained on {names}.",
            [
                ("cell", self.cell.name),
                ("layers", str(self.config["model"]["layers"])),
                ("units", str(self.config["model"]["hidden_size"])),
                ("parameters", f"{self.parameters:,}"),
                ("symbols", f"{len(self.vocabulary):,}"),
                ("held out", f"{data['held_out']:.0%} of the text, at its end"),
                ("unrolled", str(self.config.get("version", ""))),
            ],
            self.figures(),
            'import unrolled\n\nrun = unrolled.load("PATH OF THIS FOLDER")\nprint(run.generate(length=200))',
            ("language-model", "text-generation"),
        )


def _figures(measured: Score, tokens: Stream) -> dict[str, float]:
    nats = measured.nats / measured.tokens
    return {
        "tokens": measured.tokens,
        "characters": tokens.characters,
        "unknown": tokens.unknown,
        "nats": nats,
        "bits": nats / math.log(2),
        "bits_per_character": measured.nats / math.log(2) / max(1, tokens.characters),
        "perplexity": math.exp(min(nats, 700.0)),
        **{f"top_{rank}": found / measured.tokens for rank, found in measured.among.items()},
    }
