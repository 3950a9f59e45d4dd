"""Symbolic reverse mode: one rule an operation, recorded into the same graph as the step itself.

A cotangent has the axes of its value. Parameters have no time and no batch: the contributions to their cotangents are
meant to be summed over both, and no node says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from unrolled.ir.graph import Graph, Node, again, copy_into, reachable
from unrolled.ir.program import Program
from unrolled.ir.show import Scope, Unnamed, expression
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


def differentiate(
    graph: Graph, seeds: Iterable[tuple[Node, Node]], wanted: Callable[[Node], bool]
) -> dict[Node, Node]:
    """Cotangents of the wanted leaves, recorded into `graph`.

    seeds     (value, its cotangent) pairs, all nodes of `graph`
    returns   leaf -> cotangent; a leaf that no seed depends on is left out
    """
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
    return {node: cotangents[node] for node in nodes if wanted(node) and node in cotangents}


@dataclass(frozen=True)
class Gradient:
    """The backward step of a program, as a graph that contains the forward step.

    values       forward values: the program's nodes as they stand in this graph, by name
    seeds        state or tap name -> the leaf that holds its cotangent
    cotangents   leaf of the forward step -> its cotangent
    """

    graph: Graph
    image: Mapping[Node, Node]
    seeds: Mapping[str, Node]
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
    cotangents = differentiate(graph, pairs, lambda node: node.op in wanted)
    return Gradient(graph, image, seeds, cotangents)


def gradient_text(program: Program) -> str:
    """The backward step as equations: first the cotangents of the values, then what leaves the step.

    Cotangents of maps and biases are what one step contributes; they are summed over steps and rows.
    """
    made = gradient(program)
    scope = Scope.of(program)
    for node in reachable(made.image.values()):
        if node.op in ("sequence", "state", "scalar", "row"):
            scope.bind(node["name"] if node.op != "state" else f"{node['name']}_before", node)
    for name, node in program.equations:
        scope.bind(name, made.image[node])
    for (name, _), node in zip(program.states, program.results, strict=True):
        if scope.name(made.image[node]) is None:
            scope.bind(name, made.image[node])
    for seed in made.seeds.values():
        scope.bind(seed["name"], seed)
    lines = []
    for name, node in _intermediates(program, made):
        lines.append(f"{name} = {expression(node, scope, whole=True)}")
        scope.bind(name, node)
    lines.append("")
    for leaf, cotangent in made.cotangents.items():
        name = leaf.symbol if leaf.op == "parameter" else leaf["name"] + ("_before" if leaf.op == "state" else "")
        sign = "+=" if leaf.op == "parameter" else "="
        lines.append(f"d_{name} {sign} {expression(cotangent, scope)}")
    return "\n".join(lines) + "\n"


def _intermediates(program: Program, made: Gradient) -> list[tuple[str, Node]]:
    """The cotangents worth a name: those used more than once, called after the value before its activation."""
    needed = reachable(made.cotangents.values())
    forward = set(reachable(made.image.values()))
    used: dict[Node, int] = {}
    for node in needed:
        for arg in node.args:
            used[arg] = used.get(arg, 0) + 1
    for node in made.cotangents.values():
        used[node] = used.get(node, 0) + 1
    names: list[tuple[str, Node]] = []
    taken: set[str] = set()
    for node in needed:
        if node not in forward and node.args and used.get(node, 0) > 1 and not _plain(node):
            symbol = next((n.args[0]["name"] for n in needed if _maps(n, node)), None)
            base = f"d_{symbol}" if symbol else "d"
            name = base if base not in taken and base != "d" else f"{base}_{sum(t.startswith(base) for t in taken) + 1}"
            taken.add(name)
            names.append((name, node))
    return names


def _maps(node: Node, cotangent: Node) -> bool:
    return node.op == "transposed_product" and node.args[1] is cotangent and node.args[0].op == "parameter"


def _plain(node: Node) -> bool:
    return node.op in ("neg",)


__all__ = ["RULES", "Gradient", "Unnamed", "differentiate", "gradient", "gradient_text"]
