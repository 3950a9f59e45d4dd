"""Cells: one time step, as a function or as text, traced once into a program."""

from __future__ import annotations

import builtins
import dis
import inspect
import linecache
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, overload

from unrolled.errors import CellError, Place, UnrolledError, at, did_you_mean
from unrolled.ir import latex, show
from unrolled.ir.program import Initial, Program
from unrolled.ir.structure import Structure
from unrolled.language.finish import finish
from unrolled.language.foreign import foreign_call
from unrolled.language.signature import Axis, Options, Signature
from unrolled.language.trace import Trace
from unrolled.language.values import Value, language_operations, tracing

Build = Callable[[Mapping[str, Any]], Program]


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell: its program and the hyperparameters that the program was traced with. Immutable."""

    program: Program
    hyperparameters: Mapping[str, Any]
    _build: Build

    @property
    def name(self) -> str:
        """The cell's name as commands and configurations write it: with hyphens."""
        return self.program.name.replace("_", "-")

    @property
    def source(self) -> str:
        """Author and year of the equations."""
        return self.program.source

    @property
    def text(self) -> str:
        """The cell in its own language; `parse` reads it back to the same program."""
        return show.text(self.program)

    def configure(self, **hyperparameters: Any) -> Cell:
        """The cell with other hyperparameters.

        Raises   CellError for a name that the cell does not have, or a value of another type
        """
        if not hyperparameters:
            return self
        for name, value in hyperparameters.items():
            if name not in self.hyperparameters:
                hint = did_you_mean(name, self.hyperparameters)
                raise CellError(f"cell '{self.name}' has no hyperparameter {name!r}.{hint}")
            if isinstance(self.hyperparameters[name], float) and type(value) is int:
                hyperparameters[name] = float(value)
            elif type(value) is not type(self.hyperparameters[name]):
                kind = type(self.hyperparameters[name]).__name__
                raise CellError(f"hyperparameter {name} of cell '{self.name}' is a {kind}, not {value!r}")
        return build_cell(self._build, {**self.hyperparameters, **hyperparameters})

    def latex(self, notation: str = "unrolled") -> str:
        """The equations typeset; `notation="lecture"` uses the lecture notes' letters."""
        return latex.latex(self.program, notation)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.program == other.program

    def __hash__(self) -> int:
        return hash(self.program)

    def __reduce__(self) -> tuple[Any, ...]:
        from unrolled.language.grammar import parse

        return parse, (self.text,)

    def __repr__(self) -> str:
        return self.text

    def _repr_latex_(self) -> str:
        return f"$${self.latex()}$$"

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Refuse, and say what runs a cell."""
        raise CellError(
            f"cell '{self.name}' is one step as equations and is not called; a layer runs it: "
            f"unrolled.layers.Recurrent({self.program.name}, input_size, hidden_size)"
        )


def build_cell(build: Build, hyperparameters: Mapping[str, Any]) -> Cell:
    """The cell that `build` makes of these hyperparameters."""
    return Cell(build(hyperparameters), dict(hyperparameters), build)


@overload
def cell(function: Callable[..., Any]) -> Cell: ...


@overload
def cell(
    *,
    source: str = "",
    init: Mapping[str, Initial] | None = None,
    initial: Mapping[str, float] | None = None,
    axes: Mapping[str, str] | None = None,
    structure: Mapping[str, Structure] | None = None,
) -> Callable[[Callable[..., Any]], Cell]: ...


def cell(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a cell of a function that writes one time step.

    The first argument is the input, the other positional ones are states (or more inputs, where annotated `Input`),
    keyword-only ones are hyperparameters. The returned values are the next states in that order, the output first.

    source     author and year
    init       initial value of symbols or families: a number, or the name of an initialiser
    initial    the value that a state starts from, where it is not zero
    axes       the axis that a V gives, or that a bias or vector has which stands alone
    structure  which entries of a map are free

    Raises   CellError and ShapeError, with the source line, when the equations do not make a program
    """
    if function is None:
        return lambda decorated: cell_from_function(decorated, options)
    return cell_from_function(function, options)


