"""The simple recurrent unit (Lei 2018), in the form with peepholes: gates see the memory of their own unit alone.

The highway adds x itself; where input and hidden size differ, x goes through a map without bias, `W.raw`. The constant
alpha keeps the variance of x through many layers: sqrt(1 + 2 exp(b.r)) at the value that b.r begins at, here 0. The
peepholes make the gates depend on the memory; with p at 0, as in the paper's first version, the unit is linear in it.
The authors' code draws peepholes with a variance of 1/2; here they lie within 1.
"""

from unrolled.language import W, b, cell, p, raw, sigmoid


@cell(source="Lei, Zhang, Wang, Dai & Artzi 2018, arXiv 1709.02755 v5", init={"p": "uniform"})
def sru(x, h, c, *, alpha=1.7320508):
    """A forget gate, a highway and no recurrent product: near the accuracy of an LSTM at a fraction of its time."""
    f = sigmoid(W.f @ x + p.f * c + b.f)
    r = sigmoid(W.r @ x + p.r * c + b.r)
    c = f * c + (1 - f) * (W.c @ x)
    h = r * c + (1 - r) * alpha * raw(x)
    return h, c
