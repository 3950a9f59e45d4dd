"""The antisymmetric network (Chang 2019): a step of Euler's method through an equation that is stable by its form.

U.h is A - transpose(A), whose eigenvalues are imaginary; gamma, the diffusion, moves them a little to the left, which
makes up for the error of the step epsilon. The paper tunes both; here they are 0.01, which holds the gradient over
thousands of steps. A larger epsilon learns short sequences sooner; at 0.1 the gradient grows after some hundreds. The
paper prints V for the map of the input and W for A, whose entries it draws with a variance of one over the number of
units, as is done here.
"""

from unrolled.language import U, W, antisymmetric, b, cell, tanh


@cell(source="Chang, Chen, Haber & Chi 2019, arXiv 1902.09689", structure={"U.h": antisymmetric()})
def antisymmetric(x, h, *, epsilon=0.01, gamma=0.01):
    """A simple network whose gradient neither vanishes nor explodes: for long memory without gates."""
    h = h + epsilon * tanh(W.h @ x + U.h @ h - gamma * h + b.h)
    return h
