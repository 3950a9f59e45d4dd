"""RNN, LSTM and GRU with the signatures, weights, states and errors of torch.nn, run as scans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unrolled import sequence
from unrolled.errors import UsageError
from unrolled.ir.plan import Plan
from unrolled.nn.equations import Planned, autocast_types, frozen_of, pair, plan_of, run, single
from unrolled.scan import multiplies_in

if TYPE_CHECKING:
    from unrolled.backends.llvm.stream import Stream


class _Layers(Planned, torch.nn.RNNBase):
    """What the three networks share. Construction, initial values, checks of the states and repr are torch's own.

    Torch's list of flat weights is kept by its base class and never read here: weights are read by name at each call,
    so that whatever replaces one (pruning, a parametrisation, functional_call) takes effect.
    """

    def __init__(self, mode: str, *arguments: Any, backend: str, **keywords: Any):
        super().__init__(mode, *arguments, **keywords)
        self.backend = backend
        self._plan = self._make_plan()

    def _make_plan(self) -> Plan:
        return plan_of(self.mode, self.bias, self.proj_size > 0)

    def flatten_parameters(self) -> None:
        """Do nothing: there is no flat copy of the weights to bring up to date."""

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:  # noqa: A002
        """Raise as torch.nn does unless the input has the layer's type, number of axes and width."""
        own, device = self._own_type(), input.device.type
        if input.dtype != own and not (input.is_floating_point() and torch.is_autocast_enabled(device)):
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({own}). "
                f"Convert input: input.to({own}), or convert model: model.to({input.dtype})"
            )
        expected = 3 if batch_sizes is None else 2
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )
        if input.dim() == 3 and input.shape[int(self.batch_first)] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def extra_repr(self) -> str:
        """Torch's line, and the backend where one was chosen."""
        return super().extra_repr() + (f", backend={self.backend}" if self.backend else "")

    def stream(self, batch: int = 1, threads: int | None = None) -> Stream:
        """A frozen copy that takes one step at a time, from a state of zeros: y = stream.step(x).

        Its state has names, and with several layers one entry a layer.

        Raises   UsageError for a network that reads backwards or drops units, or where no kernels can be compiled
        """
        from unrolled.backends.llvm.stream import Stream

        if self.bidirectional:
            raise UsageError("a bidirectional network begins at both ends: stream one with bidirectional=False")
        if self.training and self.dropout > 0 and self.num_layers > 1:
            raise UsageError("dropout drops units in training, a stream drops none: call .eval() first")
        layers = []
        for names in self._all_weights:
            weights = [getattr(self, name) for name in names]
            layers.append(frozen_of(self._plan, self.mode, weights, self._widths()))
        return Stream(layers, batch, stacked=self.num_layers > 1, threads=threads)

    def _own_type(self) -> torch.dtype:
        weight = self.weight_ih_l0
        assert isinstance(weight, Tensor)
        return weight.dtype

    def _widths(self) -> tuple[int, ...]:
        """The units of each state."""
        return (self.hidden_size,)

    def _forward(self, x: Tensor | PackedSequence, given: tuple[Tensor, ...] | None) -> tuple[Any, tuple[Tensor, ...]]:
        """The output in the form of the input, and the final states."""
        if isinstance(x, PackedSequence):
            self.check_input(x.data, x.batch_sizes)
            padded, lengths = sequence.unpack(x)
            y, finals = self._run(padded, self._states(padded, given), lengths.to(padded.device), x)
            packed = sequence.pack_like(y, lengths, x)
            return PackedSequence(packed.data, x.batch_sizes, x.sorted_indices, x.unsorted_indices), finals
        kind = type(self).__name__
        if x.dim() not in (2, 3):
            raise ValueError(f"{kind}: Expected input to be 2D or 3D, got {x.dim()}D instead")
        batched = x.dim() == 3
        self._check_axes(given, batched)
        if not batched:
            x = x.unsqueeze(int(not self.batch_first))
            given = None if given is None else tuple(state.unsqueeze(1) for state in given)
        self.check_input(x, None)
        if self.batch_first:
            x = x.transpose(0, 1)
        y, finals = self._run(x, self._states(x, given), None, None)
        if not batched:
            return y.squeeze(1), tuple(final.squeeze(1) for final in finals)
        return y.transpose(0, 1) if self.batch_first else y, finals

    def _check_axes(self, given: tuple[Tensor, ...] | None, batched: bool) -> None:
        if given is None or all(state.dim() == (3 if batched else 2) for state in given):
            return
        names = "hx and cx should" if len(given) > 1 else "hx should"
        axes = ", ".join(f"{state.dim()}-D" for state in given)
        form, expected = ("batched 3-D", "3-D") if batched else ("unbatched 2-D", "2-D")
        raise RuntimeError(f"For {form} input, {names} also be {expected} but got {axes}")

    def _states(self, x: Tensor, given: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
        """The initial states, checked, or zeros.

        Shapes   x (time, batch, input); returns each (layers x directions, batch, units)
        """
        runs = self.num_layers * (2 if self.bidirectional else 1)
        shapes = [(runs, x.shape[1], width) for width in self._widths()]
        if given is None:
            return tuple(x.new_zeros(shape) for shape in shapes)
        for index, (state, shape) in enumerate(zip(given, shapes, strict=True)):
            name = f"hidden[{index}]" if len(given) > 1 else "hidden"
            self.check_hidden_size(state, shape, f"Expected {name} size {{}}, got {{}}")
        return given

    def _run(
        self, x: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None, packed: PackedSequence | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run all layers.

        Shapes   x (time, batch, input); states, each (layers x directions, batch, units); lengths (batch,)
                 returns y (time, batch, directions x units), the final states
        """
        own, types = self._own_type(), [state.dtype for state in states]
        precision = multiplies_in(own, x.device)
        if not precision and any(kind != own for kind in types):
            raise RuntimeError(f"hx is {', '.join(map(str, types))}, the weights are {own}: convert one of them")
        if x.dtype != own:
            x = x.to(own)
        if precision:
            states = tuple(state.to(own) for state in states)
        directions = 2 if self.bidirectional else 1
        finals: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            indices = range(directions * layer, directions * (layer + 1))
            given = [
                ([getattr(self, name) for name in self._all_weights[index]], [state[index] for state in states])
                for index in indices
            ]
            results = run(self._plan, self.mode, given, x, lengths, precision, self.backend)
            finals += [final for _, final in results]
            outputs = [y for (y,), _ in results]
            x = torch.cat(outputs, -1) if directions == 2 else outputs[0]
            if self.training and self.dropout > 0 and layer < self.num_layers - 1:
                x = self._dropped(x, lengths, packed)
        if len(finals) == 1:
            stacked = tuple(final.unsqueeze(0) for final in finals[0])
        else:
            stacked = tuple(torch.stack(list(column)) for column in zip(*finals, strict=True))
        if not precision:
            return x, stacked
        fused = self.mode == "LSTM" and not self.proj_size and packed is None
        narrow = getattr(torch, precision)
        output, kinds = autocast_types(self.mode, self.proj_size > 0, fused, types, narrow, x.device)
        return x.to(output), tuple(state.to(kind) for state, kind in zip(stacked, kinds, strict=True))

    def _dropped(self, x: Tensor, lengths: Tensor | None, packed: PackedSequence | None) -> Tensor:
        """The output of a layer with a share of it dropped, drawn over the packed steps where torch draws it there."""
        if packed is None or lengths is None:
            return torch.nn.functional.dropout(x, self.dropout)
        inner = sequence.pack_like(x, lengths, packed)
        data = torch.nn.functional.dropout(inner.data, self.dropout)
        return sequence.unpack(PackedSequence(data, *inner[1:]))[0]


class RNN(_Layers):
    """Elman networks, one upon the other: h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), or relu of it.

    nonlinearity   "tanh" or "relu"
    dropout        share of each layer's output but the last's that is dropped in training
    backend        "" for the fastest that runs on the device, or "reference"

    Shapes   see forward; the weights are weight_ih_l0 (hidden, input), weight_hh_l0 (hidden, hidden), bias_ih_l0,
             bias_hh_l0, and so on for each layer, with _reverse for the backward direction
    Raises   ValueError and TypeError as torch.nn does for sizes and options that make no sense
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: None = None,
        backend: str = "",
    ):
        _no_projection(proj_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            backend=backend,
        )
        self.nonlinearity = nonlinearity

    @overload
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...
    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:  # noqa: A002
        """Run over a batch of sequences.

        Shapes   input (time, batch, input), (batch, time, input) if batch_first, (time, input), or a PackedSequence;
                 hx (layers x directions, batch, hidden), without batch for a single sequence, zeros if None
                 returns the output in the form of the input, and the final states in the form of hx
        Raises   ValueError and RuntimeError as torch.nn does, TypeError unless hx is a tensor
        """
        y, (h,) = self._forward(input, single(hx))
        return y, h


