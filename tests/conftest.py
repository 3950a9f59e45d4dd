from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

# Read when torch loads, here and in child processes: the workers share the cores among them.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Keep torch to one thread a worker, without loading it for tests that do not use it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data, named by UNROLLED_DATA."""
    folder = Path(os.environ.get("UNROLLED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}; the environment variable UNROLLED_DATA names its folder")
    return folder


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting and not _has_gpu():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU; torch finds none"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
