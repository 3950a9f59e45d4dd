"""The body of a cell in a text: statements and expressions, read one by one into a trace."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from unrolled.errors import CellError, did_you_mean
from unrolled.ir.program import Program
from unrolled.language.finish import finish
from unrolled.language.foreign import foreign_call
from unrolled.language.functions import FUNCTIONS
from unrolled.language.signature import Options, Signature
from unrolled.language.source import Source
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


class Body(Source):
    """Reads the statements of one cell into a trace."""

    def __init__(self, name: str, lines: list[str]):
        super().__init__(name, lines)
        self._names: dict[str, Any] = {}
        self._steps = 0

    def record(self, body: list[ast.stmt], signature: Signature, options: Options) -> Program:
        """The program of the statements.

        Raises   CellError or ShapeError, with line and place, for what makes none
        """
        structure = options.resolved_structure(signature.static)
        trace = Trace(self.name, options.axes, structure, signature.axes, self.locate)
        arguments, keywords = trace.arguments(signature)
        leaves = [name for name, _ in signature.positional]
        self._names = dict(zip(leaves, arguments, strict=True)) | keywords
        with tracing(trace):
            return finish(trace, signature, self._statements(body, trace) or (), options)

    def _statements(self, body: list[ast.stmt], trace: Trace) -> tuple[Any, ...] | None:
        for statement in body:
            self.node, self.equation = statement, None
            self._steps += 1
            if self._steps > _MOST_STATEMENTS:
                self.fail(statement, f"its loops written out, a cell is over {_MOST_STATEMENTS} statements")
            if isinstance(statement, ast.Return):
                value = self._value(statement.value) if statement.value is not None else ()
                self.node = statement
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
            self.equation = target.id
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
        self.node = node
        self.fail(node, foreign_call(self.locate(), {}) or "the language has no such expression")

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
        self.node = node
        try:
            return function(*values, **keywords)
        except CellError:
            raise
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            self.fail(node, str(error))
