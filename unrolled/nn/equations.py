"""Torch's recurrent layers as plans, and torch's weights as the parameters of those plans."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrolled.backends import Call
from unrolled.cells.elman import elman, elman_relu
from unrolled.cells.gru import gru
from unrolled.cells.lstm import lstm
from unrolled.ir.plan import Plan, make_plan
from unrolled.ir.program import bind
from unrolled.ir.transforms import without_biases
from unrolled.language import Cell, parse
from unrolled.layers.stream import frozen
from unrolled.scan import scans

if TYPE_CHECKING:
    from unrolled.backends.llvm.stepping import Frozen

lstm_projected = parse('''
@cell(source="Sak, Senior & Beaufays 2014, arXiv 1402.1128", axes={"V.h": "projection"})
def lstm_projected(x, h: State["projection"], c, *, projection=32):
    """The LSTM whose output is a map of the gated memory to fewer values, which are also all that the gates read."""
    i = sigmoid(W.i @ x + V.i @ h + b.i)
    f = sigmoid(W.f @ x + V.f @ h + b.f)
    g = tanh(W.g @ x + V.g @ h + b.g)
    o = sigmoid(W.o @ x + V.o @ h + b.o)
    c = f * c + i * g
    h = V.h @ (o * tanh(c))
    return h, c
''')

_CELLS: dict[str, Cell] = {"RNN_TANH": elman, "RNN_RELU": elman_relu, "LSTM": lstm, "GRU": gru}


class Planned:
    """What torch's modules need to run as scans: the plan, made anew where a module is copied or loaded."""

    backend: str
    _plan: Plan

    def _make_plan(self) -> Plan:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_plan"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parent: Any = super()
        parent.__setstate__(state)
        self._plan = self._make_plan()


@cache
def plan_of(mode: str, bias: bool, projected: bool) -> Plan:
    """The plan of one layer in one direction; the same serves every layer, for nothing in it depends on a size."""
    chosen = lstm_projected if projected else _CELLS[mode]
    program = bind(chosen.program, {"input": 1, "hidden": 1, "projection": 1})
    plan = make_plan(program if bias else without_biases(program))
    # Computed here so that a compiler that traces the call finds it done.
    _ = plan.key
    return plan


def run(
    plan: Plan,
    mode: str,
    directions: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]],
    x: Tensor,
    lengths: Tensor | None = None,
    precision: str = "",
    backend: str = "",
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Run one layer, forward and, if there is a second direction, backward.

    Shapes   x (time, batch, input); directions, each (weights, states): the weights in torch's order, weight_ih,
             weight_hh, bias_ih, bias_hh, weight_hr, some of them absent; the states, each (batch, hidden)
             returns for each direction y (time, batch, hidden) in a list, and the final states
    """
    calls = [
        _call(plan, mode, weights, x, states, lengths, reverse=direction == 1, precision=precision)
        for direction, (weights, states) in enumerate(directions)
    ]
    return scans([(plan, call) for call in calls], backend)


def _call(
    plan: Plan,
    mode: str,
    weights: Sequence[Tensor],
    x: Tensor,
    states: Sequence[Tensor],
    lengths: Tensor | None,
    *,
    reverse: bool,
    precision: str,
) -> Call:
    sizes = {"input": x.shape[-1], "hidden": states[-1].shape[-1], "projection": states[0].shape[-1]}
    return Call(
        sequences=[x],
        rows=[],
        states=list(states),
        restarts=[],
        parameters=_parameters(mode, weights),
        scalars=[],
        sizes=[sizes[axis] for axis in plan.axes],
        lengths=lengths,
        reverse=reverse,
        precision=precision,
    )


def frozen_of(plan: Plan, mode: str, weights: Sequence[Tensor], widths: Sequence[int]) -> Frozen:
    """One layer for a stream; `widths` are the units of its states."""
    sizes = {"input": weights[0].shape[1], "hidden": widths[-1], "projection": widths[0]}
    names = [name for name, _ in plan.program.states]
    initial = {name: weights[0].new_zeros(width) for name, width in zip(names, widths, strict=True)}
    return frozen(plan, sizes, {}, _parameters(mode, weights), initial)


def _parameters(mode: str, weights: Sequence[Tensor]) -> list[Tensor]:
    """Torch's weights as the plan stores them: its two biases are one wherever they are only added."""
    w_ih, w_hh, *rest = weights
    if len(rest) < 2:
        return [w_ih, w_hh, *rest]
    b_ih, b_hh, *projection = rest
    if mode != "GRU":
        return [w_ih, w_hh, b_ih + b_hh, *projection]
    gates = 2 * (len(b_ih) // 3)
    return [w_ih, w_hh, torch.cat([b_ih[:gates] + b_hh[:gates], b_ih[gates:], b_hh[gates:]])]


def single(hx: Tensor | None) -> tuple[Tensor] | None:
    """The state of a network that has one."""
    if hx is not None and not isinstance(hx, Tensor):
        raise TypeError(f"the state is one tensor, h, not a {type(hx).__name__}")
    return None if hx is None else (hx,)


def pair(hx: Sequence[Tensor] | None) -> tuple[Tensor, ...] | None:
    """The states of an LSTM."""
    if hx is not None and (isinstance(hx, Tensor) or len(hx) != 2):
        raise TypeError("the state of an LSTM is a pair, (h, c)")
    return None if hx is None else tuple(hx)


def autocast_types(
    mode: str, projected: bool, fused: bool, states: Sequence[torch.dtype], narrow: torch.dtype, device: torch.device
) -> tuple[torch.dtype, list[torch.dtype]]:
    """The types that torch.nn gives its output and its final states under autocast.

    On the CPU they follow from the operations that it happens to be made of: a product is narrow, what is added to or
    multiplied with the old state has the wider type of the two. `fused` says that oneDNN runs the whole layer.
    """
    wide = [torch.promote_types(narrow, state) for state in states]
    if device.type != "cpu" or mode.startswith("RNN") or fused:
        return narrow, [narrow] * len(states)
    if projected:
        return narrow, [narrow, wide[1]]
    return wide[-1], [wide[-1]] * len(states)
