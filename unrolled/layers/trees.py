"""Trees as nested lists or bracketed text, and a batch of them cut into levels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled.errors import ShapeError, UsageError, did_you_mean

_TOKEN = re.compile(r"[()\[\]]|[^\s()\[\]]+")
_OPENED_BY = {")": "(", "]": "["}
_FIRST = ("child", "input", "label")


def read_tree(text: str) -> Any:
    """The nested lists of a bracketed text, such as "(3 (2 good) (4 film))" or "[MAX 2 9 [MIN 4 7] 0]".

    Symbols are strings between spaces and brackets; a symbol alone is a tree of one leaf.

    Raises   UsageError, with the character, counted from 1, where the text is no tree
    """
    inner: list[Any] = []
    opened: list[tuple[str, int, list[Any]]] = []
    whole = inner
    for match in _TOKEN.finditer(text):
        token, place = match[0], match.start() + 1
        if whole and not opened:
            raise UsageError(f"the tree has ended before {token!r} at character {place}: a text is one tree")
        if token in "([":
            opened.append((token, place, inner))
            inner.append([])
            inner = inner[-1]
        elif token in _OPENED_BY:
            if not opened:
                raise UsageError(f"{token!r} at character {place} closes nothing")
            bracket, start, outer = opened.pop()
            if bracket != _OPENED_BY[token]:
                raise UsageError(f"{token!r} at character {place} closes {bracket!r} at character {start}")
            if not inner:
                raise UsageError(f"the bracket at character {start} holds nothing")
            inner = outer
        else:
            inner.append(token)
    if opened:
        raise UsageError(f"{opened[-1][0]!r} at character {opened[-1][1]} is never closed")
    if not whole:
        raise UsageError("the text of a tree is empty")
    return whole[0]


@dataclass(frozen=True)
class Level:
    """The nodes of all trees that are equally far from their roots, and how those one further hang on them.

    Shapes   parents, ranks (children,): of each node of the level before, in order, the node of this level that it is a
             child of, and its place among the children there
    """

    size: int
    parents: Tensor
    ranks: Tensor


class Trees:
    """A batch of trees, cut into levels of nodes that are equally far from the root.

    trees     each nested lists or tuples, whose other entries are leaves; or bracketed text
    first     what a list begins with: "child", its first child; "input", the symbol of the node itself, as in
              [MAX 2 9 [MIN 4 7]]; "label", the node's label, as in (3 (2 good) (4 film)), where (2 good) is a leaf

    Nodes are numbered level by level, the deepest first, the roots last in the order of the trees. `symbols` and
    `labels` have an entry a node, None where it has none; `most` is the largest number of children.

    Raises   UsageError where there is no tree, or a list that is none
    """

    def __init__(self, trees: Sequence[Any], first: str = "child"):
        if first not in _FIRST:
            raise UsageError(f"first is {', '.join(_FIRST[:-1])} or {_FIRST[-1]}, not {first!r}")
        if isinstance(trees, str) or not len(trees):
            raise UsageError("Trees takes a list of one tree or more, each nested lists or bracketed text")
        nodes = [(index, read_tree(tree) if isinstance(tree, str) else tree) for index, tree in enumerate(trees)]
        upwards: list[Level] = []
        named: list[list[tuple[Any, Any]]] = []
        self.most = 0
        self._count = len(nodes)
        while nodes:
            split = [_split(tree, first, owner) for owner, tree in nodes]
            named.append([(symbol, label) for symbol, label, _ in split])
            children = [tuple(below) for *_, below in split]
            self.most = max(self.most, *map(len, children))
            hang = [(parent, rank) for parent, below in enumerate(children) for rank in range(len(below))]
            parents, ranks = torch.tensor(hang, dtype=torch.int64).reshape(-1, 2).unbind(1)
            upwards.append(Level(len(nodes), parents, ranks))
            nodes = [(owner, child) for (owner, _), below in zip(nodes, children, strict=True) for child in below]
        self.levels = upwards[::-1]
        self.symbols = [symbol for level in reversed(named) for symbol, _ in level]
        self.labels = [label for level in reversed(named) for _, label in level]

    def __len__(self) -> int:
        return self._count

    def numbers(self, vocabulary: Mapping[Any, int], none: int = 0, unknown: int | None = None) -> Tensor:
        """The number of each node's symbol.

        none, unknown   the number where there is no symbol, and of one that the vocabulary lacks, an error if None

        Shapes   returns (nodes,)
        Raises   UsageError, with the nearest symbol, for one that the vocabulary lacks
        """
        if unknown is None:
            for symbol in self.symbols:
                if symbol is not None and symbol not in vocabulary:
                    hint = did_you_mean(str(symbol), map(str, vocabulary))
                    raise UsageError(f"the vocabulary has no symbol {symbol!r}.{hint}")
        return torch.tensor([none if each is None else vocabulary.get(each, unknown) for each in self.symbols])

    def vectors(self) -> Tensor:
        """The symbols, where they are vectors; zeros where a node has none.

        Shapes   returns (nodes, input)
        Raises   ShapeError where a symbol is no vector, or of another size than the others
        """
        given = [symbol for symbol in self.symbols if symbol is not None]
        for symbol in given:
            if not isinstance(symbol, Tensor) or symbol.shape != getattr(given[0], "shape", None) or symbol.dim() != 1:
                raise ShapeError(f"the symbols are to be vectors of one size, not such as {symbol!r}")
        return torch.stack([torch.zeros_like(given[0]) if symbol is None else symbol for symbol in self.symbols])


def _split(tree: Any, first: str, owner: int) -> tuple[Any, Any, Sequence[Any]]:
    """The symbol, the label and the children of a node."""
    if not isinstance(tree, list | tuple):
        return tree, None, ()
    if not tree:
        raise UsageError(f"tree {owner} has an empty list: a node that is no leaf has a child or more")
    if first == "child":
        return None, None, tree
    head, *rest = tree
    if isinstance(head, list | tuple):
        raise UsageError(f'tree {owner} has a list that begins with a list; with first="{first}", a symbol comes first')
    if first == "input":
        return head, None, rest
    if not rest:
        raise UsageError(f"tree {owner} has the label {head!r} over nothing")
    leaf = len(rest) == 1 and not isinstance(rest[0], list | tuple)
    return (rest[0], head, ()) if leaf else (None, head, rest)
