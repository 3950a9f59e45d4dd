"""Training language models: what benchmarks/cpu.py measures of it, rows of figures, one a case."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from contests import Call, Row, Settings, Shape, described, recurrent_like
from measuring import largest_error, race
from torch import Tensor

import unrolled
from unrolled.layers import Recurrent
from unrolled.models.one_to_many import LanguageModel

# Time, batch, symbols, hidden: the window is the time.
MODEL_SHAPES: tuple[Shape, ...] = ((64, 32, 65, 256),)
PRECISION_SHAPES: tuple[Shape, ...] = ((64, 32, 65, 512),)
QUICK_SHAPES: tuple[Shape, ...] = ((64, 32, 65, 64),)
DATA = Path(os.environ.get("UNROLLED_DATA", "../shared/data")) / "tinyshakespeare" / "input.txt"
QUICK_CHARACTERS = 100_000
EPOCHS, QUICK_EPOCHS = 4, 1
PRECISIONS = {"fp32": "", "bf16": "bf16"}
HELD_BACK: dict[str, Any] = {"dropout": 0.5, "recurrent_dropout": 0.2}


class TorchLanguageModel(torch.nn.Module):
    """Our language model as one writes it with torch.nn: symbols as one-hot vectors, or embedded."""

    def __init__(self, symbols: int, hidden_size: int, embedding_size: int, dropout: float):
        super().__init__()
        self.embedding = torch.nn.Embedding(symbols, embedding_size) if embedding_size else None
        self.lstm = torch.nn.LSTM(embedding_size or symbols, hidden_size)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(hidden_size, symbols)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """Scores of the next symbol."""
        symbols = self.head.out_features
        if self.embedding is None:
            vectors = torch.nn.functional.one_hot(x, symbols).float()
        else:
            vectors = self.dropout(self.embedding(x))
        y, state = self.lstm(vectors)
        return self.head(self.dropout(y)), state


def language_model(settings: Settings) -> Iterator[Row]:
    """Steps of training a model of characters, optimiser included: characters a second.

    Dropout is the same in both models. Recurrent dropout is not in torch.nn.LSTM: where it is asked for, a third
    contender has it, our model alone.
    """
    for _, shape, _ in settings.cases(("lstm",), MODEL_SHAPES, ("training",)):
        window, batch, symbols, hidden = shape
        for name, embedding_size in (("one-hot", 0), ("embedding", hidden)):
            theirs = TorchLanguageModel(symbols, hidden, embedding_size, settings.dropout)
            ours = like(theirs, embedding_size, settings.dropout)
            text = torch.randint(symbols, (window + 1, batch))
            with torch.no_grad():
                wrong = largest_error(ours.eval()(text)[0], theirs.eval()(text)[0])
            models = {"ours": ours, "torch": theirs}
            if settings.recurrent_dropout:
                models["ours, recurrent"] = like(theirs, embedding_size, settings.dropout, settings.recurrent_dropout)
            timings = race({who: learning(model.train(), text) for who, model in models.items()}, settings.effort)
            rates = {who: window * batch / timing.median for who, timing in timings.items()}
            yield {
                **described(f"lstm, {name}", shape, "training"),
                "dropout": settings.dropout,
                "recurrent_dropout": settings.recurrent_dropout,
                "per_second": rates,
                "error": wrong,
                "ratio": rates["ours"] / rates["torch"],
            }


def like(theirs: TorchLanguageModel, embedding_size: int, dropout: float, recurrent: float = 0.0) -> LanguageModel:
    """Our model with the weights of torch's."""
    symbols, hidden = theirs.head.out_features, theirs.head.in_features
    ours = LanguageModel(
        "lstm", symbols, hidden, embedding_size=embedding_size, dropout=dropout, recurrent_dropout=recurrent
    )
    lstm = recurrent_like("lstm", theirs.lstm)
    next(layer for layer in ours.modules() if isinstance(layer, Recurrent)).load_state_dict(lstm.state_dict())
    ours.head.load_state_dict(theirs.head.state_dict())
    if theirs.embedding is not None:
        ours.embedding.load_state_dict(theirs.embedding.state_dict())
    return ours


def learning(model: torch.nn.Module, text: Tensor) -> Call:
    """One step of training on a window of text."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)

    def call() -> None:
        optimiser.zero_grad()
        scores, _ = model(text[:-1])
        torch.nn.functional.cross_entropy(scores.flatten(0, 1), text[1:].flatten()).backward()
        optimiser.step()

    return call


def precision(settings: Settings) -> Iterator[Row]:
    """Tiny Shakespeare learned twice from one seed, products in float32 and in bfloat16: what both predict, how fast.

    Each model is evaluated in its own precision, on the last tenth of the text, after as many steps as the other. The
    trainings run one after the other; of each the median step counts.
    """
    if not DATA.exists():
        print(f"precision is left out: {DATA} is not there, UNROLLED_DATA names the folder of the data")
        return
    text = DATA.read_text(encoding="utf-8")[: QUICK_CHARACTERS if settings.quick else None]
    epochs = QUICK_EPOCHS if settings.quick else EPOCHS
    for _, shape, _ in settings.cases(("lstm",), QUICK_SHAPES if settings.quick else PRECISION_SHAPES, ("training",)):
        window, batch, _, hidden = shape
        options = {"hidden_size": hidden, "window": window, "batch_size": batch, "epochs": epochs, **HELD_BACK}
        # One evaluation, after the last step: none of them is in the time of a step, and none chooses the weights.
        options |= {"evaluations": 1, "patience": 0, "seed": 0}
        runs = {
            name: unrolled.train("language-model", [text], precision=kind, quiet=True, **options)
            for name, kind in PRECISIONS.items()
        }
        nats = {name: held_out_nats(run) for name, run in runs.items()}
        rates = {name: characters_per_second(run) for name, run in runs.items()}
        found = runs["fp32"].config["recorded"]
        yield {
            **described("lstm", (window, batch, found["symbols"], hidden), "training"),
            **HELD_BACK,
            "epochs": epochs,
            "steps": found["steps"],
            "characters": found["characters"],
            "nats": nats,
            "difference": nats["bf16"] - nats["fp32"],
            "per_second": rates,
            "ratio": rates["bf16"] / rates["fp32"],
        }


def held_out_nats(run: Any) -> float:
    """Nats per character of the held-out text, after the last step."""
    return float([row["loss"] for row in run.metrics if row["event"] == "evaluation"][-1])


def characters_per_second(run: Any) -> float:
    """What the median step of a training learns in a second."""
    ends = [row["seconds"] for row in run.metrics if row["event"] == "step"]
    options = run.config["training"]
    return float(
        options["window"] * options["batch_size"] / statistics.median(end - start for start, end in pairwise(ends))
    )
