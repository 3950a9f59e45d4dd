"""What a kernel reads and does not compute: inputs, parameters, numbers, and what is computed once a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unrolled.backends import Call
from unrolled.backends.environment import due, group_symbols
from unrolled.backends.llvm.call import KernelCall, Maps, rows_apart
from unrolled.backends.llvm.forward import TABLE, Forward
from unrolled.backends.llvm.work import Buffer, Index
from unrolled.backends.maps import MAPS
from unrolled.backends.operations import OPERATIONS
from unrolled.ir.graph import Node
from unrolled.ir.plan import Plan
from unrolled.ir.program import Program
from unrolled.ir.structure import DENSE


def set_leaves(kernel: KernelCall, plan: Plan, call: Call) -> None:
    """Say where inputs, row values, vectors, numbers and the clock's beats stand."""
    program = plan.program
    for (name, _), value in zip(program.inputs, call.sequences, strict=True):
        if value.is_floating_point():
            kernel.set_tensor(f"input {name}", rows_apart(value))
    for (name, _), value in zip(program.rows, call.rows, strict=True):
        kernel.set_tensor(f"row {name}", rows_apart(value))
    for name, number in zip(program.scalars, call.scalars, strict=True):
        kernel.set_fixed(f"scalar {name}", torch.tensor([number], dtype=kernel.dtype))
    for buffer in kernel.code.of_index(Index.FIXED):
        if buffer.name.startswith("size "):
            size = kernel.sizes[buffer.name.removeprefix("size ")]
            kernel.set_fixed(buffer.name, torch.tensor([float(size)], dtype=kernel.dtype))
    for group, value in zip(plan.groups, call.parameters, strict=True):
        symbols = group_symbols(group)
        if len(group.shape) < 2:
            for symbol, part in zip(symbols, value.chunk(len(symbols)), strict=True):
                kernel.set_fixed(symbol, part)
        elif group.structure.name == "diagonal":
            kernel.set_fixed(symbols[0], value)
    for node in program.nodes:
        if node.op == "tick":
            size = kernel.sizes[node.shape[0]]
            beats = due(node["periods"], size, kernel.rows.time, call.clock, call.states[0])
            kernel.set_tensor(f"tick {node['periods']}", beats.contiguous())


def outside_products(
    kernel: KernelCall, plan: Plan, call: Call, forward: Forward, modes: Mapping[str, str], maps: Maps
) -> None:
    """Take the products that are not taken in the loop."""
    wholes = {group_symbols(group): value for group, value in zip(plan.groups, call.parameters, strict=True)}
    inputs = dict(zip((name for name, _ in plan.program.inputs), call.sequences, strict=True))
    for name, products in forward.outside.items():
        value = inputs[name]
        if modes[name] == TABLE:
            symbols = value.contiguous()
            kernel.kept.append(symbols)
            kernel.words["symbols"] = symbols.data_ptr()
        dense = [node for node in products if node.args[0]["structure"] == DENSE]
        places = {node: number for number, node in enumerate(products)}
        if dense:
            keys = tuple(node.args[0].symbol for node in dense)
            stacked = wholes.get(keys)
            if stacked is None:
                stacked = torch.cat([maps.symbols[key] for key in keys])
            if modes[name] == TABLE:
                found = stacked.mT.contiguous()
            else:
                found = torch.mm(value.reshape(-1, value.shape[-1]), stacked.mT)
            column = 0
            for node in dense:
                kernel.set_tensor(f"product {name} {places[node]}", found, column=column)
                column += kernel.sizes[node.shape[0]]
        for node in products:
            structure = node.args[0]["structure"]
            if structure != DENSE:
                entries = maps.symbols[node.args[0].symbol]
                if modes[name] == TABLE:
                    value = torch.eye(kernel.sizes[node.args[1].shape[0]], dtype=kernel.dtype)
                found = MAPS[structure.name].product(structure, entries, value, "").contiguous()
                kernel.set_tensor(f"product {name} {places[node]}", found.reshape(-1, found.shape[-1]))


def once_values(
    kernel: KernelCall,
    program: Program,
    call: Call,
    nodes: Sequence[tuple[Node, Buffer]],
    maps: Maps,
    sizes: Mapping[str, int],
) -> None:
    """Compute what is the same at every step."""
    if not nodes:
        return
    like = call.states[0]
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
            return maps.symbols[node.symbol]
        if node.op in ("product", "transposed_product"):
            structure = node.args[0]["structure"]
            row, entries = MAPS[structure.name], maps.symbols[node.args[0].symbol]
            multiply = row.product if node.op == "product" else row.transposed
            return multiply(structure, entries, value(node.args[1]), "")
        return OPERATIONS[node.op](node, sizes)(*(value(arg) for arg in node.args))

    for node, buffer in nodes:
        found = value(node)
        width = sizes[node.shape[0]] if node.shape else 1
        if buffer.index is Index.ROW:
            kernel.set_tensor(buffer.name, found.expand(kernel.rows.batch, width).contiguous())
        else:
            kernel.set_fixed(buffer.name, found.expand(width) if node.shape else found.reshape(1))
