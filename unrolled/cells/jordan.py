"""The network of Jordan (1986), which reads its own last outputs where Elman's reads its own last hidden layer.

The memory c is what the paper calls state units: a fading sum of the outputs, c = decay * c + y; with decay 0 it is the
last output alone, as most textbooks draw it. Outputs are logistic as in the paper, the hidden layer is tanh as in
`elman`, and both have the hidden size, so that y can feed any head.
"""

from unrolled.language import U, W, b, cell, sigmoid, tanh


@cell(source="Jordan 1986")
def jordan(x, y, c, *, decay=0.5):
    """What it has put out is all that it remembers; for sequences of actions, where outputs carry the context."""
    c = decay * c + y
    h = tanh(W.h @ x + U.h @ c + b.h)
    y = sigmoid(U.y @ h + b.y)
    return y, c
