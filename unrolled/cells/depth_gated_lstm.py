"""The depth-gated LSTM (Yao 2015): a gate lets the memory of the layer below into the memory, at the same step.

The gate reads the input, the layer's own old memory and the memory below, but no h. The lowest layer, which has none
below, lets in a map of its input. With the gate shut both are `peephole_lstm`: peepholes are vectors here, and the
forget gate is one of its own, where the authors' code has maps in the place of p.i and p.o, and f = 1 - i.
"""

from unrolled.language import Input, U, W, b, cell, p, sigmoid, tanh


@cell(source="Yao, Cohn, Vylomova, Duh & Dyer 2015, arXiv 1508.03790", init={"b.f": 1.0})
def depth_gated_lstm(x, h, c, below_c: Input["hidden"]):
    """A peephole LSTM with a straight path from memory to memory through the layers; for stacks of several layers."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    d = sigmoid(W.d @ x + p.d * c + p.below * below_c + b.d)
    c = d * below_c + f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(source="Yao, Cohn, Vylomova, Duh & Dyer 2015, arXiv 1508.03790", init={"b.f": 1.0})
def depth_gated_lstm_first(x, h, c):
    """The lowest layer of a depth-gated stack: what the gate lets in is a map of the input, without bias."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    d = sigmoid(W.d @ x + p.d * c + b.d)
    c = d * (W.below @ x) + f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c
