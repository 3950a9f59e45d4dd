"""The parts of a program: what a step computes at the level at which it is drawn.

A layer is a weighted sum and the function of it, one box, as the well-known drawings have it; all else is drawn
operation by operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from unrolled.ir.diagram.parts import Drawing, Part
from unrolled.ir.graph import Node, reachable
from unrolled.ir.program import Program
from unrolled.ir.show import Scope, Unnamed, averaged, definitions, expression, number
from unrolled.ir.svg import letter

# Operation -> what stands in its circle.
SIGNS = {
    "add": "+",
    "sub": "−",
    "mul": "×",
    "div": "÷",
    "minimum": "min",
    "maximum": "max",
    "less": "<",
    "less_equal": "≤",
    "equal": "=",
    "where": "if",
    "neg": "−",
    "sigmoid": "σ",
    "layer_norm": "LN",
}
_LINE = ("add", "sub", "mul", "div", "minimum", "maximum", "where", "neg", "raw")
_LINEAR = ("add", "sub", "neg", "mul", "div", "layer_norm", "raw", "product")
_LONGEST = 8


def parts_of(program: Program) -> Drawing:
    """The parts of a program."""
    return _Builder(program).drawing()


def memory_nodes(program: Program) -> list[tuple[int, list[Node]]]:
    """The places of the states whose new value is their old one multiplied and added to, with what is done to it."""
    found: list[tuple[int, list[Node]]] = []
    taken: set[Node] = set()
    for place, ((name, _), result) in enumerate(zip(program.states, program.results, strict=True)):
        path = _path(result, name, taken)
        if path:
            found.append((place, path))
            taken |= set(path)
    return sorted(found, key=lambda memory: -len(memory[1]))


def _path(node: Node, state: str, taken: set[Node]) -> list[Node]:
    """The longest way from a state's old value to `node` through operations on each unit, the first of them first."""
    longest: dict[Node, list[Node]] = {}
    for each in reachable([node]):
        if each.op not in _LINE or each in taken:
            continue
        ways = [longest[arg] for arg in each.args if arg in longest]
        if any(arg.op == "state" and arg["name"] == state for arg in each.args):
            ways.append([])
        if ways:
            longest[each] = [*max(ways, key=len), each]
    return longest.get(node, [])


@dataclass
class _Terms:
    maps: list[Node] = field(default_factory=list)
    beside: list[Node] = field(default_factory=list)
    normalised: bool = False


class _Builder:
    def __init__(self, program: Program):
        self.program = program
        self.parts: list[Part] = []
        self.at: dict[Node, Part] = {}
        self.equation = -1
        self.names = _written_names(program)
        self.scope = Scope.of(program)
        self.memories = memory_nodes(program)
        self.on_line = {node for _, path in self.memories for node in path}
        self.moving = _moving(program)

    def drawing(self) -> Drawing:
        program = self.program
        defined = definitions(program)
        for self.equation, (_, node, _) in enumerate(defined):
            if node in self.moving:
                self.part(node)
        ends = []
        for (name, _), node in zip(program.states, program.results, strict=True):
            source = self.part(node)
            if source.name == name and source.kind == "operation":
                source.name = ""  # it stands where the value leaves
            ends.append(Part("next", name, reads=[source], equation=source.equation))
        self.parts += ends
        lines = [
            [self.part(_old(program, place)), *(self.at[node] for node in path if node in self.at), ends[place]]
            for place, path in self.memories
        ]
        _join(self.parts)
        return Drawing(self.parts, lines, [name for name, _, _ in defined])

    def part(self, node: Node) -> Part:
        if node not in self.at:
            self.at[node] = self.made(node)
        return self.at[node]

    def made(self, node: Node) -> Part:
        if node.op in ("sequence", "state"):
            part = Part("input" if node.op == "sequence" else "state", node["name"])
            self.parts.append(part)
            return part
        if node not in self.moving:
            part = Part("input", "clock" if node.op == "tick" else self.static(node))
            self.parts.append(part)
            return part
        if node.op == "raw":
            return self.part(node.args[0])
        part = self.layer(node) or self.operation(node)
        part.name = self.names.get(node, "")
        part.equation = self.equation
        self.parts.append(part)
        return part

    def layer(self, node: Node) -> Part | None:
        """The box of a function of a weighted sum, or of the sum alone; None where there is none."""
        if node in self.on_line:
            return None
        factor, inner = self.scaled(node)
        function = _function(inner)
        if function and function[1] not in self.names:
            text, terms = function[0], self.terms(function[1])
        elif node.op in _LINEAR and not factor and not function:
            terms, text = self.terms(node), "Σ"
        else:
            return None
        weighs = function and (terms.normalised or any(each is not _bare(function[1]) for each in terms.beside))
        if not terms.maps and not weighs:
            return None
        reads = _once(self.part(each) for each in terms.maps)
        beside = [part for part in _once(self.part(each) for each in terms.beside) if part not in reads]
        return Part("layer", f"{factor}{text}{' LN' if terms.normalised else ''}", reads=reads, beside=beside)

    def terms(self, root: Node) -> _Terms:
        """What a sum reads, through maps and without one; it ends at what has a name or stands on a memory's line."""
        found = _Terms()
        stack = [root]
        while stack:
            node = stack.pop()
            moving = [arg for arg in node.args if arg in self.moving]
            linear = node.op in _LINEAR and (node.op not in ("mul", "div") or _scales(node, moving))
            if (
                averaged(node) is not None
                or node in self.on_line
                or (node in self.names and node is not root)
                or not linear
            ):
                found.beside.append(node)
            elif node.op == "product":
                found.maps.append(node.args[1])
            else:
                found.normalised |= node.op == "layer_norm"
                scalar = node.op in ("mul", "div") and len(moving) > 1
                found.beside += [arg for arg in moving if scalar and arg.shape == ()]
                stack += [arg for arg in reversed(moving) if not (scalar and arg.shape == ())]
        return found

    def scaled(self, node: Node) -> tuple[str, Node]:
        """A number before a function of a sum, and the function."""
        if node.op == "mul" and node.args[0].op == "constant" and node.args[1] not in self.names:
            inner = node.args[1]
            if _function(inner):
                return number(node.args[0]["value"]), inner
        return "", node

    def operation(self, node: Node) -> Part:
        if (function := _function(node)) is not None:
            return Part("operation", function[0], reads=[self.part(function[1])])
        moving = [arg for arg in node.args if arg in self.moving]
        sign = SIGNS.get(node.op, node.op)
        if node.op == "where" and node.args[0] not in self.moving:
            sign = "due" if node.args[0].op == "tick" else sign
        elif node.op == "mul" and node.args[0] is node.args[1]:
            sign = "²"
        elif len(node.args) == 2 and len(moving) == 1:
            fixed = self.static(next(arg for arg in node.args if arg not in self.moving))
            before = node.args[0] not in self.moving
            sign = f"{fixed}{sign}" if before and node.op != "mul" else f"{sign}{fixed}"
        return Part("operation", sign, reads=_once(self.part(arg) for arg in moving))

    def static(self, node: Node) -> str:
        """What does not change from step to step, as short as it can be said."""
        if node.op == "tick":
            return "due"
        try:
            text = expression(node, self.scope)
        except Unnamed:
            return "…"
        written = re.sub(r"[a-z]+", lambda word: letter(word[0]), text.replace("*", "·").replace("-", "−"))
        return written if len(written) <= _LONGEST else "…"


