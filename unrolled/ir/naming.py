"""Names that the text of a program needs beside its author's, so that every value can be written, and briefly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from unrolled.ir.graph import Node, reachable, users
from unrolled.ir.program import Program
from unrolled.ir.show import Scope

ARGUMENTS = ("sequence", "state", "scalar", "row")
_LONG = 24
_DEEP = 40

Equations = list[tuple[str, Node]]


def printable(program: Program) -> Program:
    """The program with equations added for what its text could not say, or not briefly.

    Those are arguments and values that are read after their name was given to something else, and values without a name
    that are nested deeply, or are long and read more than once (what a helper function computed in a loop).
    """
    program = replace(program, equations=tuple(_with_long_values(program)))
    while lost := _lost(program):
        program = replace(program, equations=tuple(_with_aliases(program, lost)))
    return program


def _with_long_values(program: Program) -> Equations:
    nodes = program.nodes
    read = users(nodes)
    named = {node for _, node in program.equations}
    kept = {*named, *program.results}
    size: dict[Node, int] = {}
    depth: dict[Node, int] = {}
    long: set[Node] = set()
    for node in nodes:
        size[node] = 1 + sum(size[arg] for arg in node.args)
        depth[node] = 1 + max([0, *(depth[arg] for arg in node.args)])
        often = len(read.get(node, ())) > 1 and size[node] > _LONG
        if node.args and node not in kept and (often or depth[node] > _DEEP):
            long.add(node)
        if node in long or node in named:
            size[node] = depth[node] = 1
    if not long:
        return list(program.equations)
    names = _Unused(program)
    found: Equations = []
    seen: set[Node] = set()
    for name, root in (*program.equations, *(("", node) for node in program.results)):
        found += [(names.numbered("value"), node) for node in reachable([root], seen) if node in long]
        if name:
            found.append((name, root))
    return found


def _lost(program: Program) -> list[Node]:
    """Arguments and named values that are read where no name means them."""
    scope = Scope.of(program)
    ever = {node for node in program.nodes if node.op in ARGUMENTS}
    found: dict[Node, None] = {}

    def read(nodes: Iterable[Node]) -> None:
        stack, seen = list(nodes), set()
        while stack:
            node = stack.pop()
            if node in seen or scope.name(node) is not None:
                continue
            seen.add(node)
            if node in ever:
                found[node] = None
            else:
                stack += node.args

    for name, node in program.equations:
        if scope.name(node) is None:
            read(node.args or [node])
        scope.bind(name, node)
        ever.add(node)
    read(program.results)
    return list(found)


def _with_aliases(program: Program, lost: list[Node]) -> Equations:
    names = _Unused(program)
    before = [(names.plain(f"{node['name']}_before"), node) for node in lost if node.op in ARGUMENTS]
    waiting = {node for node in lost if node.op not in ARGUMENTS}
    found: Equations = []
    for name, node in program.equations:
        found.append((name, node))
        if node in waiting:
            waiting.remove(node)
            found.append((names.numbered(name), node))
    return [*before, *found]


class _Unused:
    """Names that nothing in the program has."""

    def __init__(self, program: Program):
        self._taken = {name for name, _ in (*program.equations, *program.inputs, *program.states, *program.rows)}
        self._taken |= {*program.scalars, *program.axes}

    def plain(self, name: str) -> str:
        """`name` itself if it is free."""
        if name in self._taken:
            return self.numbered(name)
        self._taken.add(name)
        return name

    def numbered(self, name: str) -> str:
        """`name` with the first number that is free."""
        number = 1
        while f"{name}_{number}" in self._taken:
            number += 1
        self._taken.add(f"{name}_{number}")
        return f"{name}_{number}"
