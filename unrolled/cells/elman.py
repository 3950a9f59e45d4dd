"""The simple recurrent network (Elman 1990), with tanh and with ReLU."""

from unrolled.language import U, W, b, cell, relu, tanh


@cell(source="Elman 1990")
def elman(x, h):
    """One layer that also reads its own last output; for short dependences, and to learn what the others mend."""
    h = tanh(W.h @ x + U.h @ h + b.h)
    return h


@cell(source="Elman 1990; ReLU from the identity: Le, Jaitly & Hinton 2015", init={"U.h": "identity"})
def elman_relu(x, h):
    """The simple network with ReLU, begun at the identity so that the state is first kept, then changed (IRNN)."""
    h = relu(W.h @ x + U.h @ h + b.h)
    return h
