from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracles hold the equations; that every engine agrees with the reference, the conformance sweep holds."""
    monkeypatch.setenv("UNROLLED_BACKEND", "reference")
