"""Chance that is the same in every process, on every machine and for every version of Python."""

from __future__ import annotations

import hashlib


def order(text: str) -> bytes:
    """Where a text stands among others: whatever else there is, and whatever it says."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
