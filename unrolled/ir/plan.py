"""The plan of a program: what leaves the time loop, which products are one, what waits for what, what backward keeps.

All of it is derived; an author declares none of it. `forward` is what a backend runs; `backward` is derived from it
on first use.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

from unrolled.ir.backward import Backward, backward_of, timed_nodes
from unrolled.ir.gradient import differentiate
from unrolled.ir.graph import Graph, Node, copy_into, reachable
from unrolled.ir.ops import OPERATIONS, Shape
from unrolled.ir.program import Program, loads
from unrolled.ir.regroup import regroup_into
from unrolled.ir.simplify import filled, simplest
from unrolled.ir.structure import DENSE, Structure
from unrolled.ir.transforms import clamped


@dataclass(frozen=True)
class Group:
    """Symbols that are stored as one parameter, stacked along their first axis in source order.

    Maps of one family, operand, shape and structure make a group; so do the biases, and the vectors, of one axis, and
    the scalars. A map with a structure of its own is alone.
    """

    family: str
    names: tuple[str, ...]
    shape: Shape
    structure: Structure = DENSE

    @property
    def key(self) -> str:
        """The name of the parameter within its family: the names of its symbols."""
        return "_".join(self.names)


@dataclass(frozen=True)
class Product:
    """All products of one operand: one matrix product for all gates, in source order."""

    operand: Node
    outputs: tuple[Node, ...]

    @property
    def maps(self) -> tuple[Node, ...]:
        """The symbols that are stacked."""
        return tuple(node.args[0] for node in self.outputs)


@dataclass(frozen=True)
class Stage:
    """What can be done without waiting for other units: products of operands that are ready, then each unit alone."""

    products: tuple[Product, ...]
    reductions: tuple[Node, ...]
    elementwise: tuple[Node, ...]


@dataclass(frozen=True)
class Plan:
    """A program made ready for a backend.

    origin       the bound program, without values of scalars, that the plan was made of
    program      simplified; its equations are only those that are handed out as taps
    groups       how the symbols are stored
    delays       states that depend on no state: their old value is a sequence shifted by one step
    once         nodes of parameters, numbers and row values alone: computed once a call
    hoisted      nodes of no state: computed over all time at once, or fused into the loop, as the backend likes
    hoisted_products   the products among them
    prelude      nodes element-wise in old states: written with the states, no stage of their own
    stages       the steps of one time step, each waiting for the one before
    linear       state -> what multiplies it, if the recurrence is linear and element-wise in the states that are read:
                 a node of no state; no recurrent product is left
    names        what the author called the values of the step
    clamp        values of the step that are held at numbers; the symbols that they read are stored all the same
    axes         the names of all axes; a call gives their sizes in this order
    """

    origin: Program
    program: Program
    taps: tuple[str, ...]
    groups: tuple[Group, ...]
    delays: tuple[str, ...]
    once: tuple[Node, ...]
    hoisted: tuple[Node, ...]
    hoisted_products: tuple[Product, ...]
    prelude: tuple[Node, ...]
    stages: tuple[Stage, ...]
    linear: Mapping[str, Node]
    names: Mapping[Node, str]
    axes: tuple[str, ...]
    clamp: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def backward(self) -> Backward:
        """The reverse loop and what stands before and after it."""
        symbols = [[f"{group.family}.{name}" for name in group.names] for group in self.groups]
        return backward_of(self.program, self.taps, symbols)

    @cached_property
    def key(self) -> str:
        """The plan as text, from which `plan_of_key` makes it again: equal plans have equal keys."""
        held = [dict(self.clamp)] if self.clamp else []
        return json.dumps([self.origin.dumps(), self.taps, *held], sort_keys=True)

    @property
    def step_nodes(self) -> tuple[Node, ...]:
        """What one step computes, in order."""
        found = list(self.prelude)
        for stage in self.stages:
            for product in stage.products:
                found += product.outputs
            found += stage.reductions
            found += stage.elementwise
        return tuple(found)


@cache
def plan_of_key(key: str) -> Plan:
    """The plan that has this key."""
    program, taps, *held = json.loads(key)
    return make_plan(loads(program), tuple(taps), *held)


def make_plan(program: Program, taps: tuple[str, ...] = (), clamp: Mapping[str, float] | None = None) -> Plan:
    """The plan of a bound program that hands out `taps` beside its output, with the values in `clamp` held at numbers.

    Raises   CellError when the program has no value of a tap's name, or none that can be held
    """
    taps, clamp = tuple(dict.fromkeys(taps)), dict(clamp or {})
    origin = _stripped(program)
    held = clamped(program, clamp) if clamp else program
    tapped = replace(_stripped(held), equations=tuple((name, held.tap(name)) for name in taps))
    simple = copy_into(Graph(), held.nodes, _prepared)
    tapped = tapped.mapped(simple)
    stateful = _stateful(tapped, _delays(tapped))
    early = set(tapped.nodes) - stateful
    graph = Graph()
    grouped = regroup_into(graph, [*(node for _, node in tapped.equations), *tapped.results], early.__contains__)
    tapped = tapped.mapped(grouped)
    delays = _delays(tapped)
    stateful = _stateful(tapped, delays)
    nodes = tapped.nodes
    timed = timed_nodes(nodes)
    inner = [node for node in nodes if node.args]
    hoisted = [node for node in inner if node not in stateful and node in timed]
    step = [node for node in inner if node in stateful]
    levels = _levels(step)
    last = max([1, *levels.values()])
    return Plan(
        origin=origin,
        program=tapped,
        taps=taps,
        groups=groups_of(origin),
        delays=delays,
        once=tuple(node for node in inner if node not in stateful and node not in timed),
        hoisted=tuple(hoisted),
        hoisted_products=_products(hoisted),
        prelude=tuple(node for node in step if levels[node] == 0),
        stages=tuple(_stage([node for node in step if levels[node] == level]) for level in range(1, last + 1)),
        linear=_linear(graph, tapped, stateful, delays),
        axes=_axes(origin),
        names=_names(held, {node: grouped[image] for node, image in simple.items() if image in grouped}),
        clamp=clamp,
    )


def _stripped(program: Program) -> Program:
    """The program without what no kernel depends on, so that cells that differ in it share their kernels."""
    scalars = dict.fromkeys(program.scalars, 0.0)
    return replace(program, name="", source="", doc="", init={}, initial={}, declared={}, axes={}, scalars=scalars)


def _axes(program: Program) -> tuple[str, ...]:
    shapes = [shape for _, shape in (*program.inputs, *program.states, *program.rows)]
    return tuple(sorted({axis for shape in (*shapes, *(node.shape for node in program.nodes)) for axis in shape}))


def _prepared(graph: Graph, node: Node, args: tuple[Node, ...]) -> Node:
    """The simplest form of a node; a diagonal map of what is computed is no product but multiplies each unit."""
    if node.op == "product" and args[0]["structure"].name == "diagonal" and args[1].op != "sequence":
        out = node.shape[0]
        entries = graph.add("parameter", family=args[0]["family"], name=args[0]["name"], shape=(out,))
        operand = args[1] if args[1].shape == (out,) else graph.add("raw", args[1], axis=out)
        return graph.add("mul", entries, operand)
    return simplest(graph, node, args)


def _names(program: Program, image: Mapping[Node, Node]) -> dict[Node, str]:
    """The author's names for the nodes of the plan; an earlier meaning of a name, or of an input's, is numbered."""
    equations = [*program.equations, *zip((name for name, _ in program.states), program.results, strict=True)]
    inputs = dict(program.inputs)
    last = {name: node for name, node in equations if name not in inputs}
    times: Counter[str] = Counter()
    names: dict[Node, str] = {}
    for name, node in equations:
        if node in image and node.args and image[node] not in names:
            times[name] += 1
            names[image[node]] = name if last.get(name) is node else f"{name}_{times[name]}"
    return names


def groups_of(program: Program) -> tuple[Group, ...]:
    """How the symbols of a bound program are stored, in source order."""
    operands: dict[Node, list[int]] = {}
    for node in program.nodes:
        if node.op == "product":
            operands.setdefault(node.args[0], []).append(node.args[1].index)
    families: dict[tuple[object, ...], list[Node]] = {}
    for node in program.parameters:
        structure = node["structure"] if len(node.shape) == 2 else DENSE
        alone = node["name"] if structure != DENSE else None
        key = (node["family"], tuple(operands.get(node, ())), node.shape, alone)
        families.setdefault(key, []).append(node)
    return tuple(
        Group(
            nodes[0]["family"],
            tuple(node["name"] for node in nodes),
            nodes[0].shape,
            nodes[0]["structure"] if len(nodes[0].shape) == 2 else DENSE,
        )
        for nodes in families.values()
    )


def _delays(program: Program) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    while True:
        more = tuple(
            name
            for (name, _), node in zip(program.states, program.results, strict=True)
            if all(n["name"] in found for n in reachable([node]) if n.op == "state")
        )
        if more == found:
            return found
        found = more


def _stateful(program: Program, delays: tuple[str, ...]) -> set[Node]:
    found: set[Node] = set()
    for node in program.nodes:
        own = node.op == "state" and node["name"] not in delays
        if own or any(arg in found for arg in node.args):
            found.add(node)
    return found


def _levels(step: Iterable[Node]) -> dict[Node, int]:
    levels: dict[Node, int] = {}
    for node in step:
        before = max([0, *(levels.get(arg, 0) for arg in node.args)])
        levels[node] = before + (OPERATIONS[node.op].kind in ("map", "units"))
    return levels


def _products(nodes: Iterable[Node]) -> tuple[Product, ...]:
    families: dict[object, list[Node]] = {}
    for node in nodes:
        if node.op == "product":
            alone = None if node.args[0]["structure"] == DENSE else node
            families.setdefault((node.args[1], alone), []).append(node)
    return tuple(Product(found[0].args[1], tuple(found)) for found in families.values())


def _stage(nodes: list[Node]) -> Stage:
    return Stage(
        _products(nodes),
        tuple(node for node in nodes if OPERATIONS[node.op].kind == "units"),
        tuple(node for node in nodes if OPERATIONS[node.op].kind == "elementwise"),
    )


# Constant in what they read but for jumps, which no slope shows; so is `where` in its condition.
_JUMPS = ("less", "less_equal", "equal", "sign")


def _linear(graph: Graph, program: Program, stateful: set[Node], delays: tuple[str, ...]) -> dict[str, Node]:
    """What multiplies each state that is read, if that and what is added to it depend on no state."""

    def own(node: Node) -> bool:
        return node.op == "state" and node["name"] not in delays

    def sloped(node: Node) -> bool:
        jumps = node.op in _JUMPS or (node.op == "where" and node.args[0] in stateful)
        return OPERATIONS[node.op].kind == "elementwise" and not jumps

    read = {node["name"] for node in program.nodes if own(node)}
    results = {name: node for (name, _), node in zip(program.states, program.results, strict=True) if name in read}
    core = [node for node in reachable(results.values()) if node in stateful and node.args]
    if not all(map(sloped, core)):
        return {}
    found = {}
    for name, result in results.items():
        slopes = differentiate(graph, [(result, filled(graph, 1.0, result.shape))], own)
        if [leaf["name"] for leaf in slopes] != [name] or any(map(own, reachable(slopes.values()))):
            return {}
        found[name] = slopes.popitem()[1]
    return found
