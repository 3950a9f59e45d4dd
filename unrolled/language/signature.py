"""What a cell declares: its arguments and their axes, and the keywords of @cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
        for key, value in hyperparameters.items():
            if key in ("input", "hidden"):
                raise CellError(f"cell '{name}': {key} is the name of an axis that the layer sets; rename it")
            if isinstance(value, float) and not math.isfinite(value):
                raise CellError(f"cell '{name}': hyperparameter {key} is {value}, not a finite number")
        unknown = named - {"input", "hidden", *self.axes}
        for axis in sorted(unknown):
            raise CellError(no_axis(name, axis, self.axes))
        for axis in sorted(named & set(self.axes)):
            if self.axes[axis] < 1:
                raise CellError(f"cell '{name}': the axis {axis} needs a size of at least 1, not {self.axes[axis]}")


def no_axis(cell: str, axis: object, axes: Mapping[str, int]) -> str:
    """The message for an axis that the cell does not have."""
    return (
        f"cell '{cell}': there is no axis {axis!r}.{did_you_mean(str(axis), {'input', 'hidden', *axes})}\n"
        f"  An axis of its own size is an integer hyperparameter: def {cell}(…, *, {axis}=32)"
    )


class Options:
    """The keywords of @cell, resolved against the hyperparameters."""

    KEYWORDS = ("source", "init", "initial", "axes", "structure")

    def __init__(
        self,
        source: str = "",
        doc: str = "",
        init: Mapping[str, Initial] | None = None,
        initial: Mapping[str, float] | None = None,
        axes: Mapping[str, str] | None = None,
        structure: Mapping[str, Structure] | None = None,
        cell: str = "",
    ):
        self.cell = cell
        self.source = source
        self.doc = doc
        self.init = dict(init or {})
        self.initial = {key: float(value) for key, value in (initial or {}).items()}
        self.axes = dict(axes or {})
        self.structure = dict(structure or {})

    @classmethod
    def of(cls, cell: str, keywords: Mapping[str, Any], doc: str) -> Options:
        """The keywords as they were given.

        Raises   CellError for an unknown keyword, or one whose value is of another kind
        """
        for key, value in keywords.items():
            if key not in cls.KEYWORDS:
                raise CellError(f"cell '{cell}': @cell has no keyword {key!r}.{did_you_mean(key, cls.KEYWORDS)}")
            if key == "source":
                if not isinstance(value, str):
                    raise CellError(f"cell '{cell}': source is a text, not {value!r}")
                continue
            if value is not None and not isinstance(value, Mapping):
                raise CellError(f"cell '{cell}': {key} is a dictionary by name, not {value!r}")
            for name, item in (value or {}).items():
                if not isinstance(name, str) or not _FITS[key](item):
                    raise CellError(f"cell '{cell}': {key} gives {name!r} {_KINDS[key]}, not {item!r}")
                if key == "init" and isinstance(item, str) and item not in INITIALISERS:
                    hint = did_you_mean(item, INITIALISERS)
                    raise CellError(f"cell '{cell}': init gives {name!r} {item!r}, which is no initialiser.{hint}")
        return cls(doc=doc, cell=cell, **keywords)

    def resolved_structure(self, static: Mapping[str, Any]) -> dict[str, Structure]:
        """The structures with hyperparameter names replaced by their values.

        Raises   ShapeError for arguments that make no sense
        """
        found = {}
        for key, structure in self.structure.items():
            arguments = tuple(static.get(a, a) if isinstance(a, str) else a for a in structure.arguments)
            found[key] = Structure(structure.name, arguments)
            try:
                check_arguments(found[key])
            except ShapeError as error:
                raise ShapeError(f"cell '{self.cell}', {key}: {error}") from None
        return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# By name, for the layers to draw; held against theirs by a test, as the language loads no torch.
INITIALISERS = ("glorot", "orthogonal", "identity", "uniform", "normal", "zeros", "ones")
_FITS: dict[str, Callable[[object], bool]] = {
    "init": lambda value: isinstance(value, str) or _is_number(value),
    "initial": _is_number,
    "axes": lambda value: isinstance(value, str),
    "structure": lambda value: isinstance(value, Structure),
}
_KINDS = {
    "init": "a number or the name of an initialiser",
    "initial": "a number",
    "axes": "the name of an axis",
    "structure": "a structure, called, such as diagonal()",
}


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
