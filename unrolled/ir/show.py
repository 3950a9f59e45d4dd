"""A program as text: its equations in the cell language, which parse back to the same program, and expressions."""

from __future__ import annotations

from collections.abc import Mapping

from unrolled.ir.graph import Node
from unrolled.ir.ops import LAYER_NORM_EPSILON
from unrolled.ir.program import Program
from unrolled.ir.structure import DENSE

# Operator sign and binding strength; a comparison binds least, a minus sign before a value most.
INFIX = {
    "less": ("<", 1),
    "less_equal": ("<=", 1),
    "equal": ("==", 1),
    "add": ("+", 2),
    "sub": ("-", 2),
    "mul": ("*", 3),
    "div": ("/", 3),
    "product": ("@", 3),
}
_UNARY = 4
_ATOM = 5


class Unnamed(Exception):  # noqa: N818 - a signal between printers, never shown
    """A leaf must be printed whose name has been given to another value."""

    def __init__(self, node: Node):
        self.node = node


class Scope:
    """Which node each name means at one point of the equations, and which names a node can be printed by."""

    def __init__(self) -> None:
        self._bound: dict[str, Node] = {}
        self._names: dict[Node, list[str]] = {}

    @classmethod
    def of(cls, program: Program) -> Scope:
        """The scope before the first equation."""
        scope = cls()
        for node in program.nodes:
            if node.op in ("sequence", "state", "scalar", "row"):
                scope.bind(node["name"], node)
        return scope

    def bind(self, name: str, node: Node) -> None:
        """Let `name` mean `node` from here on."""
        old = self._bound.get(name)
        if old is not None:
            self._names[old].remove(name)
        self._bound[name] = node
        self._names.setdefault(node, []).append(name)

    def bound(self, name: str) -> Node | None:
        """What `name` means here."""
        return self._bound.get(name)

    def is_brief(self, node: Node, most: int = 60) -> bool:
        """Whether the text of `node` has at most so many operations and names."""
        size: dict[Node, int] = {}
        stack = [(node, False)]
        while stack:
            at, done = stack.pop()
            if done or self.name(at) is not None:
                size[at] = min(most + 1, 1 + sum(size[arg] for arg in at.args)) if done else 1
            elif at not in size:
                stack.append((at, True))
                stack.extend((arg, False) for arg in at.args)
        return size[node] <= most

    def name(self, node: Node) -> str | None:
        """A name that means `node` here, the oldest first."""
        names = self._names.get(node)
        return names[0] if names else None


def expression(node: Node, scope: Scope, whole: bool = False) -> str:
    """`node` in the cell language; values that have a name in scope are printed by it, `node` itself unless `whole`.

    Raises   Unnamed when a leaf has lost its name
    """
    return _print(node, scope, whole)[0]


def _print(node: Node, scope: Scope, whole: bool) -> tuple[str, int]:
    name = None if whole and node.args else scope.name(node)
    if name is not None:
        return name, _ATOM
    vector = averaged(node)
    if vector is not None and scope.name(node.args[0]) is None:
        return f"mean({_print(vector, scope, whole=False)[0]})", _ATOM
    if node.op in INFIX:
        sign, strength = INFIX[node.op]
        left = _inside(node.args[0], scope, strength + (strength == 1))
        return f"{left} {sign} {_inside(node.args[1], scope, strength + 1)}", strength
    if node.op == "neg":
        return f"-{_inside(node.args[0], scope, _UNARY)}", _UNARY
    if node.op == "constant":
        return number(node["value"]), _ATOM if node["value"] >= 0 else _UNARY
    if node.op == "parameter":
        return node.symbol, _ATOM
    if node.op == "tick":
        return f"tick({node['periods']!r})", _ATOM
    if node.op == "size":
        return f"size({node['axis']!r})", _ATOM
    if not node.args:
        raise Unnamed(node)
    inside = [_print(arg, scope, whole=False)[0] for arg in node.args]
    if node.op == "transposed_product":
        return f"transpose({inside[0]}) @ {_inside(node.args[1], scope, 4)}", 3
    if node.op in ("repeat", "fold", "spread") or (node.op == "raw" and node["axis"] != "hidden"):
        inside.append(repr(node["axis"]))
    elif node.op in ("layer_norm", "inverse_deviation") and node["epsilon"] != LAYER_NORM_EPSILON:
        inside.append(f"epsilon={node['epsilon']!r}")
    return f"{node.op}({', '.join(inside)})", _ATOM


