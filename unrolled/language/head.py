"""The head of a cell in a text: its decorator, its arguments, and the values written out in them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from unrolled.errors import CellError
from unrolled.language.cell import Input, State
from unrolled.language.source import Source, syntax_tree
from unrolled.language.structures import STRUCTURE_FUNCTIONS


def decorator_keywords(source: Source, function: ast.FunctionDef) -> dict[str, Any]:
    """The keywords of @cell.

    Raises   CellError for another decorator, or a value that is not written out
    """
    (decorator, *rest) = function.decorator_list
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    if rest or not isinstance(call, ast.Name) or call.id != "cell":
        source.fail(decorator, "a cell stands under @cell, and nothing else")
    if not isinstance(decorator, ast.Call):
        return {}
    if decorator.args:
        source.fail(decorator.args[0], "@cell takes keywords only")
    return {str(keyword.arg): _literal(source, keyword.value) for keyword in decorator.keywords}


def arguments_of(source: Source, arguments: ast.arguments) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """The positional arguments with their annotations, and the hyperparameters with their defaults.

    Raises   CellError for arguments of another kind, or of one name
    """
    if arguments.vararg or arguments.kwarg or arguments.defaults or None in arguments.kw_defaults:
        raise CellError(
            f"cell '{source.name}': inputs and states are positional without default, hyperparameters "
            f"stand after * and have one"
        )
    every = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    for name in every:
        if every.count(name) > 1:
            raise CellError(f"cell '{source.name}': two arguments are called {name}")
    positional = [
        (argument.arg, _annotation(source, argument.annotation) if argument.annotation else None)
        for argument in (*arguments.posonlyargs, *arguments.args)
    ]
    defaults = {
        argument.arg: _literal(source, value)
        for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if value is not None
    }
    return positional, defaults


def _annotation(source: Source, node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = _unquoted(node, node.value)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        kind = {"State": State, "Input": Input}.get(node.value.id)
        if kind is not None:
            axis = _literal(source, node.slice)
            try:
                return kind[axis]
            except CellError as error:
                source.fail(node, str(error))
    source.fail(node, "annotate with State[axis] or Input[axis]")


def _unquoted(node: ast.expr, text: str) -> ast.expr:
    """The expression that an annotation quotes, at the place of the annotation; the annotation itself if it is none."""
    try:
        quoted = syntax_tree(text).body
    except CellError:
        return node
    if len(quoted) != 1 or not isinstance(quoted[0], ast.Expr):
        return node
    for part in ast.walk(quoted[0]):
        ast.copy_location(part, node)
    return quoted[0].value


def _literal(source: Source, node: ast.expr) -> Any:
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            source.fail(node, "a dictionary is written out in full")
        keys = [_literal(source, key) for key in node.keys if key is not None]
        if not all(isinstance(key, str) for key in keys):
            source.fail(node, "the keys of a dictionary are names")
        return dict(zip(keys, (_literal(source, value) for value in node.values), strict=True))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in STRUCTURE_FUNCTIONS:
        structure: Callable[..., Any] = STRUCTURE_FUNCTIONS[node.func.id]
        if node.keywords:
            source.fail(node, "the arguments of a structure have no names")
        try:
            return structure(*(_literal(source, argument) for argument in node.args))
        except TypeError as error:
            source.fail(node, str(error))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        source.fail(node, "needs a number, a text, a tuple or a structure, written out")
