"""Which states are kept from step to step, by which gate, and what lets something in: read from the equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from unrolled.errors import CellError
from unrolled.ir.gradient import differentiate
from unrolled.ir.graph import Graph, Node, again, copy_into
from unrolled.ir.program import Program
from unrolled.ir.simplify import constant_of, filled

# What a state's next value is a polynomial by; everything else is a term of it.
_POLYNOMIAL = ("add", "sub", "mul", "neg", "raw", "constant")


class Memory(NamedTuple):
    """A state that a gate keeps.

    keep    the bias of that gate
    opens   whether an open gate keeps the state, as in f * c; False where it lets the new in, as in (1 - z) * h
    enter   the biases of the gates of what is added to the state
    """

    state: str
    keep: str
    opens: bool
    enter: tuple[str, ...]


class _Gate(NamedTuple):
    """A sigmoid by which a term is multiplied, or 1 less that sigmoid where it is not the gate that opens."""

    node: Node
    opens: bool


def memories(program: Program) -> tuple[Memory, ...]:
    """The states that a gate keeps: their next value is their old one times a sigmoid, or 1 - a sigmoid, and a rest.

    Raises   CellError when there is none, or when one of the gates has not one bias of its own
    """
    found = []
    for (name, _), node in zip(program.states, program.results, strict=True):
        gates = _gates(node)
        kept = next((gate for term, gate in gates.items() if _is_state(term, name)), None)
        if kept is None:
            continue
        keep = _bias(program, kept.node)
        others = [gate.node for term, gate in gates.items() if gate and term.op not in ("state", "sigmoid")]
        enter = dict.fromkeys(_bias(program, gate) for gate in others if gate is not kept.node)
        enter.pop(keep, None)
        found.append(Memory(name, keep, kept.opens, tuple(enter)))
    if not found:
        raise CellError(
            f"cell '{program.name}' has no gate that keeps a state, as f does in f * c, and z in (1 - z) * h"
        )
    return tuple(found)


def carried(program: Program) -> set[str]:
    """The states whose next value is their old one, multiplied and added to."""
    pairs = zip(program.states, program.results, strict=True)
    return {name for (name, _), node in pairs if any(_is_state(term, name) for term in _gates(node))}


def _gates(result: Node) -> Mapping[Node, _Gate | None]:
    """The terms of which a next value is a sum, each multiplied by a gate or, None, by something else."""
    terms: dict[Node, Node] = {}

    def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
        if node.op in _POLYNOMIAL:
            return again(graph, node, args)
        leaf = graph.leaf("sequence", f"term {node.index}", node.shape)
        terms[leaf] = node
        return leaf

    def gate(slope: Node) -> _Gate | None:
        opens = slope.op != "sub"
        node = terms.get(slope if opens else slope.args[1])
        if node is None or node.op != "sigmoid":
            return None
        return _Gate(node, opens) if opens or constant_of(slope.args[0]) == 1 else None

    graph = Graph()
    image = copy_into(graph, [result], rewrite)
    slopes = differentiate(graph, [(image[result], filled(graph, 1.0, result.shape))], terms.__contains__)
    return {terms[leaf]: gate(slope) for leaf, slope in slopes.items()}


def _is_state(node: Node, name: str) -> bool:
    return node.op == "state" and bool(node["name"] == name)


def _bias(program: Program, gate: Node) -> str:
    """The name of the one bias that is added to what a gate is the sigmoid of."""
    found, terms = [], list(gate.args)
    while terms:
        term = terms.pop()
        if term.op == "add":
            terms += term.args
        elif term.op == "parameter" and term["family"] == "b":
            found.append(term["name"])
    if len(found) != 1:
        names = {node: f"gate {name}" for name, node in program.equations}
        raise CellError(f"cell '{program.name}': {names.get(gate, 'a gate')} has {len(found)} biases, not one")
    return str(found[0])
