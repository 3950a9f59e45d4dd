"""The lecture notes' first GRU: one update gate, no reset gate; here the gate at 1 takes the candidate."""

from unrolled.language import U, W, b, cell, sigmoid, tanh


@cell(source="the lecture form of Cho 2014: the GRU without its relevance (reset) gate; z takes the candidate")
def simple_gru(x, h):
    """The smallest gated network: one gate mixes the old state with a candidate."""
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    g = tanh(W.g @ x + U.g @ h + b.g)
    h = z * g + (1 - z) * h
    return h
