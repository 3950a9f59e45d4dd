"""Layers: cells over time, and what is composed of them."""

from unrolled.layers.attention import Attention, Memory, make_attention
from unrolled.layers.base import SequenceLayer
from unrolled.layers.bidirectional import Bidirectional, Directions
from unrolled.layers.by_step import gradient_by_step
from unrolled.layers.compose import Stacked, VariationalDropout, at_depth, deep
from unrolled.layers.crf import CRF
from unrolled.layers.embedding import Embedded
from unrolled.layers.grid import DepthLSTM, GridLSTM
from unrolled.layers.keras import from_keras
from unrolled.layers.network import network
from unrolled.layers.pooling import Pooling, make_pooling
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.residual import Residual
from unrolled.layers.sliced import Sliced, sliced
from unrolled.layers.tied import Tied
from unrolled.layers.tree import TreeLSTM
from unrolled.layers.trees import Trees, read_tree
from unrolled.layers.window import WindowMLP

__all__ = [
    "CRF",
    "Attention",
    "Bidirectional",
    "DepthLSTM",
    "Directions",
    "Embedded",
    "GridLSTM",
    "Memory",
    "Pooling",
    "Recurrent",
    "Residual",
    "SequenceLayer",
    "Sliced",
    "Stacked",
    "Tied",
    "TreeLSTM",
    "Trees",
    "VariationalDropout",
    "WindowMLP",
    "at_depth",
    "deep",
    "from_keras",
    "gradient_by_step",
    "make_attention",
    "make_pooling",
    "network",
    "read_tree",
    "sliced",
]
