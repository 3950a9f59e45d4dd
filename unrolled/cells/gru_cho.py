"""The gated recurrent unit as the paper prints it: the reset gate acts before the product, so a step has two."""

from unrolled.language import U, W, b, cell, sigmoid, tanh


@cell(source="Cho 2014, arXiv 1406.1078 v3")
def gru_cho(x, h):
    """The reset gate chooses which units the candidate may read; z keeps the old state."""
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    g = tanh(W.g @ x + U.g @ (r * h) + b.g)
    h = z * h + (1 - z) * g
    return h
