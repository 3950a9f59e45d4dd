"""The three best of ten thousand mutated architectures (Jozefowicz 2015): relatives of the GRU.

In all of them z takes the candidate and 1 - z keeps the state, and the reset gate acts before the product, so that a
step has two. The paper adds x as it is in mut1's candidate and mut2's reset gate; where input and hidden size differ,
x goes through a map without bias, `W.raw`. Weights are drawn within one over the root of what a unit reads, which the
paper scales by a searched number; biases begin at 0.
"""

from unrolled.language import U, W, b, cell, raw, sigmoid, tanh


@cell(source="Jozefowicz, Zaremba & Sutskever 2015", init={"W": "uniform", "U": "uniform"})
def mut1(x, h):
    """An update gate that sees the input alone, and a candidate that x enters as it is; best where symbols decide."""
    z = sigmoid(W.z @ x + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    g = tanh(U.g @ (r * h) + tanh(raw(x)) + b.g)
    h = z * g + (1 - z) * h
    return h


@cell(source="Jozefowicz, Zaremba & Sutskever 2015", init={"W": "uniform", "U": "uniform"})
def mut2(x, h):
    """A GRU whose reset gate takes x as it is: one map fewer at like accuracy."""
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    r = sigmoid(raw(x) + U.r @ h + b.r)
    g = tanh(U.g @ (r * h) + W.g @ x + b.g)
    h = z * g + (1 - z) * h
    return h


@cell(source="Jozefowicz, Zaremba & Sutskever 2015", init={"W": "uniform", "U": "uniform"})
def mut3(x, h):
    """A GRU whose update gate reads the squashed state; try it where a GRU does well on language."""
    z = sigmoid(W.z @ x + U.z @ tanh(h) + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    g = tanh(U.g @ (r * h) + W.g @ x + b.g)
    h = z * g + (1 - z) * h
    return h
