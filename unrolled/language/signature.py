"""What a cell declares: its arguments and their axes, and the keywords of @cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unrolled.errors import CellError, ShapeError, did_you_mean
from unrolled.ir.ops import Shape
from unrolled.ir.program import Initial
from unrolled.ir.structure import Structure, check_arguments


class Signature:
    """The arguments of a cell, told apart.

    Raises   CellError when an argument's annotation is neither State nor Input
    """

    def __init__(self, name: str, positional: list[tuple[str, Any]], hyperparameters: Mapping[str, Any]):
        self.inputs: tuple[tuple[str, Shape], ...] = ()
        self.states: tuple[tuple[str, Shape], ...] = ()
        self.positional: list[tuple[str, Shape]] = []
        self.scalars = {key: value for key, value in hyperparameters.items() if isinstance(value, float)}
        self.static = {key: value for key, value in hyperparameters.items() if not isinstance(value, float)}
        if not positional:
            raise CellError(f"cell '{name}' needs an input and a state: def {name}(x, h)")
        for index, (argument, annotation) in enumerate(positional):
            if annotation is None:
                annotation = Axis("Input", "input") if index == 0 else Axis("State", "hidden")
            if not isinstance(annotation, Axis):
                raise CellError(f"cell '{name}', argument {argument}: annotate with State[axis] or Input[axis]")
            if index == 0 and annotation.kind != "Input":
                raise CellError(f"cell '{name}': the first argument, {argument}, is the input, not a state")
            self.positional.append((argument, annotation.shape))
            if annotation.kind == "Input":
                self.inputs += ((argument, annotation.shape),)
            else:
                self.states += ((argument, annotation.shape),)
        if not self.states:
            raise CellError(f"cell '{name}' has no state: add a positional argument, and return its next value")
        named = {axis for _, shape in (*self.inputs, *self.states) for axis in shape}
        self.axes = {key: value for key, value in self.static.items() if type(value) is int}
        unknown = named - {"input", "hidden", *self.axes}
        for axis in sorted(unknown):
            raise CellError(
                f"cell '{name}': there is no axis {axis!r}.{did_you_mean(axis, {'input', 'hidden', *self.axes})}\n"
                f"  An axis of its own size is an integer hyperparameter: def {name}(…, *, {axis}=32)"
            )


class Options:
    """The keywords of @cell, resolved against the hyperparameters."""

    def __init__(
        self,
        source: str = "",
        doc: str = "",
        init: Mapping[str, Initial] | None = None,
        initial: Mapping[str, float] | None = None,
        axes: Mapping[str, str] | None = None,
        structure: Mapping[str, Structure] | None = None,
    ):
        self.source = source
        self.doc = doc
        self.init = dict(init or {})
        self.initial = {key: float(value) for key, value in (initial or {}).items()}
        self.axes = dict(axes or {})
        self.structure = dict(structure or {})

    def resolved_structure(self, static: Mapping[str, Any]) -> dict[str, Structure]:
        """The structures with hyperparameter names replaced by their values.

        Raises   ShapeError for arguments that make no sense
        """
        found = {}
        for key, structure in self.structure.items():
            if not isinstance(structure, Structure):
                raise ShapeError(f"the structure of {key} is {structure!r}: call one, such as diagonal()")
            arguments = tuple(static.get(a, a) if isinstance(a, str) else a for a in structure.arguments)
            found[key] = Structure(structure.name, arguments)
            check_arguments(found[key])
        return found


class Axis:
    """The annotation of an argument: State["context"], Input[()]."""

    def __init__(self, kind: str, axis: object):
        if axis != () and not isinstance(axis, str):
            raise CellError(f"{kind}[…] takes the name of an axis, or () for a number, not {axis!r}")
        self.kind = kind
        self.shape: Shape = (axis,) if isinstance(axis, str) else ()


def axes_text(shape: Shape) -> str:
    """A shape in words: (hidden), (hidden x input), a number."""
    return f"({' x '.join(shape)})" if shape else "a number"
