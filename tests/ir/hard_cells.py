"""Cells that strain the plan, each in its own way: for snapshots, and for every other test that wants a hard case."""

from __future__ import annotations

from unrolled.cells import get
from unrolled.language import (
    Cell,
    Input,
    State,
    U,
    V,
    W,
    b,
    cell,
    exp,
    p,
    sigmoid,
    softplus,
    tanh,
)


@cell(source="Melis 2020", axes={"V.q": "input"})
def mogrifier_lstm(x, h, c, *, rounds=4):
    for k in range(rounds):
        if k % 2 == 0:
            x = 2 * sigmoid(V.q[k] @ h) * x
        else:
            h = 2 * sigmoid(V.r[k] @ x) * h
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(source="Zilly 2017", init={"b.t": -2.0})
def recurrent_highway(x, h, *, depth=3):
    for k in range(depth):
        a = U.h[k] @ h + b.h[k]
        q = U.t[k] @ h + b.t[k]
        if k == 0:
            a = a + W.h @ x
            q = q + W.t @ x
        t = sigmoid(q)
        h = tanh(a) * t + h * (1 - t)
    return h


@cell(source="Mikolov 2015", axes={"V.s": "context"})
def context_units(x, h, s: State["context"], *, context=3, alpha=0.95):
    s = alpha * s + (1 - alpha) * (V.s @ x)
    h = sigmoid(W.h @ x + U.h @ h + V.h @ s + b.h)
    return h, s


@cell(source="Mozer 2017: decay between irregular steps")
def irregular(x, h, dt: Input[()]):
    h = h * exp(-softplus(p.tau) * dt)
    h = tanh(W.h @ x + U.h @ h + b.h)
    return h


@cell(source="Sak 2014", axes={"V.p": "projection"})
def projected_lstm(x, h: State["projection"], c, *, projection=3):
    i = sigmoid(W.i @ x + V.i @ h + b.i)
    f = sigmoid(W.f @ x + V.f @ h + b.f)
    g = tanh(W.g @ x + V.g @ h + b.g)
    o = sigmoid(W.o @ x + V.o @ h + b.o)
    c = f * c + i * g
    h = V.p @ (o * tanh(c))
    return h, c


# Three modules, as the tests' sizes are multiples of 3.
clockwork = get("clockwork").configure(periods=(1, 2, 4))

HARD_CELLS: list[Cell] = [
    mogrifier_lstm,
    recurrent_highway,
    clockwork,
    context_units,
    irregular,
    get("grid-block"),
    projected_lstm,
]
