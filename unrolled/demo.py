"""The demonstration: a cell of ten lines becomes a language model of real text."""

from __future__ import annotations

import lzma
import platform
import statistics
import time
from collections.abc import Callable
from importlib import import_module

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from unrolled.ir.gradient import gradient_text
from unrolled.ir.summary import summary
from unrolled.language import U, W, b, cell, sigmoid, tanh
from unrolled.models.ngram import KneserNey, WittenBell
from unrolled.models.one_to_many import LanguageModel
from unrolled.options import WindowOptions
from unrolled.tasks import LanguageModelRun
from unrolled.training import train
from unrolled.training.progress import bar

MINUTES = 2.5
HIDDEN_SIZE, WINDOW = 384, 64
RACE_TURNS = 40
HELD_OUT = 0.1
SHORTEST_DROPPED = 40
PROMPT = "The value of the "


@cell(init={"b.f": 1.0})
def duet(x, h, c):  # type: ignore[no-untyped-def]
    """One gate weighs the old memory against a new one, and the new one is a product of two voices."""
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    v = W.v @ x + U.v @ h + b.v
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + (1 - f) * (g * v)
    h = o * tanh(c)
    return h, c


def demo(minutes: float = MINUTES, console: Console | None = None) -> None:
    """Print a cell and its gradient, train it on Python's documentation, and show what it has learned."""
    console = console or Console(highlight=False)
    start = time.perf_counter()
    _title(console, "1. A cell, written as its equations")
    console.print(Text(duet.text), soft_wrap=True)
    console.print("Nobody has written its backward step; this one is derived, and is what the training runs:\n")
    console.print(Text(gradient_text(duet.program)), soft_wrap=True)
    console.print(Text(summary(duet.program)), soft_wrap=True)

    _title(console, "2. That cell, trained on the documentation that every Python carries")
    text, dropped = documentation()
    console.print(
        f"Python {platform.python_version()}: {len(text):,} characters, {dropped:,} repeated paragraphs dropped; "
        f"{torch.get_num_threads()} threads, about {minutes:g} minutes.\n"
    )
    run = train(
        "language-model",
        [text],
        cell=duet,
        hidden_size=HIDDEN_SIZE,
        window=WINDOW,
        dropout=0.5,
        recurrent_dropout=0.2,
        held_out=HELD_OUT,
        minutes=minutes,
        evaluations=5,
        show=lambda events, task: bar(events, task, console),
    )

    _title(console, "3. What it has learned")
    cut = int(len(text) * (1 - HELD_OUT))
    _compare(console, run, text[:cut], text[cut:])
    _race(console, text)
    _speak(console, run)
    console.print(f"\n{time.perf_counter() - start:.0f} s in all. Your own text:\n")
    console.print("    unrolled train language-model FILE --cell lstm --out runs/mine", highlight=False)
    console.print("    unrolled generate runs/mine", highlight=False)


def documentation() -> tuple[str, int]:
    """Python's own documentation without the longer paragraphs that occurred before, and how many those were."""
    topics: dict[str, str] = import_module("pydoc_data.topics").topics
    seen: set[str] = set()
    kept, dropped = [], 0
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            content = paragraph.strip()
            if len(content) >= SHORTEST_DROPPED and content in seen:
                dropped += 1
                continue
            seen.add(content)
            kept.append(paragraph)
    return "\n\n".join(kept), dropped


def _title(console: Console, title: str) -> None:
    console.print(Text(f"\n{title}\n", style="bold"))


def _compare(console: Console, run: LanguageModelRun, known: str, held_out: str) -> None:
    ours = run.evaluate([held_out])["bits"]
    rows = [
        ("lzma, the held-out text alone", _lzma_bits("", held_out)),
        ("interpolated Witten-Bell, five characters of context", WittenBell(known).bits(held_out)),
        ("interpolated Kneser-Ney, five characters of context", KneserNey(known).bits(held_out)),
        ("lzma, given the training text", _lzma_bits(known, held_out)),
    ]
    console.print("bits per character of the held-out text, less is better\n")
    for name, bits in rows:
        verdict = "beaten" if ours < bits else "the next mark"
        console.print(f"  {name:54} {bits:6.3f}   {ours - bits:+.3f} {verdict}", soft_wrap=True)
    console.print(Text(f"  {'duet, the cell above':54} {ours:6.3f}", style="bold"))


def _lzma_bits(known: str, text: str) -> float:
    """Bits that lzma needs for each character of `text` once it has read `known`."""

    def size(content: str) -> int:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
        return len(lzma.compress(content.encode(), format=lzma.FORMAT_RAW, filters=filters))

    return 8 * (size(known + text) - (size(known) if known else 0)) / len(text)


class _Plain(nn.Module):
    """The same network as one writes it with torch.nn, whose LSTM has as many products as the cell above."""

    def __init__(self, symbols: int, hidden_size: int):
        super().__init__()
        self.symbols = symbols
        self.layers = nn.LSTM(symbols, hidden_size)
        self.head = nn.Linear(hidden_size, symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the next symbol at every step."""
        y, _ = self.layers(nn.functional.one_hot(x, self.symbols).float())
        return torch.as_tensor(self.head(y))


def _race(console: Console, text: str) -> None:
    """Steps of training in turns, and what each network reads in a second."""
    rows = WindowOptions().batch_size
    symbols = sorted(set(text))
    numbers = torch.tensor([symbols.index(character) for character in text[: (WINDOW + 1) * rows]])
    x = numbers.view(rows, WINDOW + 1).T.contiguous()
    own, plain = LanguageModel(duet, len(symbols), HIDDEN_SIZE), _Plain(len(symbols), HIDDEN_SIZE)
    contenders: list[tuple[nn.Module, Callable[[], Tensor]]] = [
        (own, lambda: own(x[:-1])[0]),
        (plain, lambda: torch.as_tensor(plain(x[:-1]))),
    ]
    times: list[list[float]] = [[], []]
    for turn in range(RACE_TURNS):
        for (network, scores), taken in zip(contenders, times, strict=True):
            begin = time.perf_counter()
            loss = nn.functional.cross_entropy(scores().flatten(0, 1), x[1:].flatten())
            network.zero_grad()
            loss.backward()
            if turn >= RACE_TURNS // 4:
                taken.append(time.perf_counter() - begin)
    ours, theirs = (WINDOW * rows / statistics.median(taken) for taken in times)
    console.print(
        f"\nForward and backward read {ours:,.0f} characters/s; with torch.nn.LSTM in the cell's place, which has as "
        f"many products and is given one-hot vectors, {theirs:,.0f}.",
        soft_wrap=True,
    )


def _speak(console: Console, run: LanguageModelRun) -> None:
    console.print(Text(f"\nAfter {PROMPT!r} it writes (temperature 0.6):\n"))
    console.print(Text(run.generate(PROMPT, temperature=0.6), style="italic"), soft_wrap=True)
    likeliest = ", ".join(f"{symbol!r} {probability:.1%}" for symbol, probability in run.predict(PROMPT))
    console.print(Text(f"\nThe likeliest next characters after {PROMPT!r}: {likeliest}"), soft_wrap=True)
