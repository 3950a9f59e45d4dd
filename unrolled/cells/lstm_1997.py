"""Long short-term memory as first published (Hochreiter & Schmidhuber 1997): two gates, and a memory that only adds.

The candidate is squashed to [-2, 2] and the memory to [-1, 1], by logistic functions: equations 5 and 4 of the paper.
Left out: several memories under one pair of gates, gates that read the gates (`lstm_fgr` has them), and the truncated
gradient of the paper, which flowed back through the memory alone; here it is the whole one.
"""

from unrolled.language import U, W, b, cell, sigmoid


@cell(source="Hochreiter & Schmidhuber 1997")
def lstm_1997(x, h, c):
    """The LSTM before its forget gate: it keeps all that it has stored; for short sequences with a definite end."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    g = 4 * sigmoid(W.g @ x + U.g @ h + b.g) - 2
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = c + i * g
    h = o * (2 * sigmoid(c) - 1)
    return h, c
