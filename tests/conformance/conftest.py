from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conformance.networks import VARIANTS
from unrolled.backends.llvm import arena
from unrolled.backends.llvm.machine import unavailable

SWEEPS = (Path(__file__).parent, Path(__file__).parent.parent / "backends")
# What a variant of another cell goes through in every run: its gradients by finite differences, and every engine
# against the reference, ragged, reversed, with resets and taps.
ALWAYS = {"test_gradients_are_finite_differences", "test_the_plans_backward_is_that_of_autograd"}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Leave the rest of the sweeps over variants, the engine's own among them, to the slow tests."""
    for item in items:
        name = item.callspec.params.get("name") if hasattr(item, "callspec") else None
        swept = any(item.path.is_relative_to(folder) for folder in SWEEPS)
        if name in VARIANTS and swept and item.originalname not in ALWAYS:
            item.add_marker(pytest.mark.slow)


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
