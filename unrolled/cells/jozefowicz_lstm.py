"""The LSTM without peepholes and with one gate fewer (Jozefowicz 2015), to see what each gate is worth.

The paper's LSTM-b, whose forget bias begins at 1, is `lstm`; here too a forget bias begins at 1. The paper's equations
print tanh for the output gate; all gates are logistic here, as in `lstm`. With peepholes these are Greff's `lstm_nfg`,
`lstm_nig` and `lstm_nog`.
"""

from unrolled.language import U, W, b, cell, sigmoid, tanh


@cell(source="Jozefowicz, Zaremba & Sutskever 2015")
def lstm_f(x, h, c):
    """No forget gate: the memory keeps all that it was given; of the three gates this one is missed most."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = c + i * g
    h = o * tanh(c)
    return h, c


@cell(source="Jozefowicz, Zaremba & Sutskever 2015", init={"b.f": 1.0})
def lstm_i(x, h, c):
    """No input gate: every candidate enters the memory; for a quarter fewer parameters, at some loss."""
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + g
    h = o * tanh(c)
    return h, c


@cell(source="Jozefowicz, Zaremba & Sutskever 2015", init={"b.f": 1.0})
def lstm_o(x, h, c):
    """No output gate: the memory always shows; the gate that is missed least, so try it to save a quarter."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    h = tanh(c)
    return h, c
