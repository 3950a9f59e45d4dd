"""What the reference needs to run a step: the values of the leaves, stacked maps, and nodes as instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from unrolled import sequence
from unrolled.backends import Call
from unrolled.backends.maps import MAPS
from unrolled.backends.operations import OPERATIONS
from unrolled.ir.backward import Accumulation, Item
from unrolled.ir.graph import Node
from unrolled.ir.plan import Group, Plan, Product
from unrolled.ir.structure import DENSE

Values = dict[Node, Tensor]
Instruction = Callable[[Values], None]


class Environment:
    """One pass over a plan's graph.

    Values are (time, batch, axis) where they change with time, (batch, axis) for rows, (axis,) or () for parameters and
    numbers; a number of each row has an axis of one. Whole-number sequences, (time, batch), stand for one-hot vectors.
    """

    def __init__(self, plan: Plan, call: Call, leaves: Iterable[Node]):
        self.plan = plan
        self.call = call
        self.time, self.batch = call.sequences[0].shape[:2]
        self.sizes = dict(zip(plan.axes, call.sizes, strict=True))
        self.groups = {group_symbols(group): value for group, value in zip(plan.groups, call.parameters, strict=True)}
        self.symbols = split_groups(plan.groups, call.parameters)
        mask = None if call.lengths is None else sequence.mask(call.lengths, self.time)[..., None]
        self.mask = mask
        self.resets = self._resets()
        self.leaves: dict[tuple[str, str], Node] = {}
        self.values: Values = {}
        # What the last accumulation of these cotangents has joined.
        self.joined: dict[tuple[Node | None, ...], Tensor] = {}
        self._stacks: dict[tuple[str, ...], Tensor] = {}
        self._set_leaves(leaves)

    def _set_leaves(self, leaves: Iterable[Node]) -> None:
        program, call = self.plan.program, self.call
        like = call.states[0]
        given: dict[tuple[str, str], Tensor] = {}
        given |= {("row", name): value for (name, _), value in zip(program.rows, call.rows, strict=True)}
        given |= {
            ("scalar", name): like.new_tensor(value) for name, value in zip(program.scalars, call.scalars, strict=True)
        }
        inputs = dict(zip((name for name, _ in program.inputs), call.sequences, strict=True))
        for node in leaves:
            if node.op == "constant":
                self.values[node] = like.new_tensor(node["value"])
            elif node.op == "size":
                self.values[node] = like.new_tensor(float(self.sizes[node["axis"]]))
            elif node.op == "tick":
                size = self.sizes[node.shape[0]]
                self.values[node] = due(node["periods"], size, self.time, call.clock, like)[:, None]
            elif node.op == "parameter":
                if len(node.shape) < 2:
                    self.values[node] = self.symbols[node.symbol]
            else:
                self.leaves[node.op, node["name"]] = node
                if node.op == "sequence" and node["name"] in inputs:
                    self.values[node] = self.read(inputs[node["name"]])
                elif (node.op, node["name"]) in given:
                    self.values[node] = given[node.op, node["name"]]

    def read(self, value: Tensor) -> Tensor:
        """A sequence in reading order, its padding filled."""
        return self.filled(self.outgoing(value))

    def filled(self, value: Tensor) -> Tensor:
        """The sequence with its padding as at the row's last valid step.

        Nothing computed in the padding reaches a result, but it must not be other than what valid steps compute either:
        a derivative that is infinite there would come back as zero times infinity, which is no zero.
        """
        if self.mask is None or not value.numel():
            return value
        lengths = self._lengths()
        fill = value[(lengths[self.model_rows] - 1).clamp(min=0) * (lengths > 0), self.model_rows].detach()
        neutral = torch.ones_like(fill) if value.is_floating_point() else torch.zeros_like(fill)
        fill = torch.where(lengths.max() > 0, fill, neutral)
        return torch.where(self.mask if value.dim() == 3 else self.mask[..., 0], value, fill)

    @property
    def model_rows(self) -> Tensor:
        """For each row the one whose steps stand in its padding: itself, or the longest if it has none of its own."""
        lengths = self._lengths()
        return torch.where(lengths > 0, torch.arange(self.batch, device=lengths.device), lengths.argmax())

    def _lengths(self) -> Tensor:
        assert self.call.lengths is not None
        return self.call.lengths

    def incoming(self, value: Tensor) -> Tensor:
        """A cotangent in reading order, zero in the padding."""
        value = self.outgoing(value)
        return value if self.mask is None else torch.where(self.mask, value, value.new_zeros(()))

    def outgoing(self, value: Tensor) -> Tensor:
        """A sequence in the caller's order."""
        return sequence.reverse(value, self.call.lengths) if self.call.reverse else value

    def _resets(self) -> Tensor | None:
        """Where a valid step begins anew, in reading order, as (time, batch, 1)."""
        call = self.call
        if call.resets is None:
            return None
        resets = sequence.reverse_resets(call.resets, call.lengths) if call.reverse else call.resets
        return resets[..., None] if self.mask is None else resets[..., None] & self.mask

    def over_time(self, value: Tensor) -> Tensor:
        """A value as a full (time, batch, axis) sequence."""
        width = value.shape[-1] if value.dim() else 1
        return value.expand(self.time, self.batch, width)

    def previous(self, name: str, new: Tensor) -> Tensor:
        """The old values of a state at every step, from its new ones, all in reading order."""
        index = [state for state, _ in self.plan.program.states].index(name)
        old = torch.cat([self.call.states[index][None], new[:-1]])
        old = old if self.resets is None else torch.where(self.resets, self.call.restarts[index], old)
        return self.filled(old)

    def stacked(self, maps: Sequence[Node]) -> Tensor:
        """The maps under one another."""
        names = tuple(node.symbol for node in maps)
        if names not in self._stacks:
            whole = self.groups.get(names)
            self._stacks[names] = whole if whole is not None else torch.cat([self.symbols[name] for name in names])
        return self._stacks[names]

    def product(self, product: Product) -> Instruction:
        """One product for all maps of an operand."""
        structure, outputs, operand = product.maps[0]["structure"], product.outputs, product.operand
        weights, precision = self.stacked(product.maps), self.call.precision
        multiply = MAPS[structure.name].product
        widths = [self.sizes[node.shape[0]] for node in outputs]

        def run(values: Values) -> None:
            v = values[operand]
            out = multiply(structure, weights, v, precision) if v.is_floating_point() else self._look_up(product, v)
            values.update(zip(outputs, out.split(widths, -1), strict=True))

        return run

    def _look_up(self, product: Product, index: Tensor) -> Tensor:
        """The product with one-hot vectors: the map's columns."""
        structure, weights = product.maps[0]["structure"], self.stacked(product.maps)
        if structure != DENSE:
            unit = torch.eye(self.sizes[product.operand.shape[0]], dtype=weights.dtype, device=weights.device)
            return torch.nn.functional.embedding(index, MAPS[structure.name].product(structure, weights, unit, ""))
        return torch.nn.functional.embedding(index, weights.mT)

    def instruction(self, item: Item) -> Instruction:
        """The step that computes a node from the values of its arguments."""
        if isinstance(item, Accumulation):
            return self._accumulation(item)
        node, args = item, item.args
        if node.op == "product":
            return self.product(Product(args[1], (node,)))
        run = OPERATIONS[node.op](node, self.sizes)
        if len(args) == 1:
            (a,) = args
            return _assign(node, lambda values: run(values[a]))
        if len(args) == 2:
            a, b = args
            return _assign(node, lambda values: run(values[a], values[b]))
        return _assign(node, lambda values: run(*(values[arg] for arg in args)))

    def _accumulation(self, item: Accumulation) -> Instruction:
        def run(values: Values) -> Tensor:
            joined = values[item.cotangents[0]]
            if len(item.cotangents) > 1:
                joined = self.joined[item.cotangents] = torch.cat([values[node] for node in item.cotangents], -1)
            return self.accumulated(item, joined, values)

        return _assign(item.node, run)

    def accumulated(self, item: Accumulation, joined: Tensor, values: Values) -> Tensor:
        """Stacked cotangents times stacked maps, transposed, and what is added to it."""
        structure = item.maps[0]["structure"]
        total = MAPS[structure.name].transposed(structure, self.stacked(item.maps), joined, self.call.precision)
        for node in item.rest:
            total = total + values[node]
        return total


