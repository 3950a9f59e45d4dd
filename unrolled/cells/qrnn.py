"""The quasi-recurrent network (Bradbury 2017): a convolution of width two over time, then fo-pooling.

The state `before` is the input of the last step; at 0 it is the padding that the paper's convolution begins with. The
paper prints no biases, and none are here.
"""

from unrolled.language import State, V, W, cell, sigmoid, tanh


@cell(source="Bradbury, Merity, Xiong & Socher 2017, arXiv 1611.01576")
def qrnn(x, h, c, before: State["input"]):
    """Gates of the last two inputs, and a memory that is linear: for long sequences, trained fast."""
    z = tanh(W.z @ x + V.z @ before)
    f = sigmoid(W.f @ x + V.f @ before)
    o = sigmoid(W.o @ x + V.o @ before)
    c = f * c + (1 - f) * z
    h = o * c
    return h, c, x
