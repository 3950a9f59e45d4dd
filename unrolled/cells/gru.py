"""The gated recurrent unit as cuDNN and torch compute it: the reset gate acts after the recurrent product."""

from unrolled.language import U, W, b, cell, sigmoid, tanh


@cell(source="Cho 2014, arXiv 1406.1078 v1; two biases of the candidate: cuDNN")
def gru(x, h):
    """Two gates and no separate memory; z keeps the old state. One product a step: the form that libraries run."""
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    g = tanh(W.g @ x + b.g + r * (U.g @ h + b.u))
    h = (1 - z) * g + z * h
    return h
