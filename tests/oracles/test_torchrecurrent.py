"""The package torchrecurrent, a loop over time in torch, in float64, for the cells that both have.

It has two biases, of the input and of the state, wherever there is one here: what a table does not name is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.conformance.networks import assert_close
from tests.oracles.symbols import layer_of, symbols

torchrecurrent = pytest.importorskip(
    "torchrecurrent", reason="torchrecurrent is not installed: the extra dev brings it"
)

TIME, BATCH, INPUT, HIDDEN = 7, 3, 4, 5


@dataclass(frozen=True)
class Peer:
    """A layer of torchrecurrent, and each of its weights as symbols of the cell here, under one another.

    A symbol may have a factor, "0.5*W.g". `memory` is what their memory is of the one here.
    """

    name: str
    weights: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: float = 1.0


PEERS = {
    # They form A - transpose(A) of a full matrix: half of the antisymmetric one gives it back.
    "antisymmetric": Peer(
        "AntisymmetricRNN",
        {"weight_ih": "W.h", "weight_hh": "0.5*U.h", "bias_ih": "b.h"},
        {"epsilon": 0.01, "gamma": 0.01},
    ),
    "indrnn": Peer("IndRNN", {"weight_ih": "W.h", "vector_u": "p.h", "bias_ih": "b.h"}, {"nonlinearity": "relu"}),
    # Theirs departs from the paper: it has tanh where the paper has 4 sigmoid(v) - 2, which is 2 tanh(v / 2), and
    # 2 sigmoid(v) - 1, which is tanh(v / 2). With half the weights of the candidate its memory is half the paper's.
    "lstm-1997": Peer(
        "OriginalLSTM",
        {"weight_ih": "W.i 0.5*W.g W.o", "weight_hh": "U.i 0.5*U.g U.o", "bias_ih": "b.i 0.5*b.g b.o"},
        memory=0.5,
    ),
    "lstm-f": Peer("OriginalLSTM", {"weight_ih": "W.i W.g W.o", "weight_hh": "U.i U.g U.o", "bias_ih": "b.i b.g b.o"}),
    "mgu": Peer("MGU", {"weight_ih": "W.f W.g", "weight_hh": "U.f U.g", "bias_ih": "b.f b.g"}),
    # Their strongly typed network (Balduzzi & Ghifary 2016) is the minimal GRU of 2024; its gate keeps where z takes.
    "mingru": Peer("TRNN", {"weight_ih": "W.g -1*W.z", "bias_ih": "b.g -1*b.z"}),
    # The squashed input has a bias within the tanh there, none in the paper. There, and in mut2's reset gate, x goes
    # through a map, as it does here where the sizes differ; the paper adds x itself.
    "mut1": Peer(
        "MUT1",
        {"weight_ih": "W.z W.r W.raw", "weight_hh": "U.r U.g", "bias_ih": "b.z b.r 0*b.g", "bias_hh": "0*b.r b.g"},
    ),
    "mut2": Peer("MUT2", {"weight_ih": "W.z W.raw W.g", "weight_hh": "U.z U.r U.g", "bias_ih": "b.z b.r b.g"}),
    "mut3": Peer("MUT3", {"weight_ih": "W.z W.r W.g", "weight_hh": "U.z U.r U.g", "bias_ih": "b.z b.r b.g"}),
    "peephole-lstm": Peer(
        "PeepholeLSTM",
        {
            "weight_ih": "W.i W.f W.g W.o",
            "weight_hh": "U.i U.f U.g U.o",
            "weight_ph": "p.i p.f p.o",
            "bias_ih": "b.i b.f b.g b.o",
        },
    ),
    # The update gate RNN (Collins, Sohl-Dickstein & Sussillo 2017): its gate keeps where z takes.
    "simple-gru": Peer("UGRNN", {"weight_ih": "W.g -1*W.z", "weight_hh": "U.g -1*U.z", "bias_ih": "b.g -1*b.z"}),
}


def stacked(own: Mapping[str, Tensor], names: str) -> Tensor:
    parts = []
    for term in names.split():
        factor, _, name = term.rpartition("*")
        parts.append(float(factor or 1) * own[name])
    return torch.cat(parts)


@pytest.mark.parametrize("name", PEERS)
def test_outputs_states_and_gradients_are_those_of_torchrecurrent(name: str) -> None:
    peer = PEERS[name]
    ours = layer_of(name, INPUT, HIDDEN, dtype=torch.float64)
    theirs = getattr(torchrecurrent, peer.name)(INPUT, HIDDEN, dtype=torch.float64, **peer.options)
    # As functions of the symbols here, so that gradients reach these.
    weights = {key: torch.zeros_like(value) for key, value in theirs.named_parameters()}
    weights |= {f"cells.0.{key}": stacked(symbols(ours), names) for key, names in peer.weights.items()}
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(BATCH, HIDDEN, dtype=torch.float64, requires_grad=True) for _ in ours.cell.program.states]
    y, finals = ours(x, states)
    scales = [1.0, peer.memory][: len(states)]
    begin = [(scale * state)[None] for scale, state in zip(scales, states, strict=True)]
    their_y, their_finals = functional_call(theirs, weights, (x, begin[0] if len(begin) == 1 else tuple(begin)))
    their_finals = [their_finals] if len(begin) == 1 else their_finals
    expected = [their_y, *(final[0] / scale for scale, final in zip(scales, their_finals, strict=True))]
    results = [y, *finals]
    assert_close(results, expected, 1e-13)
    cotangents = [torch.randn_like(result) for result in results]
    of = [x, *states, *ours.parameters()]
    assert_close(*(torch.autograd.grad(values, of, cotangents) for values in (results, expected)), 1e-12)
