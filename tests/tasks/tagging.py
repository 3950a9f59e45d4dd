"""Small labelled sentences, whose labels need what stands around them."""

from __future__ import annotations

import random
from typing import Any

import unrolled
from unrolled.tasks import TagRun

SMALL: dict[str, Any] = {
    "hidden_size": 16, "embedding_size": 8, "layers": 1, "epochs": 4, "learning_rate": 0.02, "batch_tokens": 60,
    "dropout": 0.1, "word_dropout": 0.0, "label_smoothing": 0.0, "evaluations": 2, "spelling": "none", "quiet": True,
}  # fmt: skip
PLACES, PEOPLE = ("Seoul", "New York", "Rome"), ("Kim", "Ada Lovelace", "Bo")


def neighbours(count: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    """The label of a word is the word after it; that of the last, the word before it."""
    draw = random.Random(seed)
    texts = [draw.choices("abc", k=draw.randint(2, 7)) for _ in range(count)]
    return [{"tokens": text, "tags": [*(letter.upper() for letter in text[1:]), text[-2].upper()]} for text in texts]


def travels(count: int = 80, seed: int = 0) -> list[dict[str, Any]]:
    """People and places in BIO, and whether one is asked for or goes."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        person, place, asks = draw.choice(PEOPLE).split(), draw.choice(PLACES).split(), draw.random() < 0.5
        parts = [(["does"], "") if asks else ([], ""), (person, "PER"), (["fly", "to"], ""), (place, "LOC")]
        tokens = [token for part, _ in parts for token in part]
        tags = [tag for part, kind in parts for tag in tagged(len(part), kind)]
        found.append({"tokens": tokens, "tags": tags, "intent": "Ask" if asks else "Tell"})
    return found


def tagged(length: int, kind: str) -> list[str]:
    return [f"{'B' if place == 0 else 'I'}-{kind}" if kind else "O" for place in range(length)]


def train(data: Any, **options: Any) -> TagRun:
    return unrolled.train("tag", data, **{**SMALL, **options})
