"""What a layer is given, checked, in words where it does not fit, and brought into the form that a plan runs on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from unrolled import sequence
from unrolled.errors import ShapeError, UsageError, did_you_mean
from unrolled.ir.ops import Shape
from unrolled.ir.program import Program, name_below
from unrolled.language import Cell

_ARGUMENTS = ("state", "lengths", "resets", "taps")
_CONVERTED = {
    "ndarray": "a numpy array; give a tensor: torch.from_numpy(…)",
    "list": "a list; give a tensor: torch.tensor(…), or torch.nn.utils.rnn.pad_sequence(…) where it holds tensors",
}


def check_tensor(name: str, value: object) -> None:
    """Raise a ShapeError unless a value is a tensor; it names the call that makes one."""
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise ShapeError(f"{name} is {_CONVERTED.get(kind, f'of type {kind}; expected a tensor')}")


def check_sizes(**sizes: object) -> None:
    """Raise a UsageError unless each is a whole number above 0."""
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise UsageError(f"{name} is a whole number above 0, not {size!r}")


def check_taps(taps: object) -> None:
    """Raise a ShapeError where a name stands alone."""
    if isinstance(taps, str):
        raise ShapeError(f"taps is a tuple of names: taps=({taps!r},)")


def check_no_lengths(state: object) -> None:
    """Raise a ShapeError where the lengths are given in the place of the state."""
    if isinstance(state, Tensor):
        found = state.dim() == 1 and not state.is_floating_point()
    else:
        found = isinstance(state, list | tuple) and len(state) > 0 and all(type(each) is int for each in state)
    if found:
        raise ShapeError("the second argument is the state; lengths are given by name: layer(x, lengths=lengths)")


def width(sizes: Mapping[str, int], shape: Shape) -> int:
    """The size of an axis; a number is as wide as one unit."""
    return sizes[shape[0]] if shape else 1


def check_inputs(cell: Cell, inputs: Mapping[str, object]) -> None:
    """Raise a ShapeError unless the further inputs are those of the cell, each a tensor."""
    known = [name for name, _ in cell.program.inputs[1:]]
    for name, value in inputs.items():
        if name not in known:
            hint = did_you_mean(name, (*known, *_ARGUMENTS))
            raise ShapeError(f"cell '{cell.name}' has no input {name!r}.{hint}")
        check_tensor(name, value)
    for name in known:
        if name not in inputs:
            below = name_below(name)
            where = f"; in a stack it is {below} of the layer below; the lowest layer has another cell, see at_depth"
            raise ShapeError(f"cell '{cell.name}' reads a further input: {name}=… is missing{where if below else ''}")


def sequences_of(
    cell: Cell,
    program: Program,
    sizes: Mapping[str, int],
    x: Tensor,
    inputs: Mapping[str, Tensor],
    lengths: Tensor | None,
) -> list[Tensor]:
    """The input and the cell's further ones, in the order in which `program`, the cell at these sizes, has them.

    Raises   ShapeError when one is on another axis
    """
    (first, _), *further = program.inputs
    if x.is_floating_point():
        if x.shape[-1] != sizes["input"]:
            raise ShapeError(f"x has {x.shape[-1]} on its last axis; input_size is {sizes['input']}")
    else:
        _check_not_read_itself(cell, program, first)
        check_one_hot(x, sizes["input"], lengths)
        x = x.to(torch.int64)
    sequences = [x]
    for name, shape in further:
        value = inputs[name]
        value = value[..., None] if not shape and value.dim() == 2 else value
        expected = (*x.shape[:2], width(sizes, shape))
        if value.shape != expected:
            raise ShapeError(f"{name} is {tuple(value.shape)}; expected (time, batch, axis), here {expected}")
        sequences.append(value)
    return sequences


def _check_not_read_itself(cell: Cell, program: Program, name: str) -> None:
    """Whole numbers stand for vectors that only maps read."""
    uses = [arg for node in program.nodes if node.op != "product" for arg in node.args]
    uses += [*program.results, *(node for _, node in program.equations)]
    for node in uses:
        if node.op == "sequence" and node["name"] == name:
            raise ShapeError(
                f"cell '{cell.name}' uses {name} itself, not only maps of it: give vectors, not whole numbers"
            )


def check_one_hot(x: Tensor, size: int, lengths: Tensor | None) -> None:
    """Raise a ShapeError unless the whole numbers, those of the padding aside, are below the size of their vectors."""
    if x.dtype == torch.bool or x.is_complex():
        raise ShapeError(f"x holds vectors or the whole numbers of one-hot vectors, not {x.dtype}")
    if sequence.readable(x) and (lengths is None or sequence.readable(lengths)) and x.numel():
        valid = x if lengths is None else torch.where(sequence.mask(lengths, x.shape[0]), x, 0)
        low, high = int(valid.min()), int(valid.max())
        if low < 0 or high >= size:
            raise ShapeError(f"x holds numbers from {low} to {high}; input_size is {size}")


def states_of(
    cell: Cell, sizes: Mapping[str, int], state: Any, initial: list[Tensor], clocked: bool
) -> tuple[list[Tensor], Tensor | None]:
    """The tensors of a state, the initial ones if it is None, and the clock if the cell is `clocked`.

    Raises   ShapeError when they are too few or too many, or on another axis
    """
    program = cell.program
    clock = torch.zeros((), dtype=torch.int64, device=initial[0].device) if clocked else None
    if state is None:
        return initial, clock
    given = [state] if hasattr(state, "shape") or not isinstance(state, Iterable) else list(state)
    if clock is not None and len(given) == len(program.states) + 1:
        clock = given.pop()
    if len(given) != len(program.states):
        names = ", ".join(name for name, _ in program.states)
        raise ShapeError(f"the state has {len(given)} tensors; cell '{cell.name}' has the states {names}")
    for (name, shape), value in zip(program.states, given, strict=True):
        check_tensor(f"state {name}", value)
        expected = (initial[0].shape[0], width(sizes, shape))
        if value.shape != expected:
            raise ShapeError(f"state {name} is {tuple(value.shape)}; expected (batch, hidden), here {expected}")
    return [value.to(initial[0].dtype) for value in given], clock
