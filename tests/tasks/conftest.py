from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.tasks.runs import KINDS, trained
from unrolled.tasks import LanguageModelRun
from unrolled.tasks.language_model import run as run_module
from unrolled.tasks.language_model import task as task_module


@pytest.fixture(scope="package", autouse=True)
def short_samples() -> Iterator[None]:
    """Write little where nobody looks at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_module, "SAMPLE_LENGTH", 2)
        patch.setattr(run_module, "SHOWN_LENGTH", 20)
        yield


@pytest.fixture(scope="package")
def runs(short_samples: None) -> dict[str, LanguageModelRun]:
    """A run of every kind."""
    torch.set_num_threads(1)
    return {kind: trained(data, **options) for kind, (data, options) in KINDS.items()}


@pytest.fixture(scope="package")
def run(runs: dict[str, LanguageModelRun]) -> LanguageModelRun:
    """A run that reads characters."""
    return runs["characters"]
