"""The text of cells as a syntax tree, and the place in it that a message is about."""

from __future__ import annotations

import ast
import warnings
from typing import NoReturn

from unrolled.errors import CellError, Place, at

_LONGEST_TEXT = 200_000
TOO_DEEP = "the text is no cell: its expressions are nested too deeply"


def syntax_tree(text: str) -> ast.Module:
    """What Python reads in a text, nothing of it run.

    Raises   CellError when it is no Python, too long or too deep
    """
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
        raise CellError(TOO_DEEP) from None


def lines_of(text: str) -> list[str]:
    """The lines as Python counts them: form feeds and Unicode separators end none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


class Source:
    """The lines of one cell, and where in them its reader is."""

    def __init__(self, name: str, lines: list[str]):
        self.name = name
        self.lines = lines
        self.node: ast.AST | None = None
        self.equation: str | None = None

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        """Raise an error that quotes the source line of a node."""
        self.node = node
        raise CellError(at(self.locate(), message))

    def locate(self) -> Place:
        """The place of what is being read."""
        node = self.node
        if not isinstance(node, ast.expr | ast.stmt):
            return Place(self.name, self.equation)
        line = self.lines[node.lineno - 1]
        end = node.end_col_offset if node.end_lineno == node.lineno and node.end_col_offset else len(line.encode())
        encoded = line.encode()
        start = len(encoded[: node.col_offset].decode())
        return Place(self.name, self.equation, line, start, len(encoded[:end].decode()))