def _scales(node: Node, moving: list[Node]) -> bool:
    """Whether a product or quotient only scales: by what stays the same, or by one number for all units."""
    by = node.args[1] if node.op == "div" else min(node.args, key=lambda arg: (arg in moving, len(arg.shape)))
    return by not in moving or by.shape == ()


def _function(node: Node) -> tuple[str, Node] | None:
    """What a function of one value is called, and the value."""
    if (vector := averaged(node)) is not None:
        return "mean", vector
    if len(node.args) == 1 and node.op not in _LINEAR:
        return SIGNS.get(node.op, node.op), node.args[0]
    return None


def _bare(node: Node) -> Node:
    """What `raw` puts on another axis."""
    return _bare(node.args[0]) if node.op == "raw" else node


def _moving(program: Program) -> set[Node]:
    """What may differ from step to step."""
    found: set[Node] = set()
    for node in program.nodes:
        if node.op in ("sequence", "state") or any(arg in found for arg in node.args):
            found.add(node)
    return found


def _old(program: Program, place: int) -> Node:
    name = program.states[place][0]
    return next(node for node in program.nodes if node.op == "state" and node["name"] == name)


def _written_names(program: Program) -> dict[Node, str]:
    """Node -> its name, with a number in brackets for each but the last meaning of a name."""
    times: dict[str, int] = {}
    for name, _ in program.equations:
        times[name] = times.get(name, 0) + 1
    seen: dict[str, int] = {}
    found: dict[Node, str] = {}
    for name, node in program.equations:
        seen[name] = seen.get(name, 0) + 1
        if node.args:
            found.setdefault(node, name if seen[name] == times[name] else f"{name}({seen[name]})")
    return found


def _once(parts: Iterable[Part]) -> list[Part]:
    return list(dict.fromkeys(parts))


def _join(parts: list[Part]) -> None:
    """Let the values that several layers read together come to them as one line."""
    layers = [part for part in parts if part.kind == "layer" and len(part.reads) > 1]
    joins: list[tuple[frozenset[Part], Part]] = []
    for members in sorted({frozenset(layer.reads): layer.reads for layer in layers}.values(), key=len):
        if sum(set(members) <= set(layer.reads) for layer in layers) > 1:
            joins.append((frozenset(members), Part("join", "", reads=_through(members, joins))))
    for layer in layers:
        layer.reads = _through(layer.reads, joins)
    for _, join in joins:
        parts.insert(1 + max(parts.index(part) for part in join.reads), join)


def _through(reads: list[Part], joins: list[tuple[frozenset[Part], Part]]) -> list[Part]:
    """What is read, with the largest join of some of it in their place."""
    for members, join in reversed(joins):
        if members <= set(reads):
            return [join, *(part for part in reads if part not in members)]
    return reads