def _assign(node: Node, run: Callable[[Values], Tensor]) -> Instruction:
    def instruction(values: Values) -> None:
        values[node] = run(values)

    return instruction


def due(periods: Sequence[int], units: int, time: int, clock: Tensor | None, like: Tensor) -> Tensor:
    """Which units are due at each step: 1 or 0.

    Shapes   returns (time, units)
    """
    steps = torch.arange(time, device=like.device)
    steps = steps if clock is None else steps + clock
    beats = torch.stack([steps % period == 0 for period in periods], -1).to(like.dtype)
    return beats.repeat_interleave(units // len(periods), -1)


def group_symbols(group: Group) -> tuple[str, ...]:
    """The symbols of a group as they are written."""
    return tuple(f"{group.family}.{name}" for name in group.names)


def split_groups(groups: Sequence[Group], parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Each symbol's part of its group."""
    symbols: dict[str, Tensor] = {}
    for group, value in zip(groups, parameters, strict=True):
        if not group.shape:  # scalars, stacked into one vector
            parts: Sequence[Tensor] = value.unbind(0)
        elif group.structure != DENSE:
            parts = [value]
        else:
            parts = value.chunk(len(group.names)) if len(group.names) > 1 else [value]
        symbols.update(zip(group_symbols(group), parts, strict=True))
    return symbols


def histories_of(plan: Plan) -> list[str]:
    """The states whose sequences are kept for backward beside the output, which is there already."""
    return [name for name in plan.backward.kept_states if name != plan.program.states[0][0]]


def columns_of(values: Values) -> list[tuple[Node, tuple[Tensor, ...]]]:
    """The values that change with time, one tensor a step."""
    return [(node, value.unbind(0)) for node, value in values.items() if value.dim() == 3]
