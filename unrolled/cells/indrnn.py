"""The independently recurrent network (Li 2018): each unit reads its own last output and no other's.

The paper draws the recurrent weights from 0 to 2^(1/T) for sequences of T steps, and near 1 in the last layer where
memory must be long; here they begin at 1. It also holds them within 2^(1/T) while training, which is left to the
optimiser.
"""

from unrolled.language import W, b, cell, p, relu


@cell(source="Li, Li, Cook, Zhu & Gao 2018, arXiv 1803.04831", init={"p.h": 1.0})
def indrnn(x, h):
    """Units that remember apart and meet in the next layer: for deep stacks and thousands of steps."""
    h = relu(W.h @ x + p.h * h + b.h)
    return h