class LSTM(_Layers):
    """Long short-term memories, one upon the other; the gates stand in the weights in the order i, f, g, o.

    dropout     share of each layer's output but the last's that is dropped in training
    proj_size   above 0, the output is a map of the gated memory to so many values, which the gates read
    backend     "" for the fastest that runs on the device, or "reference"

    Shapes   see forward; the weights are weight_ih_l0 (4 hidden, input), weight_hh_l0 (4 hidden, hidden), bias_ih_l0,
             bias_hh_l0, with proj_size weight_hr_l0 (proj, hidden), and so on for each layer, with _reverse for the
             backward direction
    Raises   ValueError and TypeError as torch.nn does for sizes and options that make no sense
    Source   Hochreiter & Schmidhuber 1997; projection: Sak, Senior & Beaufays 2014
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        backend: str = "",
    ):
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device=device,
            dtype=dtype,
            backend=backend,
        )

    def _widths(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)

    @overload
    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
    @overload
    def forward(
        self, input: PackedSequence, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[PackedSequence, tuple[Tensor, Tensor]]: ...
    def forward(
        self,
        input: Any,  # noqa: A002
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Run over a batch of sequences.

        Shapes   input (time, batch, input), (batch, time, input) if batch_first, (time, input), or a PackedSequence;
                 hx (h, c): h (layers x directions, batch, proj or hidden), c (layers x directions, batch, hidden),
                 without batch for a single sequence, zeros if None
                 returns the output in the form of the input, and the final states in the form of hx
        Raises   ValueError and RuntimeError as torch.nn does, TypeError unless hx is a pair
        """
        y, (h, c) = self._forward(input, pair(hx))
        return y, (h, c)