def averaged(node: Node) -> Node | None:
    """The vector of whose units `node` is the mean: their sum over their number, which the language writes as one."""
    if node.op != "div" or [arg.op for arg in node.args] != ["sum", "size"]:
        return None
    (vector,) = node.args[0].args
    return vector if vector.shape == (node.args[1]["axis"],) else None


def _inside(node: Node, scope: Scope, needed: int) -> str:
    text, strength = _print(node, scope, whole=False)
    return f"({text})" if strength < needed else text


def number(value: float) -> str:
    """A constant as it is written: without a point where it is whole."""
    return str(int(value)) if value == int(value) and abs(value) < 1e16 else repr(value)


def equations(program: Program) -> list[str]:
    """The lines `name = expression`, in source order.

    Raises   Unnamed when a line reads a leaf whose name means something else by then
    """
    scope = Scope.of(program)
    lines = []
    for name, node in program.equations:
        lines.append(f"{name} = {expression(node, scope, whole=_is_new(node, scope))}")
        scope.bind(name, node)
    return lines


def definitions(program: Program) -> list[tuple[str, Node, str]]:
    """Name, node and line of every equation, then of every next state that is returned as an expression."""
    scope = Scope.of(program)
    for name, node in program.equations:
        scope.bind(name, node)
    found = [(name, node, line) for (name, node), line in zip(program.equations, equations(program), strict=True)]
    for (name, _), node in zip(program.states, program.results, strict=True):
        if scope.name(node) is None:
            found.append((name, node, f"{name} = {expression(node, scope)}"))
    return found


def _is_new(node: Node, scope: Scope) -> bool:
    return scope.name(node) is None


def _results(program: Program) -> str:
    scope = Scope.of(program)
    for name, node in program.equations:
        scope.bind(name, node)
    return ", ".join(expression(node, scope) for node in program.results)


def text(program: Program) -> str:
    """The whole cell in the cell language: parsed again, it gives the same program."""
    options = []
    if program.source:
        options.append(f"source={program.source!r}")
    if program.init:
        options.append(f"init={dict(program.init)!r}")
    if program.initial:
        options.append(f"initial={dict(program.initial)!r}")
    if program.declared:
        options.append(f"axes={dict(program.declared)!r}")
    structures = {node.symbol: node["structure"] for node in program.parameters if _structured(node)}
    if structures:
        options.append("structure={" + ", ".join(f"{key!r}: {value}" for key, value in structures.items()) + "}")
    lines = [f"@cell({', '.join(options)})" if options else "@cell", f"def {program.name}({_signature(program)}):"]
    if program.doc:
        lines.append(f"    {_docstring(program.doc)}")
    lines += [f"    {line}" for line in equations(program)]
    lines.append(f"    return {_results(program)}")
    return "\n".join(lines) + "\n"


def _docstring(doc: str) -> str:
    plain = '"' not in doc and "\\" not in doc and doc.isprintable()
    return f'"""{doc}"""' if plain else repr(doc)


def _structured(node: Node) -> bool:
    return len(node.shape) == 2 and node["structure"] != DENSE


def _signature(program: Program) -> str:
    parts = []
    for index, (name, shape) in enumerate(program.inputs):
        default = index == 0 and shape == ("input",)
        parts.append(name if default else f"{name}: Input[{_axis(shape)}]")
    for name, shape in program.states:
        parts.append(name if shape == ("hidden",) else f"{name}: State[{_axis(shape)}]")
    keywords = [f"{name}={value!r}" for name, value in {**program.axes, **program.scalars}.items()]
    return ", ".join(parts + (["*", *keywords] if keywords else []))


def _axis(shape: tuple[str, ...]) -> str:
    return repr(shape[0]) if shape else "()"


def display_names(program: Program) -> Mapping[Node, str]:
    """A name for each node that has one, the first that it was given."""
    names: dict[Node, str] = {}
    for name, node in program.equations:
        names.setdefault(node, name)
    return names
