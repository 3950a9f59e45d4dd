"""The few cells that are tried where all would take long: each strains the scan in its own way."""

from __future__ import annotations

import pytest

FAMILY = ["lstm", "gru-cho", "clockwork", "weird", "irregular"]
cells = pytest.mark.parametrize("name", FAMILY)