class GRU(_Layers):
    """Gated recurrent units, one upon the other; the gates stand in the weights in the order r, z, n.

    The reset gate acts after the recurrent product: n = tanh(W_in x + b_in + r * (W_hn h + b_hn)).

    dropout   share of each layer's output but the last's that is dropped in training
    backend   "" for the fastest that runs on the device, or "reference"

    Shapes   see forward; the weights are weight_ih_l0 (3 hidden, input), weight_hh_l0 (3 hidden, hidden), bias_ih_l0,
             bias_hh_l0, and so on for each layer, with _reverse for the backward direction
    Raises   ValueError and TypeError as torch.nn does for sizes and options that make no sense
    Source   Cho 2014, arXiv 1406.1078 v1
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        proj_size: None = None,
        backend: str = "",
    ):
        _no_projection(proj_size)
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device=device,
            dtype=dtype,
            backend=backend,
        )

    @overload
    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...
    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:  # noqa: A002
        """Run over a batch of sequences.

        Shapes   input (time, batch, input), (batch, time, input) if batch_first, (time, input), or a PackedSequence;
                 hx (layers x directions, batch, hidden), without batch for a single sequence, zeros if None
                 returns the output in the form of the input, and the final states in the form of hx
        Raises   ValueError and RuntimeError as torch.nn does, TypeError unless hx is a tensor
        """
        y, (h,) = self._forward(input, single(hx))
        return y, h


def _no_projection(proj_size: None) -> None:
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
