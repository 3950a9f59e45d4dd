"""Programs made of programs: what a layer can do to any cell, none of which the cell knows of."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import replace

from unrolled.errors import CellError
from unrolled.ir.gates import carried
from unrolled.ir.graph import Graph, Node, again, copy_into, users
from unrolled.ir.naming import printable
from unrolled.ir.ops import LAYER_NORM_EPSILON, OPERATIONS
from unrolled.ir.program import Program
from unrolled.ir.simplify import constant_of, filled, simplest

RECURRENT_MASK = "recurrent_mask"


def without_biases(program: Program) -> Program:
    """The program with every bias left out."""

    def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
        if node.op == "parameter" and node["family"] == "b":
            return filled(graph, 0.0, node.shape)
        if node.op == "add" and any(_is_zero(arg) for arg in args):
            return args[0] if _is_zero(args[1]) else args[1]
        return again(graph, node, args)

    init = {key: value for key, value in program.init.items() if key.split(".")[0] != "b"}
    return program.rewritten(rewrite, init=init)


def _is_zero(node: Node) -> bool:
    return node.op == "spread" and constant_of(node) == 0


def clamped(program: Program, values: Mapping[str, float]) -> Program:
    """The program in which the named values are held at numbers, wherever they are read; what 0 multiplies is gone.

    A name means what a tap of it gives: its last value, and that of a state is its new one. An equal expression under
    another name is the same value, and held too.

    Raises   CellError for a name that the program does not have or does not compute, or a value that is no number
    """
    held = {}
    for name, value in values.items():
        node = program.tap(name)
        if not node.args:
            raise CellError(f"cell '{program.name}': {name} is handed on as it is, so clamp cannot hold it")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise CellError(f"cell '{program.name}': clamp holds {name} at a finite number, not {value!r}")
        held[node] = float(value)
    fixed: set[Node] = set()

    def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
        if node in held:
            made = filled(graph, held[node], node.shape)
        elif node.op == "mul" and any(arg in fixed and constant_of(arg) == 0 for arg in args):
            made = filled(graph, 0.0, node.shape)
        else:
            made = simplest(graph, node, args)
        if constant_of(made) is not None and (node in held or not fixed.isdisjoint(args)):
            fixed.add(made)
        return made

    return program.rewritten(rewrite)


def _stateful(program: Program) -> set[Node]:
    """The values that depend on a state."""
    found: set[Node] = set()
    for node in program.nodes:
        if node.op == "state" or any(arg in found for arg in node.args):
            found.add(node)
    return found


def recurrent_maps(program: Program) -> set[str]:
    """The symbols of the maps that read what depends on a state."""
    stateful = _stateful(program)
    return {node.args[0].symbol for node in program.nodes if node.op == "product" and node.args[1] in stateful}


def with_recurrent_mask(program: Program) -> Program:
    """The program whose maps read what comes from the states through a mask drawn once a row (Gal 2016).

    The mask is the row value `recurrent_mask`, on the axis of the output; element-wise uses of the states stay whole.
    """
    shape = program.states[0][1]
    stateful = _stateful(program)

    def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
        if node.op == "product" and node.args[1] in stateful and node.args[1].shape == shape:
            mask = graph.leaf("row", RECURRENT_MASK, shape)
            return graph.add("product", args[0], graph.add("mul", mask, args[1]))
        return again(graph, node, args)

    return program.rewritten(rewrite, rows=(*program.rows, (RECURRENT_MASK, shape)))


def zoneout_name(state: str) -> str:
    """What the mask, or the probability, of a state is called: no name that a cell could give."""
    return f"zoneout {state}"


def with_zoneout(program: Program, states: Container[str], drawn: bool) -> Program:
    """The program in which units of these states keep their old value (Krueger 2017).

    Other values of the step read the new value of a state as it was before, as in the paper: h is that of the whole c.

    drawn   True: where a further input, the mask of each step, is not 0. False: the expectation, with the probability
            as a run-time scalar
    """
    graph = Graph()
    image = copy_into(graph, program.nodes)
    results, masks, rates = [], [], {}
    for (name, shape), node in zip(program.states, program.results, strict=True):
        new, old, called = image[node], graph.leaf("state", name, shape), zoneout_name(name)
        if name not in states:
            results.append(new)
        elif drawn:
            masks.append((called, shape))
            results.append(graph.add("where", graph.leaf("sequence", called, shape), old, new))
        else:
            rates[called] = 0.0
            kept = graph.leaf("scalar", called, ())
            left = graph.add("sub", graph.constant(1.0), kept)
            results.append(graph.add("add", graph.add("mul", kept, old), graph.add("mul", left, new)))
    changed = program.mapped(image, inputs=(*program.inputs, *masks), scalars={**program.scalars, **rates})
    return replace(changed, results=tuple(results))


def normalised(program: Program, memory: bool = True) -> Program:
    """The program with a layer normalisation, and a gain for each unit, on every map that is read unit by unit.

    The gain of `W.i` is `p.W_i`; it begins at 1. Biases stay as they are, one a gate.

    memory   also where the step reads the new value of a memory, a state beside the output whose next value is its old
             one multiplied and added to: with gain `p.c` and bias `b.c`
    Raises   CellError where there is nothing to normalise, or a gain's name is taken
    """
    read = users(program.nodes)
    maps = {
        node for node in program.nodes if node.op == "product" and any(_by_unit(user) for user in read.get(node, ()))
    }
    memories = {
        node: name
        for (name, shape), node in list(zip(program.states, program.results, strict=True))[1:]
        if memory and shape and name in carried(program) and any(_by_unit(user) for user in read.get(node, ()))
    }
    if not maps:
        raise CellError(f"cell '{program.name}' has no map that is read unit by unit, so none to normalise")
    taken = {node.symbol for node in program.parameters}
    gains: dict[str, float] = {}
    normal: dict[Node, Node] = {}

    def vector(graph: Graph, family: str, name: str, node: Node) -> Node:
        if f"{family}.{name}" in taken:
            raise CellError(f"cell '{program.name}' has a {family}.{name} of its own: layer normalisation adds one")
        return graph.add("parameter", family=family, name=name, shape=node.shape)

    def scaled(graph: Graph, name: str, node: Node) -> Node:
        gains[f"p.{name}"] = 1.0
        normal_form = graph.add("layer_norm", node, epsilon=LAYER_NORM_EPSILON)
        return graph.add("mul", vector(graph, "p", name, node), normal_form)

    def rewrite(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
        if _by_unit(node):
            args = tuple(normal.get(old, new) for old, new in zip(node.args, args, strict=True))
        made = again(graph, node, args)
        if node in maps:
            made = scaled(graph, node.args[0].symbol.replace(".", "_", 1), made)
        if node in memories:
            name = memories[node]
            normal[node] = graph.add("add", scaled(graph, name, made), vector(graph, "b", name, made))
        return made

    changed = program.rewritten(rewrite)
    sources = [text for text in (program.source, "layer normalisation: Ba, Kiros & Hinton 2016") if text]
    named = replace(
        changed,
        name=f"layer_normalised_{program.name}",
        init={**program.init, **gains},
        source="; ".join(sources),
    )
    return printable(named).canonical()


def _by_unit(node: Node) -> bool:
    """Whether an operation reads each unit of its arguments, not a map or a norm of them."""
    return OPERATIONS[node.op].kind in ("elementwise", "units") and node.op != "layer_norm"
