"""The GRU with layer normalisation, as the supplement of Ba 2016 prints it for skip-thoughts and order embeddings.

W x and U h are normalised each on its own: the two gates over both of them as one vector, the candidate apart. The
reset gate acts after the recurrent product, and z takes the candidate; the authors' code lets z keep the state
instead. Gains begin at 1, biases at 0; the two biases of a gate are one.
"""

from unrolled.language import U, W, b, cell, layer_norm, mean, p, sigmoid, sqrt, tanh


@cell(source="Ba, Kiros & Hinton 2016, arXiv 1607.06450, supplement", init={"p": 1.0})
def layer_norm_gru(x, h):
    """A GRU with steady gates at any size of the weights: both share one mean and deviation; for hard training."""
    m = mean(W.z @ x + W.r @ x) / 2
    n = mean(U.z @ h + U.r @ h) / 2
    wz, wr = W.z @ x - m, W.r @ x - m
    uz, ur = U.z @ h - n, U.r @ h - n
    v = sqrt(mean(wz * wz + wr * wr) / 2 + 1e-5)
    q = sqrt(mean(uz * uz + ur * ur) / 2 + 1e-5)
    z = sigmoid(p.wz * wz / v + p.uz * uz / q + b.z)
    r = sigmoid(p.wr * wr / v + p.ur * ur / q + b.r)
    g = tanh(p.wg * layer_norm(W.g @ x) + b.g + r * (p.ug * layer_norm(U.g @ h) + b.u))
    h = (1 - z) * h + z * g
    return h
