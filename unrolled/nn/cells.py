"""RNNCell, LSTMCell and GRUCell: one step, with the signatures, weights and errors of torch.nn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unrolled.ir.plan import Plan
from unrolled.nn.equations import Planned, autocast_types, pair, plan_of, run, single
from unrolled.scan import multiplies_in


class _OneStep(Planned, torch.nn.RNNCellBase):
    """What the three cells share."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        gates: int,
        device: Any,
        dtype: Any,
        backend: str,
    ):
        super().__init__(input_size, hidden_size, bias, gates, device=device, dtype=dtype)
        self.backend = backend

    @property
    def _mode(self) -> str:
        raise NotImplementedError

    def _make_plan(self) -> Plan:
        return plan_of(self._mode, self.bias, False)

    def _weights(self) -> list[Tensor]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")
        return [getattr(self, name) for name in names]

    def _step(self, x: Tensor, given: tuple[Tensor, ...] | None, names: tuple[str, ...]) -> list[Tensor]:
        """Check what is given, in torch's words, and run one step."""
        kind = type(self).__name__
        if x.dim() not in (1, 2):
            raise ValueError(f"{kind}: Expected input to be 1D or 2D, got {x.dim()}D instead")
        for name, state in zip(names, given or (), strict=False):
            if state.dim() not in (1, 2):
                raise ValueError(f"{kind}: Expected {name} to be 1D or 2D, got {state.dim()}D instead")
        batched = x.dim() == 2
        if not batched:
            x = x.unsqueeze(0)
            given = None if given is None else tuple(state.unsqueeze(0) for state in given)
        if x.shape[1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}")
        if given is None:
            given = tuple(x.new_zeros(x.shape[0], self.hidden_size) for _ in names)
        for index, state in enumerate(given):
            # A state of one axis beside a batch is no batch of states.
            if state.shape[0] != x.shape[0] or state.dim() == 1:
                rows = state.shape[0]
                raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{index} batch size {rows}")
            if state.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{index} has inconsistent hidden_size: got {state.shape[1]}, expected {self.hidden_size}"
                )
        finals = self._scan(x, given)
        return finals if batched else [final.squeeze(0) for final in finals]

    def _scan(self, x: Tensor, given: tuple[Tensor, ...]) -> list[Tensor]:
        weights = self._weights()
        own, types = weights[0].dtype, [state.dtype for state in given]
        precision = multiplies_in(own, x.device)
        if not precision:
            for name, value in (("input", x), *(("hidden", state) for state in given)):
                if value.dtype != own:
                    raise RuntimeError(f"{name} is {value.dtype}, the weights are {own}: convert one of them")
        x, given = x.to(own), tuple(state.to(own) for state in given)
        one = [(weights, given)]
        ((_, finals),) = run(self._plan, self._mode, one, x.unsqueeze(0), None, precision, self.backend)
        if precision:
            narrow = getattr(torch, precision)
            _, kinds = autocast_types(self._mode, False, False, types, narrow, x.device)
            finals = [final.to(kind) for final, kind in zip(finals, kinds, strict=True)]
        return finals


class RNNCell(_OneStep):
    """One step of an Elman network: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it.

    nonlinearity   "tanh" or "relu"
    backend        "" for the fastest that runs on the device, or "reference"

    Shapes   see forward; the weights are weight_ih (hidden, input), weight_hh (hidden, hidden), bias_ih and bias_hh
    """

    nonlinearity: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "",
    ):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype, backend)
        self.nonlinearity = nonlinearity
        self._plan = self._make_plan()

    @property
    def _mode(self) -> str:
        return "RNN_RELU" if self.nonlinearity == "relu" else "RNN_TANH"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:  # noqa: A002
        """Run one step.

        Shapes   input (batch, input) or (input,); hx (batch, hidden) or (hidden,), zeros if None; returns like hx
        Raises   ValueError and RuntimeError as torch.nn does
        """
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step(input, single(hx), ("hidden",))[0]


class LSTMCell(_OneStep):
    """One step of a long short-term memory; the gates stand in the weights in the order i, f, g, o.

    backend   "" for the fastest that runs on the device, or "reference"

    Shapes   see forward; the weights are weight_ih (4 hidden, input), weight_hh (4 hidden, hidden), bias_ih, bias_hh
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "",
    ):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype, backend)
        self._plan = self._make_plan()

    @property
    def _mode(self) -> str:
        return "LSTM"

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:  # noqa: A002
        """Run one step.

        Shapes   input (batch, input) or (input,); hx (h, c), each (batch, hidden) or (hidden,), zeros if None;
                 returns (h', c')
        Raises   ValueError and RuntimeError as torch.nn does, TypeError unless hx is a pair
        """
        h, c = self._step(input, pair(hx), ("hx[0]", "hx[1]"))
        return h, c


class GRUCell(_OneStep):
    """One step of a gated recurrent unit; the gates stand in the weights in the order r, z, n.

    backend   "" for the fastest that runs on the device, or "reference"

    Shapes   see forward; the weights are weight_ih (3 hidden, input), weight_hh (3 hidden, hidden), bias_ih, bias_hh
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "",
    ):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype, backend)
        self._plan = self._make_plan()

    @property
    def _mode(self) -> str:
        return "GRU"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:  # noqa: A002
        """Run one step.

        Shapes   input (batch, input) or (input,); hx (batch, hidden) or (hidden,), zeros if None; returns like hx
        Raises   ValueError and RuntimeError as torch.nn does
        """
        return self._step(input, single(hx), ("hidden",))[0]
