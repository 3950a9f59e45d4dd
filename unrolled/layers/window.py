"""A window over the last inputs: a network that forgets all before it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled import sequence
from unrolled.errors import ShapeError
from unrolled.layers.base import SequenceLayer
from unrolled.layers.given import check_one_hot, check_sizes, check_tensor
from unrolled.layers.state import define_state, make_state
from unrolled.scan import multiplies_in

_FIELDS = ("inputs",)
define_state(_FIELDS)


class WindowMLP(SequenceLayer):
    """A multilayer perceptron on the last `window` inputs: h_t = tanh(W[0] x_t + W[1] x_t-1 + … + b).

    Before the first input stand zeros. It is Bengio's network without direct connections, or one layer of a time-delay
    network; with a max pooling above, a convolutional one of one layer. Its state is the `window` - 1 inputs that the
    next step sees too.

    Raises   UsageError for a size below 1
    Source   Waibel et al. 1989; language model: Bengio, Ducharme, Vincent & Jauvin 2003
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        window: int = 5,
        *,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(batch_first)
        check_sizes(input_size=input_size, hidden_size=hidden_size, window=window)
        self.input_size = input_size
        self.hidden_size = self.output_size = hidden_size
        self.window = window
        self.W = nn.Parameter(torch.empty(window, hidden_size, input_size, device=device, dtype=dtype))
        self.b = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values: Glorot's for all of the window as one input."""
        bound = math.sqrt(6 / (self.window * self.input_size + self.hidden_size))
        nn.init.uniform_(self.W, -bound, bound)
        nn.init.zeros_(self.b)

    def run(self, x: Tensor, state: Any, lengths: Tensor | None, resets: Tensor | None, **more: Any) -> tuple[Any, ...]:
        """Run over all time at once.

        Shapes   x (time, batch, input), or whole numbers (time, batch) for one-hot vectors; state as it is returned,
                 inputs (batch, window - 1, input), the oldest first; returns y (time, batch, hidden) and the state
        """
        if more:
            raise ShapeError(f"a window has no further inputs or taps: {', '.join(more)}")
        x = self._checked(x, lengths)
        time, batch = x.shape[:2]
        before = self._before(state, batch)
        begins = None if resets is None else _begins(resets, -self.window)
        valid = None if lengths is None else sequence.mask(lengths, time)
        if valid is not None:
            x = torch.where(valid if x.dim() == 2 else valid[..., None], x, 0)
        steps = torch.arange(time, device=x.device)[:, None]
        net = self.b.expand(time, batch, -1)
        for back in range(self.window):
            part = self._seen(x, before, back)
            net = net + (part if begins is None else torch.where((steps - back >= begins[1:])[..., None], part, 0))
        y = torch.tanh(net)
        y = y if valid is None else torch.where(valid[..., None], y, 0)
        ends = torch.full((batch,), time, device=x.device) if lengths is None else lengths
        recent = self._recent(x, before, ends, begins) if time else before
        return y, make_state(_FIELDS, (recent.transpose(0, 1),))

    def initial_state(self, batch: int) -> Any:
        """Zeros for the inputs before the beginning."""
        return make_state(_FIELDS, (self.W.new_zeros(batch, self.window - 1, self.input_size),))

    def _checked(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if not x.is_floating_point():
            check_one_hot(x, self.input_size, lengths)
            return x.to(torch.int64)
        if x.shape[-1] != self.input_size:
            raise ShapeError(f"x has {x.shape[-1]} on its last axis; input_size is {self.input_size}")
        if x.dtype != self.W.dtype and not multiplies_in(self.W.dtype, x.device):
            raise ShapeError(f"x is {x.dtype}, the layer is {self.W.dtype}; convert one of them with .to(…)")
        return x.to(self.W.dtype)

    def _before(self, state: Any, batch: int) -> Tensor:
        """The inputs before the first step, time-major."""
        given = self.initial_state(batch) if state is None else (state,) if isinstance(state, Tensor) else state
        if len(given) != 1:
            raise ShapeError(f"the state has {len(given)} tensors; a window has one, the inputs that it still sees")
        (inputs,) = given
        check_tensor("state inputs", inputs)
        expected = (batch, self.window - 1, self.input_size)
        if inputs.shape != expected:
            raise ShapeError(
                f"state inputs is {tuple(inputs.shape)}; expected (batch, window - 1, input), here {expected}"
            )
        return inputs.to(self.W.dtype).transpose(0, 1)

    def _seen(self, x: Tensor, before: Tensor, back: int) -> Tensor:
        """What the input `back` steps before adds at each step.

        Shapes   returns (time, batch, hidden)
        """
        weight, first = self.W[back], len(before) - back
        earlier = functional.linear(before[first : first + len(x)], weight)
        x = x[: max(0, len(x) - back)]
        within = functional.linear(x, weight) if x.is_floating_point() else functional.embedding(x, weight.T)
        return torch.cat([earlier, within])

    def _recent(self, x: Tensor, before: Tensor, ends: Tensor, begins: Tensor | None) -> Tensor:
        """The last inputs of each row, time-major, zero where the row began later."""
        rows = torch.arange(len(ends), device=x.device)
        steps = ends - len(before) + torch.arange(len(before), device=x.device)[:, None]
        read = x[steps.clamp(min=0), rows]
        if not x.is_floating_point():
            read = functional.one_hot(read, self.input_size).to(before.dtype)
        older = before[(steps + len(before)).clamp(max=len(before) - 1), rows]
        recent = torch.where((steps >= 0)[..., None], read, older)
        return recent if begins is None else torch.where((steps >= begins[ends, rows])[..., None], recent, 0)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.input_size} -> {self.hidden_size}, window {self.window}"


def _begins(resets: Tensor, never: int) -> Tensor:
    """The step at which each step's sequence last began anew, `never` before the first such.

    Shapes   resets (time, batch); returns (1 + time, batch), a row ahead for what stands before the first step
    """
    steps = torch.arange(len(resets), device=resets.device)[:, None]
    found = torch.where(resets.to(torch.bool), steps, never)
    return torch.cat([found.new_full((1, resets.shape[1]), never), found]).cummax(0).values
