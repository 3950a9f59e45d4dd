"""The multilayer perceptron (Rumelhart 1986): the network without a memory that a recurrent one has to beat."""

from unrolled.language import W, b, cell, tanh


@cell(source="Rumelhart, Hinton & Williams 1986")
def mlp(x, h):
    """A hidden layer on the present input alone: the baseline that tells whether anything before it matters."""
    h = tanh(W.h @ x + b.h)
    return h
