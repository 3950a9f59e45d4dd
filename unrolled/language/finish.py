"""The end of a trace: what a cell returns and declares is held against its equations, and becomes a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from unrolled.errors import CellError, Place, ShapeError, at, did_you_mean
from unrolled.ir.graph import Node
from unrolled.ir.naming import ARGUMENTS, printable
from unrolled.ir.program import Program, verify_program
from unrolled.language.signature import Options, Signature, axes_text
from unrolled.language.trace import Trace
from unrolled.language.values import Value

T = TypeVar("T")


def finish(trace: Trace, signature: Signature, results: tuple[object, ...], options: Options) -> Program:
    """The program of what was recorded.

    Raises   CellError or ShapeError when a state is not returned, not used, or returned on another axis or in the place
             of another, and when an option names a symbol that the cell does not have
    """
    nodes = _next_states(trace, signature, results)
    program = Program(
        name=trace.name,
        inputs=signature.inputs,
        states=signature.states,
        equations=tuple(trace.equations),
        results=tuple(nodes),
        scalars=signature.scalars,
        axes=signature.axes,
        initial=options.initial,
        init=_written_out(options.init, trace.symbols),
        declared=_written_out(trace.declared, trace.symbols),
        source=options.source,
        doc=options.doc,
    )
    program = printable(program).canonical()
    _check_used(trace, program)
    _check_named(trace, program, options)
    verify_program(program)
    return program


def _next_states(trace: Trace, signature: Signature, results: tuple[object, ...]) -> list[Node]:
    states = signature.states
    named = ", ".join(name for name, _ in states)
    if len(results) != len(states):
        count = f"{len(results)} value{'s' if len(results) > 1 else ''}" if results else "nothing"
        place = trace.locate() if results else Place(trace.name)
        are = "states are" if len(states) > 1 else "state is"
        raise CellError(at(place, f"the cell returns {count}; its {are} {named}.\n  End it with: return {named}"))
    nodes = []
    for (name, _), value in zip(states, results, strict=True):
        if not isinstance(value, Value):
            trace.fail(
                f"the next value of state {name} is {value!r}, which is no value of the cell.\n"
                f"  End it with: return {named}"
            )
        nodes.append(value.node)
    _check_order(trace, signature, nodes)
    for (name, shape), node in zip(states, nodes, strict=True):
        if node.shape != shape:
            trace.fail(
                f"state {name} is {axes_text(shape)}, the value returned for it, {trace.text(node)}, is "
                f"{axes_text(node.shape)}.",
                ShapeError,
            )
    return nodes


def _check_order(trace: Trace, signature: Signature, nodes: list[Node]) -> None:
    """Refuse states that are returned in the places of one another, unless a value has a name beside the state's."""
    names = [name for name, _ in signature.states]
    means = {name: trace.graph.leaf("state", name, shape) for name, shape in signature.states} | dict(trace.equations)
    expected = [means[name] for name in names]
    also_called = {node for name, node in means.items() if name not in names}
    if nodes == expected or Counter(nodes) != Counter(expected) or also_called & set(nodes):
        return
    returned = [names[expected.index(node)] for node in nodes]
    state, other = next(pair for pair in zip(names, returned, strict=True) if pair[0] != pair[1])
    trace.fail(
        f"the next states are returned as {', '.join(returned)}; expected {', '.join(names)}, "
        f"the order of the arguments, the output first.\n"
        f"  If {other} is meant to become {state}, give it a name of its own: next_{state} = {other}"
    )


def _check_used(trace: Trace, program: Program) -> None:
    inside = [arg for node in program.nodes for arg in node.args]
    inside += [node for (name, _), node in zip(program.states, program.results, strict=True) if name != _leaf(node)]
    read = {_leaf(node) for node in inside}
    for name, _ in program.states[1:]:
        if name not in read:
            trace.fail(f"state {name} is never used: no equation reads it. Remove it, or use it.")
    for name, _ in program.inputs:
        if name not in read:
            trace.fail(f"input {name} is never used: no equation reads it.")
    for name in program.scalars:
        if name not in read:
            trace.fail(f"hyperparameter {name} is never used: no equation reads it.")


def _check_named(trace: Trace, program: Program, options: Options) -> None:
    symbols = {node.symbol for node in program.parameters}
    if any(node.op == "raw" for node in program.nodes):
        symbols.add("W.raw")
    families = {symbol.split(".")[0] for symbol in symbols}
    maps = {name for name in symbols | families if name[0] in "WUV"}
    placed = {symbol for symbol in symbols if symbol[0] in "WUVbp"}
    known = {"init": symbols | families, "axes": placed, "structure": maps - {"W.raw"}}
    structure = _written_out(trace.structure, trace.symbols)
    for option, keys in (("init", program.init), ("axes", program.declared), ("structure", structure)):
        for key in keys:
            if key not in known[option]:
                hint = did_you_mean(key, known[option])
                has = "cannot have one" if key in symbols | families else "the cell does not have"
                raise CellError(at(Place(trace.name), f"{option} names {key!r}, which {has}.{hint}"))
    for key in options.initial:
        if key not in dict(program.states):
            hint = did_you_mean(key, dict(program.states))
            raise CellError(at(Place(trace.name), f"initial names {key!r}, which is no state.{hint}"))


def _leaf(node: Node) -> str | None:
    return node["name"] if node.op in ARGUMENTS else None


def _written_out(option: Mapping[str, T], symbols: Iterable[str]) -> dict[str, T]:
    """The option with a key for each subscripted symbol that an unsubscripted key speaks for."""
    found: dict[str, T] = {}
    for key, value in option.items():
        meant = [symbol for symbol in symbols if symbol.partition("[")[0] == key] or [key]
        found |= {symbol: option.get(symbol, value) for symbol in meant}
    return found
