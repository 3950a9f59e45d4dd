"""Simplification: constants folded, identities removed. Equal expressions are one node and dead ones gone anyway."""

from __future__ import annotations

import math
from collections.abc import Callable

from unrolled.ir.graph import Graph, Node, again
from unrolled.ir.ops import Shape

# What a constant argument gives. An operation without a row here keeps its node.
FOLD: dict[str, Callable[..., float]] = {
    "neg": lambda a: -a,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "minimum": min,
    "maximum": max,
    "less": lambda a, b: float(a < b),
    "less_equal": lambda a, b: float(a <= b),
    "equal": lambda a, b: float(a == b),
    "relu": lambda a: max(a, 0.0),
    "abs": abs,
    "sign": lambda a: math.copysign(1.0, a) if a else 0.0,
    "tanh": math.tanh,
}


def constant_of(node: Node) -> float | None:
    """The number that a node is, or has at every unit, if it is one."""
    if node.op == "spread":
        return constant_of(node.args[0])
    return node["value"] if node.op == "constant" else None


def filled(graph: Graph, value: float, shape: Shape) -> Node:
    """A number, at every unit of the axis where the shape has one."""
    number = graph.constant(value)
    return graph.add("spread", number, axis=shape[0]) if shape else number


def simplest(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
    """The simplest node that means `node.op` of `args`: the rewrite of this pass."""
    constants = [constant_of(arg) for arg in args]
    if args and node.op in FOLD and all(value is not None for value in constants):
        return filled(graph, FOLD[node.op](*constants), node.shape)
    if node.op == "add":
        for one, other in ((0, 1), (1, 0)):
            if constants[one] == 0 and args[other].shape == node.shape:
                return args[other]
            if args[other].op == "neg" and args[other].shape == args[one].shape == node.shape:
                return _simplest_of(graph, "sub", args[one], args[other].args[0])
    if node.op == "sub" and constants[1] == 0 and args[0].shape == node.shape:
        return args[0]
    if node.op == "mul":
        for one, other in ((0, 1), (1, 0)):
            if constants[one] == 1 and args[other].shape == node.shape:
                return args[other]
            if constants[one] == -1 and args[other].shape == node.shape:
                return _simplest_of(graph, "neg", args[other])
            if args[one].op == "neg" and args[one].shape == node.shape:
                inner = args[one].args[0]
                product = _simplest_of(graph, "mul", *((inner, args[other]) if one == 0 else (args[other], inner)))
                return _simplest_of(graph, "neg", product)
    if node.op == "div" and constants[1] == 1 and args[0].shape == node.shape:
        return args[0]
    if node.op == "neg" and args[0].op == "neg":
        return args[0].args[0]
    return again(graph, node, args)


def _simplest_of(graph: Graph, op: str, *args: Node) -> Node:
    return simplest(graph, graph.add(op, *args), args)