def cell_from_function(function: Callable[..., Any], keywords: Mapping[str, Any]) -> Cell:
    """The cell of a Python function."""
    name = function.__name__
    if not name.isidentifier():
        raise CellError("a cell has a name: write it as a function, def name(x, h), not as a lambda")
    options = Options.of(name, keywords, first_sentence(function.__doc__))
    positional: list[tuple[str, Any]] = []
    defaults: dict[str, Any] = {}
    for parameter in _parameters(name, function):
        annotation = None if parameter.annotation is parameter.empty else parameter.annotation
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty:
            positional.append((parameter.name, annotation))
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
            defaults[parameter.name] = parameter.default
        else:
            raise CellError(
                f"cell '{name}', argument {parameter.name}: inputs and states are positional without default, "
                f"hyperparameters stand after * and have one"
            )

    def build(hyperparameters: Mapping[str, Any]) -> Program:
        signature = Signature(name, positional, hyperparameters)
        return _trace_function(function, signature, options)

    return build_cell(build, defaults)


def _parameters(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function, eval_str=True).parameters.values())
    except Exception as error:  # an annotation that is text can raise whatever its expression does
        raise CellError(
            f"cell '{name}': an annotation cannot be read, {error}: annotate with State[axis] or Input[axis]"
        ) from error


def _trace_function(function: Callable[..., Any], signature: Signature, options: Options) -> Program:
    watcher = _Watcher(function.__code__)
    structure = options.resolved_structure(signature.static)
    trace = Trace(function.__name__, options.axes, structure, signature.axes, watcher.locate, watcher.observe)
    watcher.trace = trace
    arguments, keywords = trace.arguments(signature)
    with tracing(trace):
        try:
            results = function(*arguments, **keywords)
        except UnrolledError:
            raise
        except Exception as error:
            place = watcher.place_of(error)
            message = foreign_call(place, {**vars(builtins), **function.__globals__}) or (
                f"{type(error).__name__}: {error}\n  The operations of a cell are {', '.join(language_operations())}."
            )
            raise CellError(at(place, message)) from error
        watcher.observe()
        returned = () if results is None else results if isinstance(results, tuple) else (results,)
        return finish(trace, signature, returned, options)


class _Watcher:
    """Looks into the frame of the running cell: which names its values got, and which line is at work.

    A name is recorded when the next operation runs and once more at the end: the frame outlives the call, so the last
    names are still in it. That needs neither the source text nor a trace hook.
    """

    trace: Trace

    def __init__(self, code: CodeType):
        self._code = code
        self._frame: FrameType | None = None

    def observe(self) -> None:
        frame = self._current()
        if frame is not None:
            for name, value in list(frame.f_locals.items()):
                if isinstance(value, Value):
                    self.trace.bind(name, value)

    def locate(self) -> Place:
        frame = self._current()
        # A cell that recorded nothing was never seen at work: what is wrong with it is what it returns.
        return self._place(len(self._code.co_code) - 2 if frame is None else frame.f_lasti)

    def place_of(self, error: BaseException) -> Place:
        step = error.__traceback__
        place = Place(self._code.co_name)
        while step is not None:
            if step.tb_frame.f_code is self._code:
                place = self._place(step.tb_lasti)
            step = step.tb_next
        return place

    def _current(self) -> FrameType | None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code is not self._code:
            frame = frame.f_back
        self._frame = frame or self._frame
        return self._frame

    def _place(self, instruction: int) -> Place:
        name = self._code.co_name.removeprefix("<").removesuffix(">")
        line, end_line, start, end = list(self._code.co_positions())[instruction // 2]
        text = linecache.getline(self._code.co_filename, line) if line else ""
        if not text:
            return Place(name, self._target(instruction))
        encoded = text.encode()
        begin = len(encoded[: start or 0].decode(errors="ignore"))
        until = len(encoded[:end].decode(errors="ignore")) if end_line == line and end else len(text.rstrip())
        return Place(name, self._target(instruction), text, begin, until)

    def _target(self, instruction: int) -> str | None:
        """The name that the statement at work assigns to."""
        for step in dis.get_instructions(self._code):
            if step.offset < instruction:
                continue
            if step.opname.startswith("RETURN") or "JUMP" in step.opname:
                return None
            if step.opname.startswith("STORE_"):
                target = step.argval
                return target[0] if isinstance(target, tuple) else str(target)
        return None


def first_sentence(doc: str | None) -> str:
    """The first paragraph of a docstring, in one line."""
    return inspect.cleandoc(doc).split("\n\n")[0].replace("\n", " ").strip() if doc else ""


class _AxisOf:
    """`State` and `Input`: State["context"] annotates a state, Input["hidden"] or Input[()] a further input."""

    def __init__(self, kind: str):
        self._kind = kind

    def __getitem__(self, axis: object) -> Axis:
        return Axis(self._kind, axis)

    def __repr__(self) -> str:
        return self._kind


State = _AxisOf("State")
Input = _AxisOf("Input")
