"""Layers of every cell, small and with random weights, and batches that they can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from tests.ir.hard_cells import HARD_CELLS
from unrolled.cells import all_cells
from unrolled.language import Cell, parse
from unrolled.layers import Recurrent

# Every structure and nearly every operation; a state that is handed on unchanged; a division; one number as a state.
EXTRA_CELLS = [
    parse(text)
    for text in (
        """
@cell(axes={"V.s": "chunk"}, initial={"n": 1.0},
      structure={"U.d": diagonal(), "U.b": block_diagonal("chunk"), "U.a": antisymmetric(), "U.l": low_rank("chunk")})
def weird(x, h, n, m, dt: Input[()], below: Input["hidden"], *, alpha=0.3, chunk=3):
    a = raw(x) + softplus(dt * p.a)
    k = maximum(m, minimum(a, 0.5 * h))
    q = softmax(V.k @ h / sqrt(size()))
    r = repeat(cumax(V.s @ tanh(h)))
    m = abs(k) * alpha + log(exp(a) + 1) / sqrt(1 + n * n) * s.gain
    n = where(a > 0, n * r, relu(n) - below)
    h = tanh(m) * n - (1 - q) * layer_norm(h) + U.d @ h + U.b @ n + U.a @ (h * n) + U.l @ m
    return h, n, m
""",
        """
@cell
def handed_on(x, h, anchor):
    h = tanh(W.h @ x + U.h @ h + anchor)
    return h, anchor
""",
        """
@cell
def divided(x, h, dt: Input[()]):
    h = tanh((W.h @ x) / dt + U.h @ h + b.h)
    return h
""",
        """
@cell
def one_number(x, h, level: State[()]):
    level = 0.5 * level + s.rate
    h = tanh(W.h @ x + level * (U.h @ h))
    return h, level
""",
        """
@cell
def average(x, h: State["input"], *, keep=0.9):
    h = keep * h + (1 - keep) * x
    return h
