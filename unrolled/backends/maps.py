"""Products with structured maps in torch: one row a structure, for the product, its transpose and its gradient.

A map is given by its free entries, in the shape that `Structure.entries` gives. Entries that are not free take no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.ir.structure import Structure


def matmul(a: Tensor, b: Tensor, precision: str = "") -> Tensor:
    """a @ b, the operands rounded to `precision` if one is named, the result in the type of `a`."""
    if not precision:
        return a @ b
    narrow = getattr(torch, precision)
    return (a.to(narrow) @ b.to(narrow)).to(a.dtype)


@dataclass(frozen=True)
class MapRow:
    """How a structure multiplies.

    Shapes   product (entries, v (…, in)) -> (…, out); transposed (entries, v (…, out)) -> (…, in);
             gradient (entries, d (rows, out), v (rows, in)) -> entries
    """

    product: Callable[[Structure, Tensor, Tensor, str], Tensor]
    transposed: Callable[[Structure, Tensor, Tensor, str], Tensor]
    gradient: Callable[[Structure, Tensor, Tensor, Tensor, str], Tensor]


def _antisymmetric(entries: Tensor, units: int) -> Tensor:
    above = torch.triu_indices(units, units, 1, device=entries.device)
    upper = entries.new_zeros(units, units).index_put((above[0], above[1]), entries)
    return upper - upper.mT


def _antisymmetric_gradient(_: Structure, entries: Tensor, d: Tensor, v: Tensor, precision: str) -> Tensor:
    dense = matmul(d.mT, v, precision)
    above = torch.triu_indices(dense.shape[0], dense.shape[0], 1, device=d.device)
    return (dense - dense.mT)[above[0], above[1]]


def _blocks(structure: Structure, units: int) -> list[tuple[int, int, int]]:
    """(first unit, width, offset in the entries) of each module's block row, which reads from its own module on."""
    width = units // len(structure.periods())
    rows, offset = [], 0
    for first in range(0, units, width):
        rows.append((first, width, offset))
        offset += width * (units - first)
    return rows


def _triangular_product(structure: Structure, entries: Tensor, v: Tensor, precision: str) -> Tensor:
    units = v.shape[-1]
    parts = []
    for first, width, offset in _blocks(structure, units):
        block = entries[offset : offset + width * (units - first)].view(width, units - first)
        parts.append(matmul(v[..., first:], block.mT, precision))
    return torch.cat(parts, -1)


def _triangular_transposed(structure: Structure, entries: Tensor, v: Tensor, precision: str) -> Tensor:
    units = v.shape[-1]
    total = torch.zeros_like(v)
    for first, width, offset in _blocks(structure, units):
        block = entries[offset : offset + width * (units - first)].view(width, units - first)
        part = matmul(v[..., first : first + width], block, precision)
        total = total + torch.nn.functional.pad(part, (first, 0))
    return total


def _triangular_gradient(structure: Structure, entries: Tensor, d: Tensor, v: Tensor, precision: str) -> Tensor:
    units = v.shape[-1]
    return torch.cat(
        [
            matmul(d[:, first : first + width].mT, v[:, first:], precision).flatten()
            for first, width, _ in _blocks(structure, units)
        ]
    )


def _heads(v: Tensor, heads: int) -> Tensor:
    return v.reshape(*v.shape[:-1], heads, v.shape[-1] // heads).transpose(-3, -2)


def _block_product(entries: Tensor, v: Tensor, precision: str) -> Tensor:
    return matmul(_heads(v, entries.shape[0]), entries.mT, precision).transpose(-3, -2).flatten(-2)


def _block_gradient(_: Structure, entries: Tensor, d: Tensor, v: Tensor, precision: str) -> Tensor:
    return matmul(_heads(d, len(entries)).mT, _heads(v, len(entries)), precision)


def _factors(entries: Tensor, out: int) -> tuple[Tensor, Tensor]:
    return entries[:out], entries[out:]


def _low_rank_product(_: Structure, entries: Tensor, v: Tensor, precision: str) -> Tensor:
    left, right = _factors(entries, entries.shape[0] - v.shape[-1])
    return matmul(matmul(v, right, precision), left.mT, precision)


def _low_rank_transposed(_: Structure, entries: Tensor, v: Tensor, precision: str) -> Tensor:
    left, right = _factors(entries, v.shape[-1])
    return matmul(matmul(v, left, precision), right.mT, precision)


def _low_rank_gradient(_: Structure, entries: Tensor, d: Tensor, v: Tensor, precision: str) -> Tensor:
    left, right = _factors(entries, d.shape[-1])
    d_left = matmul(d.mT, matmul(v, right, precision), precision)
    d_right = matmul(v.mT, matmul(d, left, precision), precision)
    return torch.cat([d_left, d_right])


MAPS: dict[str, MapRow] = {
    "dense": MapRow(
        lambda s, e, v, precision: matmul(v, e.mT, precision),
        lambda s, e, v, precision: matmul(v, e, precision),
        lambda s, e, d, v, precision: matmul(d.mT, v, precision),
    ),
    "diagonal": MapRow(
        lambda s, e, v, precision: v * e,
        lambda s, e, v, precision: v * e,
        lambda s, e, d, v, precision: (d * v).sum(0),
    ),
    "block_diagonal": MapRow(
        lambda s, e, v, precision: _block_product(e, v, precision),
        lambda s, e, v, precision: _block_product(e.mT, v, precision),
        _block_gradient,
    ),
    "block_triangular": MapRow(_triangular_product, _triangular_transposed, _triangular_gradient),
    "antisymmetric": MapRow(
        lambda s, e, v, precision: matmul(v, _antisymmetric(e, v.shape[-1]).mT, precision),
        lambda s, e, v, precision: matmul(v, _antisymmetric(e, v.shape[-1]), precision),
        _antisymmetric_gradient,
    ),
    "low_rank": MapRow(_low_rank_product, _low_rank_transposed, _low_rank_gradient),
}


def side(structure: Structure, entries: Tensor) -> int:
    """The units of a square map from its flat entries."""
    if structure.name == "antisymmetric":
        return (1 + math.isqrt(1 + 8 * entries.numel())) // 2
    if structure.name == "block_triangular":
        modules = len(structure.periods())
        return modules * math.isqrt(2 * entries.numel() // (modules * (modules + 1)))
    return entries.numel()


def cut(structure: Structure, full: Tensor) -> Tensor:
    """The free entries of a full square map."""
    units = full.shape[0]
    if structure.name == "antisymmetric":
        above = torch.triu_indices(units, units, 1, device=full.device)
        return full[above[0], above[1]]
    if structure.name == "block_triangular":
        rows = _blocks(structure, units)
        return torch.cat([full[first : first + width, first:].flatten() for first, width, _ in rows])
    return full.diagonal()


def dense_matrix(structure: Structure, entries: Tensor, out: int, into: int) -> Tensor:
    """The whole map, zeros written out: for looking at, never for running."""
    row = MAPS[structure.name]
    return row.product(structure, entries, torch.eye(into, dtype=entries.dtype, device=entries.device), "").mT
