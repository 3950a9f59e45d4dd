"""The LSTM whose gates see the memory (Gers 2002): the output gate reads the new memory, the others the old one."""

from unrolled.language import U, W, b, cell, p, sigmoid, tanh


@cell(source="Gers, Schraudolph & Schmidhuber 2002", init={"b.f": 1.0})
def peephole_lstm(x, h, c):
    """An LSTM whose gates also look at the memory, one weight a unit; for exact timing and counting."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c
