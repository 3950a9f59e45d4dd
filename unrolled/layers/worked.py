"""One step of a cell in numbers: every equation with the value that it gives, small enough to follow by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unrolled.errors import ShapeError
from unrolled.ir.plan import make_plan
from unrolled.ir.program import bind
from unrolled.ir.show import definitions
from unrolled.ir.summary import unit_of
from unrolled.language import Cell
from unrolled.layers.recurrent import Recurrent
from unrolled.scan import scan

Rows = list[tuple[str, Tensor]]

_INPUT, _HIDDEN = 3, 2
_LONGEST = 64  # of an equation that has its numbers beside it


def worked_step(cell: Cell, seed: int = 0) -> str:
    """One step of a small layer as text: what it reads, each equation with its numbers, the states before and after.

    Weights, inputs and states are drawn uniformly from -1 to 1. The same seed gives the same text.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        layer = _small(cell)
        for parameter in layer.parameters():
            parameter.uniform_(-1, 1)
        sequences = {name: torch.empty(1, 1, _size(layer, shape)) for name, shape in cell.program.inputs}
        states = {name: torch.empty(1, _size(layer, shape)) for name, shape in cell.program.states}
        for value in (*sequences.values(), *states.values()):
            value.uniform_(-1, 1)
        step, after = _run(layer, sequences, states)
    sizes = ", ".join(f"{axis} {size}" for axis, size in layer.sizes.items())
    before = [(name, value.flatten()) for name, value in (*sequences.items(), *states.items())]
    rows = [("before", before), ("step", step), ("after", after)]
    wide = max(len(text) for _, group in rows for text, _ in group if len(text) <= _LONGEST)
    shown = [f"{cell.name}, one step: {sizes}; weights, inputs and states between -1 and 1, seed {seed}"]
    for title, group in rows:
        shown += ["", title]
        for text, value in group:
            long = f"  {text}\n" if len(text) > _LONGEST else ""
            shown.append(f"{long}  {'' if long else text:{wide}}  {_numbers(value)}")
    return "\n".join(shown)


def _small(cell: Cell) -> Recurrent:
    """A layer of sizes at which every structure, repeat and clock of the cell fits."""
    unit = unit_of(cell.program)
    hidden = unit * -(-_HIDDEN // unit)
    try:
        return Recurrent(cell, _INPUT, hidden, backend="reference")
    except ShapeError:  # a square structure on an input map
        return Recurrent(cell, hidden, hidden, backend="reference")


def _size(layer: Recurrent, shape: tuple[str, ...]) -> int:
    return layer.sizes[shape[0]] if shape else 1


def _run(layer: Recurrent, sequences: dict[str, Tensor], states: dict[str, Tensor]) -> tuple[Rows, Rows]:
    """The equations with their values, and the next states."""
    program = layer.cell.program
    defined = definitions(program)
    # A name may stand twice, a tap is its last value: so each equation has a name of its own here.
    named = {f"equation_{number}": node for number, (_, node, _) in enumerate(defined) if node.args}
    bound = bind(replace(program, equations=tuple(named.items())), layer.sizes)
    x, *more = sequences.values()
    inputs: dict[str, Any] = dict(zip(list(sequences)[1:], more, strict=True))
    _, call = layer.prepare(x, tuple(states.values()), None, None, **inputs)
    outputs, finals = scan(make_plan(bound, tuple(named)), call, "reference")
    lines = [line for _, node, line in defined if node.args]
    values = [(line, output.flatten()) for line, output in zip(lines, outputs[1:], strict=True)]
    return values, [(name, final.flatten()) for (name, _), final in zip(program.states, finals, strict=True)]


def _numbers(value: Tensor) -> str:
    return "  ".join(f"{number:7.3f}" for number in value.tolist())
