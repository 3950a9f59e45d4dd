"""Eight variants of the peephole LSTM, each with one thing changed (Greff 2015): what does an LSTM need?

The base is `peephole_lstm`. On the paper's tasks, speech, handwriting and music, none was significantly better than it.
The paper draws all weights from N(0, 0.1); here the forget gate begins open, at bias 1. Its R_if, by which the forget
gate reads the input gate, is U.rif.
"""

from unrolled.language import U, W, b, cell, p, sigmoid, tanh


@cell(source="Greff 2015, arXiv 1503.04069: NIG", init={"b.f": 1.0})
def lstm_nig(x, h, c):
    """The peephole LSTM with no input gate: every candidate enters; worse on speech, as good on music."""
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(source="Greff 2015, arXiv 1503.04069: NFG")
def lstm_nfg(x, h, c):
    """The peephole LSTM with no forget gate: it never lets go of anything; worse on every task of the paper."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(source="Greff 2015, arXiv 1503.04069: NOG", init={"b.f": 1.0})
def lstm_nog(x, h, c):
    """The peephole LSTM with no output gate: the memory always shows; worse on speech, as good on music."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    h = tanh(c)
    return h, c


@cell(source="Greff 2015, arXiv 1503.04069: NIAF", init={"b.f": 1.0})
def lstm_niaf(x, h, c):
    """The peephole LSTM with no input activation: the candidate is linear; worse on speech, as good on music."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = W.g @ x + U.g @ h + b.g
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(source="Greff 2015, arXiv 1503.04069: NOAF", init={"b.f": 1.0})
def lstm_noaf(x, h, c):
    """The peephole LSTM with no output activation: the output is unbounded; worse on every task of the paper."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * c
    return h, c


@cell(source="Greff 2015, arXiv 1503.04069: CIFG", init={"b.i": -1.0})
def cifg(x, h, c):
    """Coupled input and forget gate: what enters is what is let go; three quarters of the parameters, as good."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = 1 - i
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(source="Greff 2015, arXiv 1503.04069: NP", init={"b.f": 1.0})
def lstm_np(x, h, c):
    """The peephole LSTM with no peepholes, which is `lstm`: here under the name that the paper gives it."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(source="Greff 2015, arXiv 1503.04069: FGR", init={"b.f": 1.0})
def lstm_fgr(x, h, c, i, f, o):
    """Full gate recurrence: each gate reads all three gates of the step before; nine maps more, for no gain."""
    ri = U.rii @ i + U.rfi @ f + U.roi @ o
    rf = U.rif @ i + U.rff @ f + U.rof @ o
    ro = U.rio @ i + U.rfo @ f + U.roo @ o
    i = sigmoid(W.i @ x + U.i @ h + ri + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + rf + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + ro + p.o * c + b.o)
    h = o * tanh(c)
    return h, c, i, f, o
