"""Cells that strain the plan, each in its own way: for snapshots, and for every other test that wants a hard case."""

from __future__ import annotations

from unrolled.language import (
    Cell,
    Input,
    State,
    U,
    V,
    W,
    b,
    block_triangular,
    cell,
    exp,
    layer_norm,
    p,
    raw,
    sigmoid,
    softplus,
    tanh,
    tick,
    where,
)


@cell(source="Greff 2017: full gate recurrence")
def gate_recurrence_lstm(x, h, c, i, f, o):
    i_new = sigmoid(W.i @ x + U.i @ h + U.ii @ i + U.fi @ f + U.oi @ o + p.i * c + b.i)
    f_new = sigmoid(W.f @ x + U.f @ h + U.if_ @ i + U.ff @ f + U.of @ o + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f_new * c + i_new * g
    o = sigmoid(W.o @ x + U.o @ h + U.io @ i + U.fo @ f + U.oo @ o + p.o * c + b.o)
    h = o * tanh(c)
    return h, c, i_new, f_new, o


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


@cell(source="Koutnik 2014", structure={"U.h": block_triangular("periods")})
def clockwork(x, h, *, periods=(1, 2, 4)):
    y = tanh(W.h @ x + U.h @ h + b.h)
    h = where(tick(periods), y, h)
    return h


@cell(source="Ba 2016")
def layer_norm_lstm(x, h, c):
    i = sigmoid(p.wi * layer_norm(W.i @ x) + p.ui * layer_norm(U.i @ h) + b.i)
    f = sigmoid(p.wf * layer_norm(W.f @ x) + p.uf * layer_norm(U.f @ h) + b.f)
    g = tanh(p.wg * layer_norm(W.g @ x) + p.ug * layer_norm(U.g @ h) + b.g)
    o = sigmoid(p.wo * layer_norm(W.o @ x) + p.uo * layer_norm(U.o @ h) + b.o)
    c = f * c + i * g
    h = o * tanh(p.c * layer_norm(c) + b.c)
    return h, c


@cell(source="Mikolov 2015", axes={"V.s": "context"})
def context_units(x, h, s: State["context"], *, context=3, alpha=0.95):
    s = alpha * s + (1 - alpha) * (V.s @ x)
    h = sigmoid(W.h @ x + U.h @ h + V.h @ s + b.h)
    return h, s


@cell(source="Bradbury 2017: window of two")
def qrnn(x, h, c, before: State["input"]):
    z = tanh(W.z @ x + V.z @ before)
    f = sigmoid(W.f @ x + V.f @ before)
    o = sigmoid(W.o @ x + V.o @ before)
    c = f * c + (1 - f) * z
    h = o * c
    return h, c, x


@cell(source="Mozer 2017: decay between irregular steps")
def irregular(x, h, dt: Input[()]):
    h = h * exp(-softplus(p.tau) * dt)
    h = tanh(W.h @ x + U.h @ h + b.h)
    return h


@cell(source="Kalchbrenner 2015: one block of two dimensions")
def grid_block(x, h, c, below: Input["hidden"], below_memory: Input["hidden"], depth_h, depth_c):
    i = sigmoid(U.i @ h + V.i @ below + b.i)
    f = sigmoid(U.f @ h + V.f @ below + b.f)
    g = tanh(U.g @ h + V.g @ below + W.g @ x + b.g)
    o = sigmoid(U.o @ h + V.o @ below + b.o)
    c = f * c + i * g
    i_depth = sigmoid(U.j @ h + V.j @ below + b.j)
    f_depth = sigmoid(U.k @ h + V.k @ below + b.k)
    g_depth = tanh(U.l @ h + V.l @ below + U.d @ depth_h + b.l)
    o_depth = sigmoid(U.m @ h + V.m @ below + b.m)
    depth_c = f_depth * below_memory + i_depth * g_depth + 0.5 * depth_c
    h = o * tanh(c)
    depth_h = o_depth * tanh(depth_c)
    return h, c, depth_h, depth_c


@cell(source="Sak 2014", axes={"V.p": "projection"})
def projected_lstm(x, h: State["projection"], c, *, projection=3):
    i = sigmoid(W.i @ x + V.i @ h + b.i)
    f = sigmoid(W.f @ x + V.f @ h + b.f)
    g = tanh(W.g @ x + V.g @ h + b.g)
    o = sigmoid(W.o @ x + V.o @ h + b.o)
    c = f * c + i * g
    h = V.p @ (o * tanh(c))
    return h, c


@cell(source="Feng 2024")
def min_gru(x, h):
    z = sigmoid(W.z @ x + b.z)
    g = W.g @ x + b.g
    h = (1 - z) * h + z * g
    return h


@cell(source="Jozefowicz 2015")
def mut1(x, h):
    z = sigmoid(W.z @ x + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    h = tanh(U.h @ (r * h) + tanh(raw(x)) + b.h) * z + h * (1 - z)
    return h


HARD_CELLS: list[Cell] = [
    gate_recurrence_lstm,
    mogrifier_lstm,
    recurrent_highway,
    clockwork,
    layer_norm_lstm,
    context_units,
    qrnn,
    irregular,
    grid_block,
    projected_lstm,
    min_gru,
    mut1,
]
