"""Layers: cells over time, and what is composed of them."""

from unrolled.layers.base import SequenceLayer
from unrolled.layers.by_step import gradient_by_step
from unrolled.layers.compose import Bidirectional, Directions, Stacked, VariationalDropout, deep
from unrolled.layers.recurrent import Recurrent

__all__ = [
    "Bidirectional",
    "Directions",
    "Recurrent",
    "SequenceLayer",
    "Stacked",
    "VariationalDropout",
    "deep",
    "gradient_by_step",
]