""",
    )
]
CELLS: dict[str, Cell] = {cell.name: cell for cell in (*all_cells().values(), *HARD_CELLS, *EXTRA_CELLS)}
NAMES = list(CELLS)
# Each is another cell of the sweep but for a gate or two, and goes through all of it only among the slow tests.
VARIANTS = {
    "lstm-nig", "lstm-nfg", "lstm-nog", "lstm-niaf", "lstm-noaf", "lstm-np", "lstm-f", "lstm-i", "lstm-o", "lstm-1997",
    "layer-norm-lstm-per-gate", "layer-norm-gru", "depth-gated-lstm-first", "depth-block", "grid-block", "mut1", "mut2",
    "elman-relu", "child-sum-node", "child-sum-edge", "mingru", "mut3", "priority-grid-block", "binary-tree-lstm",
}  # fmt: skip
# A module of the clock, or a chunk, has one unit or more.
FOR_ONE_UNIT: dict[str, dict[str, Any]] = {"clockwork": {"periods": (2,)}, "weird": {"chunk": 1}}


def layer_of(name: str, input_size: int = 3, hidden_size: int = 6, **options: Any) -> Recurrent:
    """A layer in float64 whose weights, biases too, are random."""
    options = {"dtype": torch.float64, **(FOR_ONE_UNIT.get(name, {}) if hidden_size == 1 else {}), **options}
    layer = Recurrent(CELLS[name], input_size, hidden_size, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return layer


def twin(layer: Recurrent, backend: str) -> Recurrent:
    """The same layer on another backend."""
    other = layer_of(
        layer.cell.name, layer.input_size, layer.hidden_size, backend=backend, reverse=layer.reverse, bias=layer.bias,
        learn_initial=layer.initial is not None, dtype=next(layer.parameters(), layer._empty).dtype,
    )  # fmt: skip
    other.load_state_dict(layer.state_dict())
    return other.train(layer.training)


@dataclass
class Batch:
    """What a layer is given besides its parameters."""

    x: Tensor
    inputs: dict[str, Tensor]
    state: tuple[Tensor, ...]
    clock: int | None = None
    lengths: Tensor | None = None
    resets: Tensor | None = None
    taps: tuple[str, ...] = field(default=())

    @property
    def flat(self) -> list[Tensor]:
        return [self.x, *self.inputs.values(), *self.state]

    def with_flat(self, tensors: Sequence[Tensor]) -> Batch:
        x, *rest = tensors
        count = len(self.inputs)
        return replace(self, x=x, inputs=dict(zip(self.inputs, rest[:count], strict=True)), state=tuple(rest[count:]))

    def whole_state(self) -> tuple[Tensor, ...]:
        return self.state if self.clock is None else (*self.state, torch.tensor(self.clock))


def batch_for(
    layer: Recurrent,
    time: int = 5,
    batch: int = 3,
    *,
    ragged: bool = False,
    resets: bool = False,
    taps: bool = False,
    clock: int = 1,
) -> Batch:
    """Random inputs and states; lengths unequal, unsorted and with a 0; about a third of the steps begin anew."""
    program, dtype = layer.cell.program, next(layer.parameters(), layer._empty).dtype
    like: dict[str, Any] = {"dtype": dtype}

    def width(shape: tuple[str, ...]) -> int:
        return layer.sizes[shape[0]] if shape else 1

    unequal = torch.tensor([max(0, time - 2), 0, time, 1, time]).clamp(max=time)
    lengths = unequal[torch.arange(batch) % 5] if ragged else None
    return Batch(
        torch.randn(time, batch, layer.input_size, **like),
        {
            name: torch.rand(time, batch, **like) + 0.2 if not shape else torch.randn(time, batch, width(shape), **like)
            for name, shape in program.inputs[1:]
        },
        tuple(torch.randn(batch, width(shape), **like) for _, shape in program.states),
        clock if program.uses_clock else None,
        lengths,
        torch.rand(time, batch) < 0.35 if resets else None,
        tuple(program.names) if taps else (),
    )


def run(layer: Recurrent, given: Batch, parameters: dict[str, Tensor] | None = None) -> list[Tensor]:
    """Everything that a layer hands out but the clock: the output, the states and the taps."""
    keywords: dict[str, Any] = {"lengths": given.lengths, "resets": given.resets, **given.inputs}
    if given.taps:
        keywords["taps"] = given.taps
    y, state, *taps = functional_call(layer, parameters or {}, (given.x, given.whole_state()), keywords)
    values = state[: len(given.state)]
    return [y, *values, *(taps[0].values() if taps else ())]


def gradients(
    layer: Recurrent, given: Batch, cotangents: Iterable[Tensor] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """The results, and the gradients of inputs, states and parameters; zeros where nothing depends on them."""
    flat = [tensor.detach().clone().requires_grad_(tensor.is_floating_point()) for tensor in given.flat]
    parameters = {name: value.detach().clone().requires_grad_() for name, value in layer.named_parameters()}
    results = run(layer, given.with_flat(flat), parameters)
    if cotangents is None:
        random = torch.Generator().manual_seed(7)
        cotangents = [torch.randn(r.shape, dtype=r.dtype, generator=random) for r in results]
    wanted = [tensor for tensor in (*flat, *parameters.values()) if tensor.requires_grad]
    pairs = [(r, c) for r, c in zip(results, cotangents, strict=True) if r.requires_grad]
    found = torch.autograd.grad([r for r, _ in pairs], wanted, [c for _, c in pairs], allow_unused=True)
    zeros = [torch.zeros_like(value) if g is None else g for value, g in zip(wanted, found, strict=True)]
    return [result.detach() for result in results], zeros


def assert_close(got: Iterable[Tensor], expected: Iterable[Tensor], tolerance: float = 1e-10) -> None:
    """Each tensor within `tolerance` of the other, relative to the largest entry."""
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape, (index, a.shape, b.shape)
        assert torch.isfinite(a).all(), index
        a, b = a.detach(), b.detach()
        if b.numel():
            worst = float((a - b).abs().max() / b.abs().max().clamp(min=1e-3))
            assert worst <= tolerance, (index, worst)
