"""Blocks of a Grid LSTM: an LSTM for each dimension, all of which read the hidden vectors of all dimensions.

x is the hidden vector that comes up the depth and below_m the memory beside it, h and c are those of time. As in the
paper, h = tanh(o * c), not o * tanh(c). Departs: it has no biases; here there are some, and forget gates begin at 1.
"""

from unrolled.language import Input, U, W, b, cell, sigmoid, tanh


@cell(source="Kalchbrenner 2015, arXiv 1507.01526: time and depth", init={"b.f": 1.0, "b.f_up": 1.0})
def grid_block(x, y, h, c, below_m: Input["hidden"]):
    """Two LSTMs side by side: one keeps its memory through time, the other its own up through the layers."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    i_up = sigmoid(W.i_up @ x + U.i_up @ h + b.i_up)
    f_up = sigmoid(W.f_up @ x + U.f_up @ h + b.f_up)
    g_up = tanh(W.g_up @ x + U.g_up @ h + b.g_up)
    o_up = sigmoid(W.o_up @ x + U.o_up @ h + b.o_up)
    c = f * c + i * g
    h = tanh(o * c)
    m = f_up * below_m + i_up * g_up
    y = tanh(o_up * m)
    return y, h, c


@cell(source="Kalchbrenner 2015, section 3.2: depth has priority", init={"b.f": 1.0, "b.f_up": 1.0})
def priority_grid_block(x, y, h, c, below_m: Input["hidden"]):
    """A grid block whose depth waits for time: its gates read the new h, so that a step takes two stages."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = tanh(o * c)
    i_up = sigmoid(W.i_up @ x + U.i_up @ h + b.i_up)
    f_up = sigmoid(W.f_up @ x + U.f_up @ h + b.f_up)
    g_up = tanh(W.g_up @ x + U.g_up @ h + b.g_up)
    o_up = sigmoid(W.o_up @ x + U.o_up @ h + b.o_up)
    m = f_up * below_m + i_up * g_up
    y = tanh(o_up * m)
    return y, h, c


@cell(source="Kalchbrenner 2015: depth alone", init={"b.f": 1.0})
def depth_block(x, y, below_m: Input["hidden"]):
    """A grid block without time: a layer of a feed-forward net that keeps a memory through its depth."""
    i = sigmoid(W.i @ x + b.i)
    f = sigmoid(W.f @ x + b.f)
    g = tanh(W.g @ x + b.g)
    o = sigmoid(W.o @ x + b.o)
    m = f * below_m + i * g
    y = tanh(o * m)
    return y
