"""The clockwork network (Koutnik 2014): modules of a simple network that each work at a period of their own.

The units are cut into equal modules, fast ones first. A module is due when its period divides the step's number,
counted from 0, so that all are due at the first step; until it is due again it keeps its state. It reads modules of
its own period and slower ones. The paper takes the powers of 2 and draws all weights with a deviation of 0.1.
"""

from unrolled.language import U, W, b, block_triangular, cell, tanh, tick, where


@cell(
    source="Koutnik, Greff, Gomez & Schmidhuber 2014, arXiv 1402.3511", structure={"U.h": block_triangular("periods")}
)
def clockwork(x, h, *, periods=(1, 2, 4, 8)):
    """Slow modules keep what fast ones would forget, in fewer products; for signals that have several rates."""
    y = tanh(W.h @ x + U.h @ h + b.h)
    h = where(tick(periods), y, h)
    return h
