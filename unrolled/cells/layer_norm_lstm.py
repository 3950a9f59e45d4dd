"""The LSTM with layer normalisation (Ba 2016), in the two forms that go by this name.

The paper normalises W x and U h each on its own, over all four gates as one vector, and the memory where it is shown.
torch's benchmark `fastrnns` and TensorFlow Addons do so too, but hand on the normalised memory. Others, such as labml,
normalise each gate on its own, after the two products are summed. Gains begin at 1 and the forget bias too; where the
paper adds up three biases of a gate, here is one.
"""

from unrolled.language import U, W, b, cell, layer_norm, mean, p, sigmoid, sqrt, tanh


@cell(source="Ba, Kiros & Hinton 2016, arXiv 1607.06450", init={"p": 1.0, "b.f": 1.0})
def layer_norm_lstm(x, h, c):
    """An LSTM whose gates are normalised together, one mean and deviation for all four; where training is unsteady."""
    m = mean(W.i @ x + W.f @ x + W.g @ x + W.o @ x) / 4
    n = mean(U.i @ h + U.f @ h + U.g @ h + U.o @ h) / 4
    wi, wf, wg, wo = W.i @ x - m, W.f @ x - m, W.g @ x - m, W.o @ x - m
    ui, uf, ug, uo = U.i @ h - n, U.f @ h - n, U.g @ h - n, U.o @ h - n
    d = sqrt(mean(wi * wi + wf * wf + wg * wg + wo * wo) / 4 + 1e-5)
    e = sqrt(mean(ui * ui + uf * uf + ug * ug + uo * uo) / 4 + 1e-5)
    i = sigmoid(p.wi * wi / d + p.ui * ui / e + b.i)
    f = sigmoid(p.wf * wf / d + p.uf * uf / e + b.f)
    g = tanh(p.wg * wg / d + p.ug * ug / e + b.g)
    o = sigmoid(p.wo * wo / d + p.uo * uo / e + b.o)
    c = f * c + i * g
    h = o * tanh(p.c * layer_norm(c) + b.c)
    return h, c


@cell(
    source="Ba, Kiros & Hinton 2016, arXiv 1607.06450; each gate on its own: labml",
    init={"p": 1.0, "b.f": 1.0},
)
def layer_norm_lstm_per_gate(x, h, c):
    """An LSTM whose gates are normalised each by itself, so that none drowns another; the form of many libraries."""
    i = sigmoid(p.i * layer_norm(W.i @ x + U.i @ h) + b.i)
    f = sigmoid(p.f * layer_norm(W.f @ x + U.f @ h) + b.f)
    g = tanh(p.g * layer_norm(W.g @ x + U.g @ h) + b.g)
    o = sigmoid(p.o * layer_norm(W.o @ x + U.o @ h) + b.o)
    c = f * c + i * g
    h = o * tanh(p.c * layer_norm(c) + b.c)
    return h, c
