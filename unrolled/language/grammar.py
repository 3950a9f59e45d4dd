"""The text of the cell language: parsed by a small grammar and recorded, never executed as Python.

file        = {import of unrolled.language | docstring | cell}
cell        = "@cell" ["(" keywords ")"] "def" name "(" arguments ")" ":" [docstring] {statement} return
statement   = name "=" expression | names "=" expressions | "for" name "in" "range(" integers ")" ":" statements
expression  = number | name | symbol | map "@" expression | expression (+ - * / < <= == > >=) expression
            | "-" expression | function "(" expressions ")"
symbol      = ("W" | "U" | "V" | "b" | "p" | "s") "." name ["[" integer "]"]
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from unrolled.errors import CellError, Place, at, did_you_mean
from unrolled.ir.program import Program
from unrolled.language.cell import Cell, Input, State, _first_sentence, build_cell
from unrolled.language.functions import FUNCTIONS
from unrolled.language.signature import Options, Signature
from unrolled.language.structures import STRUCTURE_FUNCTIONS
from unrolled.language.trace import Trace
from unrolled.language.values import FAMILIES, Operand, Symbol, tracing

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.MatMult: operator.matmul,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_LARGEST = 10**12
_MOST_STATEMENTS = 2000
_LONGEST_TEXT = 200_000


def parse(text: str, name: str | None = None) -> Cell:
    """The one cell of a text, or the cell called `name` of several.

    Raises   CellError when the text is no cell, has several and no name is given, or says what the language has not
    """
    cells = parse_all(text)
    by_name = {cell.program.name: cell for cell in cells}
    if name is not None:
        found = by_name.get(name.replace("-", "_"))
        if found is None:
            raise CellError(f"the text has no cell {name!r}.{did_you_mean(name, by_name)}")
        return found
    if len(cells) != 1:
        raise CellError(f"the text has {len(cells)} cells, {', '.join(by_name)}: name one" if cells else _NO_CELL)
    return cells[0]


_NO_CELL = "the text has no cell: a function under @cell"


def parse_all(text: str) -> list[Cell]:
    """Every cell of a text, in order.

    Raises   CellError, with line and place, for anything that the grammar does not know
    """
    try:
        return _cells(_syntax_tree(text), _Reader("text", _lines(text)))
    except RecursionError:
        raise CellError(_TOO_DEEP) from None


_TOO_DEEP = "the text is no cell: its expressions are nested too deeply"


def _syntax_tree(text: str) -> ast.Module:
    if len(text) > _LONGEST_TEXT:
        raise CellError(f"the text is no cell: it is longer than {_LONGEST_TEXT} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f" (line {line})" if line else ""
        raise CellError(f"the text is no cell: {getattr(error, 'msg', error)}{where}") from None
    except (RecursionError, MemoryError):
        raise CellError(_TOO_DEEP) from None


def _lines(text: str) -> list[str]:
    """The lines as Python counts them: form feeds and Unicode separators end none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _cells(module: ast.Module, reader: _Reader) -> list[Cell]:
    cells = []
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef) and statement.decorator_list:
            cells.append(_Reader(statement.name, reader.lines).cell(statement))
        elif not _harmless(statement):
            reader.fail(statement, "a text of cells holds cells and imports of unrolled.language, nothing else")
    return cells


