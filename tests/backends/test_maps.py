"""Structured maps are the dense maps that they stand for."""

from __future__ import annotations

import pytest
import torch

from unrolled.backends.maps import MAPS, cut, dense_matrix, matmul, side
from unrolled.ir.structure import STRUCTURES, Structure

CASES = [
    (Structure("dense"), 4, 6),
    (Structure("diagonal"), 6, 6),
    (Structure("block_diagonal", (2,)), 4, 6),
    (Structure("block_diagonal", (3,)), 6, 6),
    (Structure("block_triangular", ((1, 2, 4),)), 6, 6),
    (Structure("block_triangular", ((5,),)), 3, 3),
    (Structure("antisymmetric"), 5, 5),
    (Structure("antisymmetric"), 1, 1),
    (Structure("low_rank", (2,)), 4, 6),
    (Structure("low_rank", (1,)), 1, 1),
]
cases = pytest.mark.parametrize(("structure", "out", "into"), CASES, ids=lambda value: str(value))


def test_every_structure_has_a_row_and_a_case() -> None:
    assert set(MAPS) == set(STRUCTURES) == {structure.name for structure, _, _ in CASES}


def entries_of(structure: Structure, out: int, into: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(structure.entries(out, into), dtype=torch.float64)


@cases
def test_product_transpose_and_gradient_are_those_of_the_dense_map(structure: Structure, out: int, into: int) -> None:
    entries = entries_of(structure, out, into).requires_grad_()
    whole = dense_matrix(structure, entries, out, into)
    assert whole.shape == (out, into)
    row = MAPS[structure.name]
    v = torch.randn(5, 3, into, dtype=torch.float64)
    d = torch.randn(5, 3, out, dtype=torch.float64)
    torch.testing.assert_close(row.product(structure, entries, v, ""), v @ whole.T)
    torch.testing.assert_close(row.transposed(structure, entries, d, ""), d @ whole)
    flat_d, flat_v = d.flatten(0, 1), v.flatten(0, 1)
    got = row.gradient(structure, entries.detach(), flat_d, flat_v, "")
    (expected,) = torch.autograd.grad((whole * (flat_d.T @ flat_v)).sum(), entries)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("structure", "units"), [(s, o) for s, o, i in CASES if s.name in (
    "diagonal", "block_triangular", "antisymmetric")], ids=str)  # fmt: skip
def test_the_free_entries_are_cut_from_a_full_map(structure: Structure, units: int) -> None:
    entries = entries_of(structure, units, units)
    assert structure.name == "antisymmetric" or side(structure, entries) == units
    assert torch.equal(cut(structure, dense_matrix(structure, entries, units, units)), entries)


def test_a_module_reads_modules_of_the_same_or_a_longer_period() -> None:
    structure = Structure("block_triangular", ((1, 2, 4),))
    whole = dense_matrix(structure, entries_of(structure, 6, 6), 6, 6)
    for row in range(6):
        for column in range(6):
            assert bool(whole[row, column] != 0) == (column // 2 >= row // 2)


def test_a_narrow_product_comes_back_in_its_own_type() -> None:
    a, b = torch.randn(2, 3, 3).unbind(0)
    assert matmul(a, b).equal(a @ b)
    narrow = matmul(a, b, "bfloat16")
    assert narrow.dtype == torch.float32
    assert narrow.equal((a.bfloat16() @ b.bfloat16()).float())
