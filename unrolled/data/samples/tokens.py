"""Tokens of Python's standard library, and what each of them is in its line, as the parser has it.

A sentence is a logical line: a statement, or the head of one. Each that differs is there once; those of a single token,
or of more than `LONGEST`, and comments are left out. A string is shown as quotation marks with … between them.

keyword    if; match, where it is one            function   the name that def defines
builtin    len, where it is a name that is read  class      the name that class defines
name       of a variable that is read            parameter  where a function is defined
assigned   a name that is given a value          argument   the name in f(name=1)
call       a name or an attribute that is called imported   any name of an import
attribute  another name after a dot              string, number, operator

But for the last three, what a token looks like does not decide: `open` is a call of os, an attribute, a builtin, the
name of a function. That is what there is to learn.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from importlib.util import find_spec
from types import BuiltinFunctionType
from typing import NamedTuple

from unrolled.errors import UnrolledError

# Modules whose licence is Python's: their source has none of its own.
MODULES = (
    "argparse", "calendar", "configparser", "contextlib", "csv", "dataclasses", "difflib", "dis", "enum", "fractions",
    "ftplib", "functools", "gettext", "heapq", "imaplib", "locale", "mailbox", "pdb", "pickle", "plistlib", "pydoc",
    "random", "selectors", "shutil", "smtplib", "socket", "statistics", "tempfile", "threading", "traceback", "typing",
    "uuid", "weakref", "zipfile",
)  # fmt: skip
LABELS = (
    "keyword", "builtin", "name", "assigned", "call", "attribute", "function", "class", "parameter", "argument",
    "imported", "string", "number", "operator",
)  # fmt: skip
LONGEST = 60
_KINDS = {tokenize.OP: "operator", tokenize.NUMBER: "number", tokenize.STRING: "string"}
# What the interactive interpreter adds is none of these.
_BUILTINS = {name for name, value in vars(builtins).items() if isinstance(value, type | BuiltinFunctionType)}


class Token(NamedTuple):
    """A token as it is shown, its kind, and where it begins: the line, the first 1, and the character."""

    text: str
    kind: int
    start: tuple[int, int]


def lines() -> Iterator[tuple[list[str], list[str]]]:
    """The tokens of each line, and their labels.

    Raises   UnrolledError where Python is installed without its source
    """
    seen = set()
    for module in MODULES:
        for tokens, labels in labelled(_source(module)):
            if 1 < len(tokens) <= LONGEST and tuple(tokens) not in seen:
                seen.add(tuple(tokens))
                yield tokens, labels


def labelled(source: str) -> Iterator[tuple[list[str], list[str]]]:
    """The tokens of each logical line of a program, and their labels; only letters of ASCII are kept."""
    # So that a column is the same in bytes, as the parser counts, and in characters.
    source = re.sub(r"[^\x00-\x7f]", "_", source)
    roles, imports = _roles(ast.parse(source))
    tokens: list[str] = []
    labels: list[str] = []
    for text, kind, start in _tokens(source):
        if kind == tokenize.NEWLINE:
            yield tokens, labels
            tokens, labels = [], []
            continue
        label = _KINDS.get(kind) or roles.get(start)
        labels.append(label or _unclaimed(text, tokens[-1] if tokens else "", start[0] in imports))
        tokens.append(text)


def _unclaimed(text: str, before: str, in_import: bool) -> str:
    """The label of a word that is no node of the tree of its own."""
    if keyword.iskeyword(text):
        return "keyword"
    if before in ("def", "class"):
        return "function" if before == "def" else "class"
    if in_import:
        return "imported"
    if before == "as":
        return "assigned"
    return "keyword" if keyword.issoftkeyword(text) else "name"


def _roles(tree: ast.AST) -> tuple[dict[tuple[int, int], str], set[int]]:
    """What the names are that have a place in the tree, by where they begin; and the lines of imports."""
    roles: dict[tuple[int, int], str] = {}
    imports: set[int] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        # Not every version of Python knows the places in it.
        if isinstance(node, ast.JoinedStr):
            continue
        waiting += ast.iter_child_nodes(node)
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name) as called):
                roles[_last(called, name)] = "call"
            case ast.Name(id=name, ctx=ast.Load()) if name in _BUILTINS:
                roles[_last(node, name)] = "builtin"
            # A call is met before its name, and stays one.
            case ast.Name(id=name, ctx=ctx):
                roles.setdefault(_last(node, name), "assigned" if isinstance(ctx, ast.Store) else "name")
            case ast.Attribute(attr=name):
                roles.setdefault(_last(node, name), "attribute")
            case ast.arg():
                roles[node.lineno, node.col_offset] = "parameter"
            case ast.keyword(arg=str()):
                roles[node.lineno, node.col_offset] = "argument"
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                roles[_last(node, name)] = "assigned"
            case ast.Import() | ast.ImportFrom():
                imports.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return roles, imports


def _last(node: ast.expr | ast.pattern, name: str) -> tuple[int, int]:
    """Where the name begins that a node ends in."""
    return node.end_lineno or 0, (node.end_col_offset or 0) - len(name)


def _tokens(source: str) -> Iterator[Token]:
    """The tokens without layout and comments; a string, formatted or not, is one."""
    open_strings = 0
    for kind, text, start, _, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[kind]
        opens, closes = name.endswith("STRING_START"), name.endswith("STRING_END")
        if kind == tokenize.STRING or opens:
            if not open_strings:
                prefix = re.match(r"\w*", text)
                yield Token(f'{prefix.group() if prefix else ""}"…"', tokenize.STRING, start)
            open_strings += opens
        elif closes:
            open_strings -= 1
        elif not open_strings and kind in (tokenize.NAME, tokenize.NUMBER, tokenize.OP, tokenize.NEWLINE):
            yield Token(text, kind, start)


def _source(module: str) -> str:
    spec = find_spec(module)
    source = getattr(spec.loader, "get_source", lambda _: None)(module) if spec else None
    if source is None:
        raise UnrolledError(f"the source of {module} is not there: this Python is installed without it")
    return str(source)
