"""Small runs of every kind."""

from __future__ import annotations

from typing import Any

import pytest

import unrolled
from unrolled.tasks import LanguageModelRun

TEXT = "the cat sat on the mat and the dog sat on the log.\n" * 12
KOREAN = "한글은 닭이 아니다. 값과 의미, naïve café 🙂\n" * 12
SMALL: dict[str, Any] = {
    "hidden_size": 8, "batch_size": 4, "window": 16, "epochs": 1, "learning_rate": 0.02, "evaluations": 1, "quiet": True
}  # fmt: skip
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "characters": ([TEXT], {}),
    "documents": ([TEXT[:200], TEXT[:100], TEXT[:51]], {}),
    "lines": ([TEXT], {"end_token": "line"}),
    "words": ([TEXT], {"unit": "words"}),
    "lines-of-words": ([TEXT], {"unit": "words", "end_token": "line"}),
    "jamo": ([KOREAN], {"unit": "jamo"}),
    "bytes": ([KOREAN], {"unit": "bytes"}),
    "bytes-of-lines": ([KOREAN], {"unit": "bytes", "end_token": "line"}),
}


EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def trained(data: Any, **options: Any) -> LanguageModelRun:
    return unrolled.train("language-model", data, **{**SMALL, **options})