def _harmless(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.module in ("unrolled", "unrolled.language", "__future__")
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _read_names(function: ast.FunctionDef) -> set[str]:
    """Every name, and every text that may name an axis, that the cell mentions beside its hyperparameters."""
    parts = [*function.body, *function.decorator_list, *function.args.args]
    nodes = [node for part in parts for node in ast.walk(part)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


class _Reader:
    """Reads one cell's syntax tree, statement by statement, into a trace."""

    def __init__(self, name: str, lines: list[str]):
        self.name = name
        self.lines = lines
        self._at: ast.AST | None = None
        self._equation: str | None = None
        self._names: dict[str, Any] = {}
        self._steps = 0

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        self._at = node
        raise CellError(at(self.locate(), message))

    def locate(self) -> Place:
        node = self._at
        if not isinstance(node, ast.expr | ast.stmt):
            return Place(self.name, self._equation)
        line = self.lines[node.lineno - 1]
        end = node.end_col_offset if node.end_lineno == node.lineno and node.end_col_offset else len(line.encode())
        encoded = line.encode()
        start = len(encoded[: node.col_offset].decode())
        return Place(self.name, self._equation, line, start, len(encoded[:end].decode()))

    def cell(self, function: ast.FunctionDef) -> Cell:
        keywords = self._decorator(function)
        positional, defaults = self._arguments(function.args)
        options = Options.of(self.name, keywords, _first_sentence(ast.get_docstring(function)))
        read = _read_names(function)

        def build(hyperparameters: Mapping[str, Any]) -> Program:
            reader = _Reader(self.name, self.lines)
            for name, value in hyperparameters.items():
                if value != defaults[name] and type(value) is int and name not in read:
                    raise CellError(
                        f"cell '{self.name}': these equations were written out for {name}={defaults[name]} "
                        f"and do not change with it"
                    )
            return reader._record(function.body, Signature(self.name, positional, hyperparameters), options)

        return build_cell(build, defaults)

    def _decorator(self, function: ast.FunctionDef) -> dict[str, Any]:
        (decorator, *rest) = function.decorator_list
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if rest or not isinstance(call, ast.Name) or call.id != "cell":
            self.fail(decorator, "a cell stands under @cell, and nothing else")
        if not isinstance(decorator, ast.Call):
            return {}
        if decorator.args:
            self.fail(decorator.args[0], "@cell takes keywords only")
        return {str(keyword.arg): self._literal(keyword.value) for keyword in decorator.keywords}

    def _arguments(self, arguments: ast.arguments) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
        if arguments.vararg or arguments.kwarg or arguments.defaults or None in arguments.kw_defaults:
            raise CellError(
                f"cell '{self.name}': inputs and states are positional without default, hyperparameters "
                f"stand after * and have one"
            )
        every = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        for name in every:
            if every.count(name) > 1:
                raise CellError(f"cell '{self.name}': two arguments are called {name}")
        positional = [
            (argument.arg, self._annotation(argument.annotation) if argument.annotation else None)
            for argument in (*arguments.posonlyargs, *arguments.args)
        ]
        defaults = {
            argument.arg: self._literal(value)
            for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if value is not None
        }
        return positional, defaults

    def _annotation(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            quoted = _syntax_tree(node.value).body
            node = quoted[0].value if len(quoted) == 1 and isinstance(quoted[0], ast.Expr) else node
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            kind = {"State": State, "Input": Input}.get(node.value.id)
            if kind is not None:
                try:
                    return kind[self._literal(node.slice)]
                except CellError as error:
                    self.fail(node, str(error))
        self.fail(node, "annotate with State[axis] or Input[axis]")

    def _literal(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Dict):
            if any(key is None for key in node.keys):
                self.fail(node, "a dictionary is written out in full")
            keys = [self._literal(key) for key in node.keys if key is not None]
            if not all(isinstance(key, str) for key in keys):
                self.fail(node, "the keys of a dictionary are names")
            return dict(zip(keys, (self._literal(value) for value in node.values), strict=True))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in STRUCTURE_FUNCTIONS:
            structure: Callable[..., Any] = STRUCTURE_FUNCTIONS[node.func.id]
            if node.keywords:
                self.fail(node, "the arguments of a structure have no names")
            try:
                return structure(*(self._literal(argument) for argument in node.args))
            except TypeError as error:
                self.fail(node, str(error))
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            self.fail(node, "needs a number, a text, a tuple or a structure, written out")

    def _record(self, body: list[ast.stmt], signature: Signature, options: Options) -> Program:
        structure = options.resolved_structure(signature.static)
        trace = Trace(self.name, options.axes, structure, signature.axes, self.locate)
        arguments, keywords = trace.arguments(signature)
        leaves = [name for name, _ in signature.positional]
        self._names = dict(zip(leaves, arguments, strict=True)) | keywords
        with tracing(trace):
            results = self._statements(body, trace)
            if results is None:
                raise CellError(f"cell '{self.name}' returns nothing: it returns its next states")
            return trace.finish(signature, results, options)

    def _statements(self, body: list[ast.stmt], trace: Trace) -> tuple[Any, ...] | None:
        for statement in body:
            self._at, self._equation = statement, None
            self._steps += 1
            if self._steps > _MOST_STATEMENTS:
                self.fail(statement, f"its loops written out, a cell is over {_MOST_STATEMENTS} statements")
            if isinstance(statement, ast.Return) and statement.value is not None:
                value = self._value(statement.value)
                return value if isinstance(value, tuple) else (value,)
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                self._assign(statement.targets[0], statement.value, trace)
            elif isinstance(statement, ast.For):
                results = self._loop(statement, trace)
                if results is not None:
                    return results
            elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                self.fail(statement, "a cell is made of equations, loops over range(…) and one return")
        return None

    def _assign(self, target: ast.expr, value: ast.expr, trace: Trace) -> None:
        if isinstance(target, ast.Name):
            self._equation = target.id
            self._names[target.id] = self._value(value)
            trace.bind(target.id, self._names[target.id])
            return
        if not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple) or len(target.elts) != len(value.elts):
            self.fail(target, "an equation gives a name to a value, or names to as many values")
        values = [self._value(element) for element in value.elts]
        for element, part in zip(target.elts, values, strict=True):
            if not isinstance(element, ast.Name):
                self.fail(element, "an equation gives a name to a value")
            self._names[element.id] = part
            trace.bind(element.id, part)

    def _loop(self, loop: ast.For, trace: Trace) -> tuple[Any, ...] | None:
        call = loop.iter
        if not (
            isinstance(loop.target, ast.Name)
            and isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "range"
            and not loop.orelse
        ):
            self.fail(loop.iter, "a loop runs over range(…)")
        bounds = [self._value(argument) for argument in call.args]
        if not all(type(bound) is int for bound in bounds) or not 1 <= len(bounds) <= 3:
            self.fail(call, "range takes integers")
        if bounds[2:] == [0]:
            self.fail(call, "range needs a step other than 0")
        for index in range(*bounds):
            self._steps += 1
            self._names[loop.target.id] = index
            results = self._statements(loop.body, trace)
            if results is not None:
                return results
        return None

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            return node.value
        if isinstance(node, ast.Name):
            if node.id in self._names:
                return self._names[node.id]
            self.fail(node, f"{node.id} has no value.{did_you_mean(node.id, {*self._names, *FUNCTIONS})}")
        if isinstance(node, ast.Tuple):
            return tuple(self._value(element) for element in node.elts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._apply(node, operator.neg, self._value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self._value(node.left), self._value(node.right)
            self._check_arithmetic(node, left, right)
            return self._apply(node, _BINARY[type(node.op)], left, right)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
            left, right = self._value(node.left), self._value(node.comparators[0])
            return self._apply(node, _COMPARE[type(node.ops[0])], left, right)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in FAMILIES:
            if node.attr.startswith("_"):
                self.fail(node, "the name of a symbol does not begin with an underscore")
            return Symbol(node.value.id, node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute | ast.Name | ast.Subscript):
            return self._apply(node, operator.getitem, self._value(node.value), self._value(node.slice))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node, node.func.id)
        self.fail(node, "the language has no such expression")

    def _check_arithmetic(self, node: ast.BinOp, left: Any, right: Any) -> None:
        """Only values and numbers are reckoned with, and numbers of a size at which nothing grows without end."""
        numbers = [value for value in (left, right) if not isinstance(value, Operand)]
        if not all(isinstance(value, int | float) for value in numbers):
            self.fail(node, "the language reckons with values and numbers only")
        if len(numbers) == 2 and not all(abs(value) <= _LARGEST for value in numbers):
            self.fail(node, "numbers that are reckoned with are of ordinary size")
        if len(numbers) == 2 and isinstance(node.op, ast.Pow) and abs(right) > 64:
            self.fail(node, "an exponent is at most 64")

    def _call(self, node: ast.Call, name: str) -> Any:
        if name not in FUNCTIONS:
            self.fail(node.func, f"unknown operation {name}.{did_you_mean(name, FUNCTIONS)}")
        keywords = {str(keyword.arg): self._value(keyword.value) for keyword in node.keywords}
        return self._apply(node, FUNCTIONS[name], *(self._value(argument) for argument in node.args), **keywords)

    def _apply(self, node: ast.AST, function: Callable[..., Any], *values: Any, **keywords: Any) -> Any:
        self._at = node
        try:
            return function(*values, **keywords)
        except CellError:
            raise
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            self.fail(node, str(error))
