"""Cells as text, such as users write them to a file or to the command line."""

from __future__ import annotations

MINE = """\
@cell(source="nobody")
def mine(x, h):
    h = tanh(W.h @ x + U.h @ h)
    return h
"""

MISFIT = MINE.replace("U.h @ h", "U.h @ x * h")
