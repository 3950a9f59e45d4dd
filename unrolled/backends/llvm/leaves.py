"""What a kernel reads and does not compute: inputs, parameters, numbers, and what is computed once a call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from unrolled import sequence
from unrolled.backends import Call
from unrolled.backends.environment import due, group_symbols, split_groups
from unrolled.backends.llvm.layout import Layout, row_stride
from unrolled.backends.llvm.work import Buffer, Index
from unrolled.backends.maps import MAPS, dense_matrix
from unrolled.backends.operations import OPERATIONS
from unrolled.ir.graph import Node
from unrolled.ir.plan import Plan
from unrolled.ir.structure import DENSE

Once = Sequence[tuple[Node, Buffer]]


class Leaves:
    """The leaves of one kernel: where they stand in a call's tensors, and those tensors."""

    def __init__(self, plan: Plan, layout: Layout, call: Call, once: Once):
        self.plan = plan
        self.layout = layout
        self.once = once
        self.groups = {
            symbol: (number, place)
            for number, group in enumerate(plan.groups)
            for place, symbol in enumerate(group_symbols(group))
        }
        self.strides = [value.stride() for value in call.parameters]
        self.shapes = [tuple(value.shape) for value in call.parameters]
        self.structured: dict[str, Node] = {}
        self.ticks = {f"tick {node['periods']}": node for node in plan.program.nodes if node.op == "tick"}
        self._set(call)

    def _set(self, call: Call) -> None:
        program, layout = self.plan.program, self.layout
        for (name, _), value in zip(program.inputs, call.sequences, strict=True):
            if value.is_floating_point():
                layout.rows_of(f"input {name}", f"input {name}", row_stride(value))
            else:
                layout.address("symbols", "symbols")
        for (name, _), value in zip(program.rows, call.rows, strict=True):
            layout.rows_of(f"row {name}", f"row {name}", row_stride(value))
        for (name, _), value in zip(program.states, call.states, strict=True):
            layout.address(f"state {name}.initial", f"initial {name}")
            layout.number(f"state {name}.initial stride", row_stride(value))
        if call.resets is not None:
            layout.address("resets", "resets")
            for (name, _), value in zip(program.states, call.restarts, strict=True):
                layout.address(f"state {name}.restart", f"restart {name}")
                layout.number(f"state {name}.restart stride", row_stride(value))
        for number, name in enumerate(program.scalars):
            layout.address(f"scalar {name}.pointer", "scalars", number * layout.item)
        sizes = [buffer for buffer in layout.code.of_index(Index.FIXED) if buffer.name.startswith("size ")]
        self.sizes = torch.tensor(
            [float(layout.sizes[buffer.name.removeprefix("size ")]) for buffer in sizes],
            dtype=layout.dtype,
            device="cpu",
        )
        for number, buffer in enumerate(sizes):
            layout.number(f"{buffer.name}.pointer", self.sizes.data_ptr() + number * layout.item)
        for symbol, (number, place) in self.groups.items():
            shape = self.shapes[number]
            if len(shape) == 1:
                count = shape[0] // len(self.plan.groups[number].names)
                layout.address(f"{symbol}.pointer", f"group {number}", place * count * layout.item)
        for name, node in self.ticks.items():
            layout.rows_of(name, name, layout.sizes[node.shape[0]] * layout.item)
        for node, buffer in self.once:
            layout.rows_of(buffer.name, buffer.name, (layout.sizes[node.shape[0]] if node.shape else 1) * layout.item)

    def place(self, node: Node) -> tuple[str, int, tuple[int, int]]:
        """Where a map stands that is packed."""
        name, _, factor = node["name"].partition("/")
        symbol, item = f"{node['family']}.{name}", self.layout.item
        if node["structure"] != DENSE:
            self.structured[symbol] = node
            return f"map {symbol}", 0, (self.layout.sizes[node.shape[1]] * item, item)
        number, place = self.groups[symbol]
        unit, term = (stride * item for stride in self.strides[number])
        if factor == "right":
            into = self.layout.sizes[node.shape[1]]
            return f"group {number}", (self.shapes[number][0] - into) * unit, (term, unit)
        if factor == "left":
            return f"group {number}", 0, (unit, term)
        rows = self.shapes[number][0] // len(self.plan.groups[number].names)
        return f"group {number}", place * rows * unit, (unit, term)

    def tensors(self, call: Call) -> dict[str, Tensor]:
        """The tensors of a call by the names of their sources."""
        program = self.plan.program
        found: dict[str, Tensor] = {}
        for (name, _), value in zip(program.inputs, call.sequences, strict=True):
            found[f"input {name}" if value.is_floating_point() else "symbols"] = value
        for (name, _), value in zip(program.rows, call.rows, strict=True):
            found[f"row {name}"] = value
        for (name, _), value in zip(program.states, call.states, strict=True):
            found[f"initial {name}"] = value
        for number, value in enumerate(call.parameters):
            found[f"group {number}"] = value
        if call.resets is not None:
            resets = sequence.reverse_resets(call.resets, call.lengths) if call.reverse else call.resets
            found["resets"] = resets.contiguous().view(torch.uint8)
            for (name, _), value in zip(program.states, call.restarts, strict=True):
                found[f"restart {name}"] = value
        if call.scalars:
            found["scalars"] = torch.tensor(list(call.scalars), dtype=self.layout.dtype, device="cpu")
        for name, node in self.ticks.items():
            size, time = self.layout.sizes[node.shape[0]], call.sequences[0].shape[0]
            found[name] = due(node["periods"], size, time, call.clock, call.states[0])
        return found | self.maps(call) | self._once_values(call)

    def maps(self, call: Call) -> dict[str, Tensor]:
        """The maps with a structure, written out, by the names of their sources."""
        if not self.structured:
            return {}
        symbols, sizes = split_groups(self.plan.groups, call.parameters), self.layout.sizes
        found = {}
        for symbol, node in self.structured.items():
            out, into = (sizes[axis] for axis in node.shape)
            found[f"map {symbol}"] = dense_matrix(node["structure"], symbols[symbol], out, into).contiguous()
        return found

    def _once_values(self, call: Call) -> dict[str, Tensor]:
        """What is the same at every step, in torch."""
        if not self.once:
            return {}
        program, sizes, like = self.plan.program, self.layout.sizes, call.states[0]
        symbols = split_groups(self.plan.groups, call.parameters)
        rows = dict(zip((name for name, _ in program.rows), call.rows, strict=True))
        scalars = dict(zip(program.scalars, call.scalars, strict=True))
        values: dict[Node, Tensor] = {}

        def value(node: Node) -> Tensor:
            if node not in values:
                values[node] = find(node)
            return values[node]

        def find(node: Node) -> Tensor:
            if node.op == "constant":
                return like.new_tensor(node["value"])
            if node.op == "size":
                return like.new_tensor(float(sizes[node["axis"]]))
            if node.op == "scalar":
                return like.new_tensor(scalars[node["name"]])
            if node.op == "row":
                return rows[node["name"]]
            if node.op == "parameter":
                return symbols[node.symbol]
            if node.op in ("product", "transposed_product"):
                structure = node.args[0]["structure"]
                row, entries = MAPS[structure.name], symbols[node.args[0].symbol]
                multiply = row.product if node.op == "product" else row.transposed
                return multiply(structure, entries, value(node.args[1]), call.precision)
            return OPERATIONS[node.op](node, sizes)(*(value(arg) for arg in node.args))

        found = {}
        for node, buffer in self.once:
            width = sizes[node.shape[0]] if node.shape else 1
            shape = (self.layout.batch, width) if buffer.index is Index.ROW else (width,)
            found[buffer.name] = value(node).expand(shape).contiguous()
        return found

    @cached_property
    def wholes(self) -> dict[tuple[str, ...], int]:
        """The groups by all their symbols."""
        return {group_symbols(group): number for number, group in enumerate(self.plan.groups)}

    def stacked(self, matrices: Sequence[Node], call: Call) -> Tensor:
        """Dense maps under one another."""
        keys = tuple(node.symbol for node in matrices)
        if keys in self.wholes:
            return call.parameters[self.wholes[keys]]
        symbols = split_groups(self.plan.groups, call.parameters)
        return torch.cat([symbols[key] for key in keys]) if len(keys) > 1 else symbols[keys[0]]
