"""A stream as a file: equations, weights and states in safetensors, none of which is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.backends.llvm.constants import Array, stored_shape
from unrolled.backends.llvm.stepping import Frozen
from unrolled.errors import UsageError
from unrolled.ir.plan import groups_of
from unrolled.ir.program import bind, loads, verify_program

FORMAT = 1
PRECISIONS = ("", "bfloat16")


@dataclass(frozen=True)
class Kept:
    """A layer with the steps that its clock has counted and its states, (batch, axis) by name."""

    frozen: Frozen
    clock: int
    state: dict[str, Array]


def dumps(layers: Sequence[Kept], batch: int, stacked: bool) -> bytes:
    """The file."""
    from safetensors.numpy import save

    tensors: dict[str, Array] = {}
    about = []
    for number, layer in enumerate(layers):
        frozen = layer.frozen
        fields = {"plan": frozen.plan, "sizes": frozen.sizes, "scalars": frozen.scalars, "clock": layer.clock}
        about.append({**fields, "precision": frozen.precision})
        tensors |= {f"{number}.parameter.{index}": value for index, value in enumerate(frozen.parameters)}
        tensors |= {f"{number}.initial.{name}": value for name, value in frozen.initial.items()}
        tensors |= {f"{number}.state.{name}": value for name, value in layer.state.items()}
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    fields = {"format": FORMAT, "batch": batch, "stacked": stacked, "layers": about}
    return save(whole, {"unrolled stream": json.dumps(fields)})


def opened(content: bytes, where: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """What the file says of the stream, and its tensors.

    where    what errors call it

    Raises   UsageError when it is no stream, or is of a later format
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size]).get("__metadata__", {}).get("unrolled stream")
        fields = None if about is None else json.loads(about)
    # What is nested too deeply ends in a RecursionError.
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UsageError(f"{where} is damaged: {str(error).splitlines()[0]}") from None
    if fields is None:
        raise UsageError(f"{where} holds no stream; layer.stream().save(…) writes one")
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        found = fields.get("format") if isinstance(fields, dict) else None
        raise UsageError(f"{where} has format {found!r}; this version of unrolled reads format {FORMAT}")
    return fields, tensors


def layer_of(number: int, about: Mapping[str, Any], tensors: Mapping[str, Array], batch: int) -> Kept:
    """A layer as the file has it, checked: kernels trust the shapes that they are told.

    Raises   UsageError for what does not fit; others, such as LookupError, for what is no layer at all
    """
    sizes = {str(axis): size for axis, size in about["sizes"].items()}
    if any(type(size) is not int or size < 1 for size in sizes.values()):
        raise UsageError("a size is no whole number above 0")
    text, _ = json.loads(about["plan"])
    program = loads(text)
    verify_program(program)
    if bind(program, sizes).dumps() != program.dumps() or program.rows:
        raise UsageError("the cell does not fit its sizes")
    groups = groups_of(program)
    parameters = tuple(tensors[f"{number}.parameter.{index}"] for index in range(len(groups)))
    initial = {name: tensors[f"{number}.initial.{name}"] for name, _ in program.states}
    state = {name: tensors[f"{number}.state.{name}"] for name in initial}
    types = {value.dtype.name for value in (*parameters, *initial.values())}
    if len(types) != 1 or not types <= {"float32", "float64"}:
        raise UsageError(f"its numbers are {', '.join(sorted(types))}")
    for group, value in zip(groups, parameters, strict=True):
        if value.shape != stored_shape(group, sizes):
            raise UsageError(f"{group.family}.{group.key} is {value.shape}")
    for name, shape in program.states:
        width = sizes[shape[0]] if shape else 1
        if initial[name].shape != (width,) or state[name].shape != (batch, width):
            raise UsageError(f"the state {name} is not of {width} units")
    # What was written before there was a choice has none.
    precision = about.get("precision", "")
    if precision not in PRECISIONS or (precision and types != {"float32"}):
        raise UsageError(f"there is no precision {precision!r} of {', '.join(types)}")
    scalars = {name: float(about["scalars"][name]) for name in program.scalars}
    return Kept(Frozen(about["plan"], sizes, scalars, parameters, initial, precision), int(about["clock"]), state)
