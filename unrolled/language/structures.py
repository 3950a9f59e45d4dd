"""The structures of maps, as @cell(structure={"U.h": diagonal()}) declares them."""

from __future__ import annotations

from collections.abc import Sequence

from unrolled.ir.structure import Structure


def diagonal() -> Structure:
    """One entry a unit: the product is element-wise."""
    return Structure("diagonal")


def block_diagonal(heads: int | str) -> Structure:
    """`heads` blocks of equal size and nothing between them."""
    return Structure("block_diagonal", (heads,))


def block_triangular(periods: Sequence[int] | str) -> Structure:
    """Module i reads only modules of the same or a longer period (Koutnik 2014); periods ascend."""
    return Structure("block_triangular", (periods if isinstance(periods, str) else tuple(periods),))


def antisymmetric() -> Structure:
    """A - transpose(A)."""
    return Structure("antisymmetric")


def low_rank(rank: int | str) -> Structure:
    """A product of two factors of `rank` columns."""
    return Structure("low_rank", (rank,))


STRUCTURE_FUNCTIONS = {
    function.__name__: function for function in (diagonal, block_diagonal, block_triangular, antisymmetric, low_rank)
}
