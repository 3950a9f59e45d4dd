"""Symbolic reverse mode: one rule an operation, recorded into the same graph as the step itself.

A cotangent has the axes of its value. Parameters have no time and no batch: the contributions to their cotangents are
meant to be summed over both, and no node says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from unrolled.ir.graph import Graph, Node, again, copy_into, reachable
from unrolled.ir.ops import OPERATIONS
from unrolled.ir.program import Program
from unrolled.ir.show import Scope, expression
from unrolled.ir.simplify import simplest

Rule = Callable[[Graph, Node, Node], tuple[Node | None, ...]]


def _node(graph: Graph, op: str, *args: Node, **attributes: object) -> Node:
    """A node in its simplest form."""
    return simplest(graph, graph.add(op, *args, **attributes), args)


def _mul(graph: Graph, *factors: Node) -> Node:
    product = factors[0]
    for factor in factors[1:]:
        product = _node(graph, "mul", product, factor)
    return product


def _one_minus(graph: Graph, value: Node) -> Node:
    return _node(graph, "sub", graph.constant(1.0), value)


def _share(graph: Graph, d: Node, node: Node, sign: str) -> tuple[Node, Node]:
    """The gradient of a minimum or maximum: to the chosen argument, half to each at a tie."""
    a, b = node.args
    first, second = (a, b) if sign == "minimum" else (b, a)
    wins = graph.add("less", first, second)
    tie = _mul(graph, graph.constant(0.5), graph.add("equal", a, b))
    to_a = _node(graph, "add", wins, tie)
    return _mul(graph, d, to_a), _mul(graph, d, _one_minus(graph, to_a))


def _layer_norm(graph: Graph, node: Node, d: Node) -> tuple[Node]:
    (x,) = node.args
    size = graph.add("size", axis=x.shape[0], shape=())
    deviation = graph.add("inverse_deviation", x, epsilon=node["epsilon"])
    mean = _node(graph, "div", graph.add("sum", d), size)
    along = _node(graph, "div", graph.add("sum", _mul(graph, d, node)), size)
    inner = _node(graph, "sub", _node(graph, "sub", d, mean), _mul(graph, node, along))
    return (_mul(graph, deviation, inner),)


def _inverse_deviation(graph: Graph, node: Node, d: Node) -> tuple[Node]:
    (x,) = node.args
    size = graph.add("size", axis=x.shape[0], shape=())
    normal = graph.add("layer_norm", x, epsilon=node["epsilon"])
    slope = _node(graph, "div", _mul(graph, node, node), size)
    return (_node(graph, "neg", _mul(graph, normal, _mul(graph, d, slope))),)


def _softmax(graph: Graph, node: Node, d: Node) -> tuple[Node]:
    inner = _node(graph, "sub", d, graph.add("sum", _mul(graph, d, node)))
    return (_mul(graph, node, inner),)


def _slope(rule: Callable[[Graph, Node], Node]) -> Rule:
    return lambda graph, node, d: (_mul(graph, d, rule(graph, node)),)


RULES: dict[str, Rule] = {
    "neg": lambda g, n, d: (_node(g, "neg", d),),
    "add": lambda g, n, d: (d, d),
    "sub": lambda g, n, d: (d, _node(g, "neg", d)),
    "mul": lambda g, n, d: (_mul(g, d, n.args[1]), _mul(g, d, n.args[0])),
    "div": lambda g, n, d: (
        _node(g, "div", d, n.args[1]),
        _node(g, "neg", _node(g, "div", _mul(g, d, n), n.args[1])),
    ),
    "minimum": lambda g, n, d: _share(g, d, n, "minimum"),
    "maximum": lambda g, n, d: _share(g, d, n, "maximum"),
    "less": lambda g, n, d: (None, None),
    "less_equal": lambda g, n, d: (None, None),
    "equal": lambda g, n, d: (None, None),
    "where": lambda g, n, d: (
        None,
        g.add("where", n.args[0], d, g.constant(0.0)),
        g.add("where", n.args[0], g.constant(0.0), d),
    ),
    "relu": lambda g, n, d: (g.add("where", g.add("less", g.constant(0.0), n), d, g.constant(0.0)),),
    "abs": _slope(lambda g, n: g.add("sign", n.args[0])),
    "sign": lambda g, n, d: (None,),
    "sigmoid": _slope(lambda g, n: _mul(g, n, _one_minus(g, n))),
    "tanh": _slope(lambda g, n: _one_minus(g, _mul(g, n, n))),
    "exp": _slope(lambda g, n: n),
    "log": lambda g, n, d: (_node(g, "div", d, n.args[0]),),
    "sqrt": lambda g, n, d: (_node(g, "div", _mul(g, g.constant(0.5), d), n),),
    "softplus": _slope(lambda g, n: g.add("sigmoid", n.args[0])),
    "layer_norm": _layer_norm,
    "inverse_deviation": _inverse_deviation,
    "softmax": _softmax,
    "cumsum": lambda g, n, d: (g.add("cumsum_reversed", d),),
    "cumsum_reversed": lambda g, n, d: (g.add("cumsum", d),),
    "sum": lambda g, n, d: (g.add("spread", d, axis=n.args[0].shape[0]),),
    "spread": lambda g, n, d: (g.add("sum", d),),
    "repeat": lambda g, n, d: (g.add("fold", d, axis=n.args[0].shape[0]),),
    "fold": lambda g, n, d: (g.add("repeat", d, axis=n.args[0].shape[0]),),
    "raw": lambda g, n, d: (g.add("raw", d, axis=n.args[0].shape[0]),),
    "product": lambda g, n, d: (g.add("outer", d, n.args[1]), g.add("transposed_product", n.args[0], d)),
    "transposed_product": lambda g, n, d: (g.add("outer", n.args[1], d), g.add("product", n.args[0], d)),
    "outer": lambda g, n, d: (g.add("product", d, n.args[1]), g.add("transposed_product", d, n.args[0])),
}


def differentiate(graph: Graph, seeds: Iterable[tuple[Node, Node]], wanted: Callable[[Node], bool]) -> dict[Node, Node]:
    """Cotangents of the wanted leaves, recorded into `graph`.

    seeds     (value, its cotangent) pairs, all nodes of `graph`
    returns   leaf -> cotangent; a leaf that no seed depends on is left out
    """
    flowing = cotangents_between(graph, seeds, wanted)
    return {node: cotangent for node, cotangent in flowing.items() if wanted(node)}


def cotangents_between(
    graph: Graph, seeds: Iterable[tuple[Node, Node]], wanted: Callable[[Node], bool]
) -> dict[Node, Node]:
    """As `differentiate`, but the cotangent of every value between the seeds and the wanted leaves, in their order."""
    seeds = list(seeds)
    nodes = reachable([value for value, _ in seeds])
    active: set[Node] = set()
    for node in nodes:
        if wanted(node) or any(arg in active for arg in node.args):
            active.add(node)
    cotangents: dict[Node, Node] = {}

    def collect(node: Node, cotangent: Node) -> None:
        if node in active:
            if node.shape == () and cotangent.shape:
                cotangent = graph.add("sum", cotangent)
            known = cotangents.get(node)
            cotangents[node] = cotangent if known is None else _node(graph, "add", known, cotangent)

    for value, cotangent in seeds:
        collect(value, cotangent)
    for node in reversed(nodes):
        if node in cotangents and node.args:
            contributions = RULES[node.op](graph, node, cotangents[node])
            for arg, contribution in zip(node.args, contributions, strict=True):
                if contribution is not None:
                    collect(arg, contribution)
    return {node: cotangents[node] for node in nodes if node in cotangents}


@dataclass(frozen=True)
class Gradient:
    """The backward step of a program, as a graph that contains the forward step.

    image        node of the program -> its node in this graph
    seeds        state name, or tap_<name> -> the leaf that holds its cotangent
    flowing      value of the forward step -> its cotangent, for all that have one
    cotangents   leaf of the forward step -> its cotangent
    """

    graph: Graph
    image: Mapping[Node, Node]
    seeds: Mapping[str, Node]
    flowing: Mapping[Node, Node]
    cotangents: Mapping[Node, Node]


def gradient(program: Program, taps: tuple[str, ...] = ()) -> Gradient:
    """The cotangents of everything that `program` reads, given those of its next states and taps."""
    graph = Graph()
    image = copy_into(graph, [node for _, node in program.equations] + list(program.results), again)
    seeds: dict[str, Node] = {}
    pairs = []
    for (name, shape), node in zip(program.states, program.results, strict=True):
        seeds[name] = graph.leaf("sequence", f"d_{name}", shape)
        pairs.append((image[node], seeds[name]))
    for name in taps:
        node = image[program.tap(name)]
        seed = graph.leaf("sequence", f"d_tap_{name}", node.shape)
        seeds[f"tap_{name}"] = seed
        pairs.append((node, seed))
    wanted = ("state", "sequence", "row", "parameter")
    flowing = cotangents_between(graph, pairs, lambda node: node.op in wanted)
    return Gradient(graph, image, seeds, flowing, {node: d for node, d in flowing.items() if node.op in wanted})


def gradient_text(program: Program) -> str:
    """The backward step as equations: the cotangents that are used more than once, then what leaves the step.

    h_before and h_after are a state before and after the step; d_v is the cotangent of the value v, net_f the sum
    under the activation that gives f, read_g what the map U.g reads. Where an equation gives a name a second time the
    forward step is printed first, with each value numbered. Cotangents of parameters are what one step contributes
    (+=); they are summed over steps and rows.
    """
    return _Text(program, gradient(program)).text()


class _Text:
    """The printer of one gradient."""

    def __init__(self, program: Program, made: Gradient):
        self.program = program
        self.made = made
        self.scope = Scope()
        self.taken: set[str] = set()
        self.nodes = reachable(made.cotangents.values())
        self.forward = reachable(made.image.values())

    def text(self) -> str:
        for name, node in self._leaves():
            self._bind(name, node)
        forward = self._forward()
        for state in dict(self.program.states):
            self._bind(f"d_{state}_after", self.made.seeds[state])
        parts = [forward, self._shared(), self._results()]
        return "\n".join("".join(f"{line}\n" for line in part) for part in parts if part)

    def _bind(self, name: str, node: Node) -> str:
        """Give the node the name, numbered where another has it."""
        free, number = name, 0
        while free in self.taken:
            number += 1
            free = f"{name}_{number}"
        self.taken.add(free)
        self.scope.bind(free, node)
        return free

    def _leaves(self) -> Iterable[tuple[str, Node]]:
        for node in self.forward:
            if node.op in ("sequence", "row", "scalar"):
                yield node["name"], node
        for node in self.forward:
            if node.op == "state":
                yield f"{node['name']}_before", node

    def _forward(self) -> list[str]:
        """Bind the values to their names; returns their equations if a name is given twice."""
        program, image, scope = self.program, self.made.image, self.scope
        values = [(name, image[node]) for name, node in program.equations]
        named = {node for _, node in values}
        values += [
            (name, image[node])
            for (name, _), node in zip(program.states, program.results, strict=True)
            if image[node] not in named and scope.name(image[node]) is None
        ]
        last = {name: index for index, (name, _) in enumerate(values)}
        again = len(last) < len(values) or any(name in self.taken for name in last)
        lines = []
        for index, (name, node) in enumerate(values):
            if scope.name(node) is None:
                written = expression(node, scope, whole=True)
                plain = index == last[name] and name not in self.taken
                lines.append(f"{self._bind(name if plain else self._numbered(name, last), node)} = {written}")
        return lines if again else []

    def _numbered(self, name: str, names: Iterable[str]) -> str:
        number = 1
        while f"{name}_{number}" in self.taken or f"{name}_{number}" in names:
            number += 1
        return f"{name}_{number}"

    def _shared(self) -> list[str]:
        made, lines = self.made, []
        used = Counter(arg for node in self.nodes for arg in node.args) + Counter(made.cotangents.values())
        flowing, forward = set(made.flowing.values()), set(self.forward)
        for node in self.nodes:
            if node in forward or not node.args or used[node] < 2 or node.op == "neg":
                continue
            if node in flowing:
                name = self._cotangent_name(node)
            elif not OPERATIONS[node.op].cheap:
                name = "common"
            else:
                continue
            written = expression(node, self.scope, whole=True)
            lines.append(f"{self._bind(name, node)} = {written}")
        return lines

    def _cotangent_name(self, cotangent: Node) -> str:
        values = [value for value, own in self.made.flowing.items() if own is cotangent]
        inner = [value for value in values if value.args]
        for value in reversed(inner):
            if (name := self.scope.name(value)) is not None:
                return f"d_{name}"
        for node in self.forward:
            name = self.scope.name(node)
            if name and len(node.args) == 1 and node.args[0] in inner and OPERATIONS[node.op].kind == "elementwise":
                return f"d_net_{name}"
        for node in self.made.image.values():
            if node.op == "product" and node.args[1] in inner:
                return f"d_read_{node.args[0]['name'].replace('[', '_').replace(']', '')}"
        for value in values:
            if value.op in ("sequence", "state", "row"):
                return f"d_{self.scope.name(value)}"
        return self._numbered("d", ())

    def _results(self) -> list[str]:
        cotangents, lines = self.made.cotangents, []
        order = [name for name, _ in (*self.program.inputs, *self.program.states, *self.program.rows)]
        leaves = [leaf for leaf in cotangents if leaf.op != "parameter"]
        leaves.sort(key=lambda leaf: order.index(leaf["name"]))
        for leaf in leaves:
            name, written = f"d_{self.scope.name(leaf)}", expression(cotangents[leaf], self.scope)
            if name != written:
                lines.append(f"{name} = {written}")
        for symbol in self.program.parameters:
            leaf = self.made.image[symbol]
            if leaf in cotangents:
                lines.append(f"d_{leaf.symbol} += {expression(cotangents[leaf], self.scope)}")
        return lines
