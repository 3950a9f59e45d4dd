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
from collections.abc import Mapping
from typing import Any

from unrolled.errors import CellError, did_you_mean
from unrolled.ir.program import Program
from unrolled.language.body import Body
from unrolled.language.cell import Cell, build_cell, first_sentence
from unrolled.language.head import arguments_of, decorator_keywords
from unrolled.language.signature import Options, Signature
from unrolled.language.source import TOO_DEEP, Source, lines_of, syntax_tree


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
        statements, lines = syntax_tree(text).body, lines_of(text)
        for statement in statements:
            if not (_is_decorated(statement) or _is_harmless(statement)):
                raise CellError(_outside(statement, lines[statement.lineno - 1].strip()))
        return [_cell(statement, lines) for statement in statements if isinstance(statement, ast.FunctionDef)]
    except RecursionError:
        raise CellError(TOO_DEEP) from None


def _is_decorated(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef) and bool(statement.decorator_list)


def _is_harmless(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.module in ("unrolled", "unrolled.language", "__future__")
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _outside(statement: ast.stmt, line: str) -> str:
    """The message for a statement that may not stand beside cells."""
    hint = ""
    if isinstance(statement, ast.FunctionDef):
        hint = f"  If {statement.name} is a cell, put @cell above it.\n"
    elif isinstance(statement, ast.Assign):
        hint = "  A constant is written in the equations, or is a hyperparameter: def mine(x, h, *, rate=0.5)\n"
    return (
        f"line {statement.lineno} belongs to no cell: {line}\n"
        f"  A text of cells is read, never run: it holds functions under @cell and imports of unrolled.language.\n"
        f"{hint}  Helper functions work in Python, where the cell itself is given: unrolled.train(…, cell=mine)"
    )


def _cell(function: ast.FunctionDef, lines: list[str]) -> Cell:
    source = Source(function.name, lines)
    keywords = decorator_keywords(source, function)
    positional, defaults = arguments_of(source, function.args)
    options = Options.of(function.name, keywords, first_sentence(ast.get_docstring(function)))
    read = _read_names(function)

    def build(hyperparameters: Mapping[str, Any]) -> Program:
        for name, value in hyperparameters.items():
            if value != defaults[name] and type(value) is int and name not in read:
                raise CellError(
                    f"cell '{function.name}': these equations were written out for {name}={defaults[name]} "
                    f"and do not change with it"
                )
        signature = Signature(function.name, positional, hyperparameters)
        return Body(function.name, lines).record(function.body, signature, options)

    return build_cell(build, defaults)


def _read_names(function: ast.FunctionDef) -> set[str]:
    """Every name, and every text that may name an axis, that the cell mentions beside its hyperparameters."""
    parts = [*function.body, *function.decorator_list, *function.args.args]
    nodes = [node for part in parts for node in ast.walk(part)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
