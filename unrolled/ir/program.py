"""A program: one time step of a cell as a graph, with its signature and the names of its equations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from unrolled.errors import CellError, ShapeError, did_you_mean
from unrolled.ir.graph import Graph, Node, Rewrite, again, copy_into, in_source_order, reachable, verify
from unrolled.ir.ops import Shape
from unrolled.ir.structure import DENSE, Structure

Initial = float | str
BELOW = "below_"


@dataclass(frozen=True)
class Program:
    """One step: inputs and old states in, named equations, next states out.

    inputs, states   (name, shape) in the order of the signature; the first state is the output
    rows             (name, shape) of values that a transform adds, one a row of the batch and the same at every step
    scalars          run-time numbers with their defaults
    axes             the size of each axis that an integer hyperparameter names
    initial          the value that a state starts from where it is not zero
    init             how a symbol ("b.f") or a family ("U") is initialised: a number or the name of an initialiser
    declared         the axis declared for a V, or for a bias or vector that stands alone
    equations        (name, node) in source order; a name may stand twice
    results          the next states, in the order of the states
    """

    name: str
    inputs: tuple[tuple[str, Shape], ...]
    states: tuple[tuple[str, Shape], ...]
    equations: tuple[tuple[str, Node], ...]
    results: tuple[Node, ...]
    rows: tuple[tuple[str, Shape], ...] = ()
    scalars: Mapping[str, float] = field(default_factory=dict)
    axes: Mapping[str, int] = field(default_factory=dict)
    initial: Mapping[str, float] = field(default_factory=dict)
    init: Mapping[str, Initial] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    doc: str = ""

    @property
    def nodes(self) -> list[Node]:
        """All nodes in source order, arguments first."""
        return in_source_order(reachable(self._roots))

    @property
    def _roots(self) -> list[Node]:
        return [node for _, node in self.equations] + list(self.results)

    @property
    def names(self) -> dict[str, Node]:
        """The last value of each name: what a tap means."""
        found: dict[str, Node] = {}
        for name, node in self.equations:
            found[name] = node
        for (name, _), node in zip(self.states, self.results, strict=True):
            found[name] = node
        return found

    @property
    def parameters(self) -> list[Node]:
        """The symbols, in source order."""
        return [node for node in self.nodes if node.op == "parameter"]

    @property
    def uses_clock(self) -> bool:
        """Whether the step reads the clock, which its state then carries."""
        return any(node.op == "tick" for node in self.nodes)

    def tap(self, name: str) -> Node:
        """The value that a name has at the end of the step.

        Raises   CellError when there is no such name
        """
        names = self.names
        if name not in names:
            raise CellError(f"cell '{self.name}' has no value named {name!r}.{did_you_mean(name, names)}")
        return names[name]

    def rewritten(self, rewrite: Rewrite, **changes: Any) -> Program:
        """The program with every node made anew by `rewrite`, and `changes` of its other fields."""
        return self.mapped(copy_into(Graph(), self._roots, rewrite), **changes)

    def mapped(self, image: Mapping[Node, Node], **changes: Any) -> Program:
        """The program with each node replaced by its image."""
        return replace(
            self,
            equations=tuple((name, image[node]) for name, node in self.equations),
            results=tuple(image[node] for node in self.results),
            **changes,
        )

    def canonical(self) -> Program:
        """The same program with its nodes numbered in the order of the equations and nothing unused."""
        graph, image = Graph(), dict[Node, Node]()
        for node in reachable(self._roots):
            image[node] = again(graph, node, tuple(image[arg] for arg in node.args))
        return self.mapped(image)

    def dumps(self) -> str:
        """The whole program as one line of JSON: equal programs give equal text."""
        nodes = self.nodes
        number = {node: index for index, node in enumerate(nodes)}
        fields = {
            "name": self.name,
            "inputs": self.inputs,
            "states": self.states,
            "rows": self.rows,
            "scalars": list(self.scalars.items()),  # in the order of the signature, in which a call gives their values
            "axes": dict(self.axes),
            "initial": dict(self.initial),
            "init": dict(self.init),
            "declared": dict(self.declared),
            "source": self.source,
            "doc": self.doc,
            "nodes": [
                [node.op, [number[arg] for arg in node.args], {key: _plain(value) for key, value in node.attributes}]
                for node in nodes
            ],
            "equations": [[name, number[node]] for name, node in self.equations],
            "results": [number[node] for node in self.results],
        }
        return json.dumps(fields, separators=(",", ":"), sort_keys=True, ensure_ascii=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.dumps() == other.dumps()

    def __hash__(self) -> int:
        return hash(self.dumps())


def loads(text: str) -> Program:
    """The program that `dumps` wrote."""
    fields = json.loads(text)
    graph = Graph()
    nodes: list[Node] = []
    for op, args, attributes in fields.pop("nodes"):
        restored = {key: _restored(value) for key, value in attributes.items()}
        nodes.append(graph.add(op, *(nodes[arg] for arg in args), **restored))
    equations = tuple((name, nodes[index]) for name, index in fields.pop("equations"))
    results = tuple(nodes[index] for index in fields.pop("results"))
    fields["scalars"] = dict(fields["scalars"])
    for key in ("inputs", "states", "rows"):
        fields[key] = tuple((name, tuple(shape)) for name, shape in fields[key])
    return Program(equations=equations, results=results, **fields)


def _plain(value: Any) -> Any:
    return {"structure": value.name, "arguments": value.arguments} if isinstance(value, Structure) else value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return Structure(value["structure"], tuple(_restored(item) for item in value["arguments"]))
    return tuple(_restored(item) for item in value) if isinstance(value, list) else value


def name_below(name: str) -> str:
    """What the layer below calls an input that a stack takes from there; "" if it is no such input."""
    return name.removeprefix(BELOW) if name.startswith(BELOW) else ""


def verify_program(program: Program) -> None:
    """Raise unless the graph is well formed and the next states have the axes of the states."""
    verify(program.nodes)
    if len(program.results) != len(program.states):
        raise CellError(f"cell '{program.name}' returns {len(program.results)} values for {len(program.states)} states")
    for (name, shape), node in zip(program.states, program.results, strict=True):
        if node.shape != shape:
            raise ShapeError(f"cell '{program.name}': state {name} is {shape}, its next value {node.shape}")


def bind(program: Program, sizes: Mapping[str, int]) -> Program:
    """Resolve what waits for the sizes: `raw` becomes a map where its two axes differ in size, structures are checked.

    Raises   ShapeError when a structure, a repeat or the clock's modules do not fit the sizes
    """

    def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
        if node.op == "raw" and sizes[node["axis"]] != sizes[args[0].shape[0]]:
            shape = (node["axis"], args[0].shape[0])
            matrix = graph.add("parameter", family="W", name="raw", shape=shape, structure=DENSE)
            return graph.add("product", matrix, args[0])
        return again(graph, node, args)

    bound = program.rewritten(rewrite)
    for node in bound.nodes:
        try:
            _check_sizes(node, sizes)
        except ShapeError as error:
            raise ShapeError(f"cell '{program.name}': {error}") from None
    return bound


def _check_sizes(node: Node, sizes: Mapping[str, int]) -> None:
    if node.op == "parameter" and len(node.shape) == 2:
        node["structure"].entries(*(sizes[axis] for axis in node.shape))
    elif node.op == "repeat" and sizes[node["axis"]] % sizes[node.args[0].shape[0]] != 0:
        short, long = node.args[0].shape[0], node["axis"]
        raise ShapeError(f"repeat: {sizes[short]} ({short}) does not divide {sizes[long]} ({long})")
    elif node.op == "tick" and sizes[node.shape[0]] % len(node["periods"]) != 0:
        raise ShapeError(f"tick: {len(node['periods'])} modules do not divide {sizes[node.shape[0]]} units")
