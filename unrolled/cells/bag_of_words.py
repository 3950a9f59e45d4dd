"""The bag of words (Harris 1954) as a network: the mean of the vectors of all that was read (Iyyer 2015)."""

from unrolled.language import State, U, W, b, cell, tanh


@cell(source="Harris 1954; mean of vectors: Iyyer, Manjunatha, Boyd-Graber & Daumé 2015")
def bag_of_words(x, h, total, n: State[()]):
    """A hidden layer on the mean of all inputs so far: the baseline that tells whether their order matters."""
    total = total + W.e @ x
    n = n + 1
    h = tanh(U.h @ (total / n) + b.h)
    return h, total, n
