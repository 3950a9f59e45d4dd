from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from unrolled.backends.llvm import arena
from unrolled.backends.llvm.machine import unavailable


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New memory is full of NaN, and what the CPU engine works in is new at every call."""
    monkeypatch.setattr(arena, "_SPARE", 0)
    monkeypatch.setattr(arena, "_free", [])
    torch.use_deterministic_algorithms(True)  # fills what `torch.empty` gives
    yield
    torch.use_deterministic_algorithms(False)


def _engine(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    if name == "llvm" and unavailable():
        pytest.skip(unavailable())
    if name == "plan":
        # With its own backward; asked for by a layer, the reference leaves that to autograd.
        monkeypatch.setenv("UNROLLED_BACKEND", "reference")
        return ""
    return name


@pytest.fixture(params=["reference", "plan", "llvm"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a layer is told: plain torch in autograd, plain torch with the plan's backward, the CPU engine."""
    return _engine(request.param, monkeypatch)


@pytest.fixture(params=["plan", "llvm"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Those of them that have a backward of their own."""
    return _engine(request.param, monkeypatch)
