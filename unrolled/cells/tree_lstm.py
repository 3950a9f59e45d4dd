"""Tree-LSTMs, whose state comes from the children of a node instead of the step before.

Departs: forget gates begin open, at bias 1. The paper's u is the candidate g.
"""

from unrolled.language import Input, U, W, b, cell, sigmoid, tanh


@cell(source="Tai, Socher & Manning 2015, arXiv 1503.00075: forget gate, equation 4", init={"b.f": 1.0})
def child_sum_edge(x, c, h: Input["hidden"]):
    """What a child with the state h, c hands to the memory of its parent, which has the input x."""
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    c = f * c
    return c


@cell(source="Tai, Socher & Manning 2015, arXiv 1503.00075: child-sum, equations 2 to 8")
def child_sum_node(x, h, c):
    """A node: h is the sum of its children's, c of what its edges hand on. For children without an order."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = c + i * g
    h = o * tanh(c)
    return h, c


@cell(source="Tai, Socher & Manning 2015, arXiv 1503.00075: N-ary of two, equations 9 to 14", init={"b.f": 1.0})
def binary_tree_lstm(x, h, c, h2: Input["hidden"], c2: Input["hidden"]):
    """A node of two children: h, c is the first one's state, h2, c2 the second's; each has a forget gate."""
    i = sigmoid(W.i @ x + U.i[1] @ h + U.i[2] @ h2 + b.i)
    f1 = sigmoid(W.f @ x + U.f1[1] @ h + U.f1[2] @ h2 + b.f)
    f2 = sigmoid(W.f @ x + U.f2[1] @ h + U.f2[2] @ h2 + b.f)
    g = tanh(W.g @ x + U.g[1] @ h + U.g[2] @ h2 + b.g)
    o = sigmoid(W.o @ x + U.o[1] @ h + U.o[2] @ h2 + b.o)
    c = i * g + f1 * c + f2 * c2
    h = o * tanh(c)
    return h, c
