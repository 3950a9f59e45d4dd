"""The minimal GRU and LSTM (Feng 2024): gates that see the input alone, so that the recurrence is linear.

These are the paper's plain forms, whose candidate is a linear map of x. Its log-space forms keep the state positive by
a candidate g(x), x + 0.5 above 0 and sigmoid(x) below, only so that a logarithm exists; here no scan needs one.
"""

from unrolled.language import W, b, cell, sigmoid


@cell(source="Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv 2410.01201")
def mingru(x, h):
    """A moving average whose rate the input sets: the least that can choose what it keeps; for long sequences."""
    z = sigmoid(W.z @ x + b.z)
    g = W.g @ x + b.g
    h = (1 - z) * h + z * g
    return h


@cell(source="Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv 2410.01201")
def minlstm(x, h):
    """Forget and input gate apart, then scaled so that they sum to 1; for what mingru does, with a gate more."""
    f = sigmoid(W.f @ x + b.f)
    i = sigmoid(W.i @ x + b.i)
    g = W.g @ x + b.g
    h = f / (f + i) * h + i / (f + i) * g
    return h
