"""Long short-term memory as it is used today: three gates, forget bias 1."""

from unrolled.language import U, W, b, cell, sigmoid, tanh


@cell(
    source="Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000; bias 1: Jozefowicz 2015",
    init={"b.f": 1.0},
)
def lstm(x, h, c):
    """Keep a memory c beside the output h; three gates choose what enters, stays and shows."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c
