"""The diagram of a cell, drawn from its program: time from left to right, memories on straight lines on top."""

from __future__ import annotations

from unrolled.ir.diagram.drawing import diagram, drawn_equations, steps

__all__ = ["diagram", "drawn_equations", "steps"]
