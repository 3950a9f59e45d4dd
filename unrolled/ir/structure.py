"""The structure of a map: which of its entries are free. Declared by the cell, resolved when sizes are known."""

from __future__ import annotations

from dataclasses import dataclass

from unrolled.errors import ShapeError


@dataclass(frozen=True)
class Structure:
    """A named structure with its integer arguments; an argument may name an integer hyperparameter of the cell.

    diagonal                 one entry a unit; the map is an element-wise product
    block_diagonal(heads)    `heads` square-cut blocks, nothing between them
    block_triangular(periods)  module i of len(periods) equal ones reads the modules of the same or a longer period
                             (Koutnik 2014); periods ascend
    antisymmetric            A - transpose(A): the free entries are those above the diagonal
    low_rank(rank)           a product of two thin factors
    """

    name: str
    arguments: tuple[int | tuple[int, ...] | str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.arguments))})"

    def entries(self, out: int, into: int) -> tuple[int, ...]:
        """The shape in which the free entries of an (out, into) map are stored.

        Raises   ShapeError when the sizes do not allow the structure
        """
        return _ENTRIES[self.name](self, out, into)

    def count(self, out: int, into: int) -> int:
        """The number of free entries."""
        product = 1
        for size in self.entries(out, into):
            product *= size
        return product

    def number(self) -> int:
        """The single integer argument."""
        (argument,) = self.arguments
        assert isinstance(argument, int)
        return argument

    def periods(self) -> tuple[int, ...]:
        """The periods of a block-triangular map."""
        (argument,) = self.arguments
        assert isinstance(argument, tuple)
        return argument


DENSE = Structure("dense")


def _require(condition: bool, structure: Structure, message: str) -> None:
    if not condition:
        raise ShapeError(f"structure {structure}: {message}")


def _dense(_: Structure, out: int, into: int) -> tuple[int, ...]:
    return (out, into)


def _diagonal(structure: Structure, out: int, into: int) -> tuple[int, ...]:
    _require(out == into, structure, f"a diagonal map is square, not {out} x {into}")
    return (out,)


def _block_diagonal(structure: Structure, out: int, into: int) -> tuple[int, ...]:
    heads = structure.number()
    _require(out % heads == 0 and into % heads == 0, structure, f"{heads} blocks do not divide a map of {out} x {into}")
    return (heads, out // heads, into // heads)


def _block_triangular(structure: Structure, out: int, into: int) -> tuple[int, ...]:
    modules = len(structure.periods())
    _require(out == into, structure, f"a block-triangular map is square, not {out} x {into}")
    _require(out % modules == 0, structure, f"{modules} modules do not divide {out} units")
    width = out // modules
    return (width * width * modules * (modules + 1) // 2,)


def _antisymmetric(structure: Structure, out: int, into: int) -> tuple[int, ...]:
    _require(out == into, structure, f"an antisymmetric map is square, not {out} x {into}")
    return (out * (out - 1) // 2,)


def _low_rank(structure: Structure, out: int, into: int) -> tuple[int, ...]:
    rank = structure.number()
    _require(rank <= min(out, into), structure, f"rank {rank} is above that of a map of {out} x {into}")
    return (out + into, rank)


_ENTRIES = {
    "dense": _dense,
    "diagonal": _diagonal,
    "block_diagonal": _block_diagonal,
    "block_triangular": _block_triangular,
    "antisymmetric": _antisymmetric,
    "low_rank": _low_rank,
}
STRUCTURES = tuple(_ENTRIES)


def check_arguments(structure: Structure) -> None:
    """Raise ShapeError unless the resolved arguments make sense whatever the sizes."""
    name, arguments = structure.name, structure.arguments
    if name in ("dense", "diagonal", "antisymmetric"):
        _require(not arguments, structure, "takes no argument")
        return
    _require(len(arguments) == 1, structure, "takes one argument")
    (argument,) = arguments
    if name == "block_triangular":
        _require(
            isinstance(argument, tuple) and len(argument) > 0 and all(type(p) is int and p > 0 for p in argument),
            structure,
            "takes a tuple of periods, positive integers",
        )
        assert isinstance(argument, tuple)
        _require(list(argument) == sorted(set(argument)), structure, "the periods must ascend")
    else:
        _require(type(argument) is int and argument > 0, structure, "takes a positive integer")
