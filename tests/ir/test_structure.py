from __future__ import annotations

import pytest

from unrolled.errors import ShapeError
from unrolled.ir.structure import DENSE, STRUCTURES, Structure, check_arguments
from unrolled.language.structures import STRUCTURE_FUNCTIONS


def test_the_language_can_write_every_structure_but_the_plain_one():
    assert set(STRUCTURE_FUNCTIONS) == set(STRUCTURES) - {"dense"}


@pytest.mark.parametrize(
    ("structure", "out", "into", "entries"),
    [
        (DENSE, 6, 4, (6, 4)),
        (Structure("diagonal"), 6, 6, (6,)),
        (Structure("block_diagonal", (2,)), 6, 4, (2, 3, 2)),
        (Structure("block_triangular", ((1, 2, 4),)), 6, 6, (24,)),
        (Structure("antisymmetric"), 6, 6, (15,)),
        (Structure("low_rank", (2,)), 6, 4, (10, 2)),
    ],
    ids=str,
)
def test_a_structure_stores_its_free_entries_only(structure, out, into, entries):
    assert structure.entries(out, into) == entries
    count = 1
    for size in entries:
        count *= size
    assert structure.count(out, into) == count


@pytest.mark.parametrize(
    ("structure", "out", "into", "message"),
    [
        (Structure("diagonal"), 6, 4, "square"),
        (Structure("antisymmetric"), 6, 4, "square"),
        (Structure("block_triangular", ((1, 2),)), 6, 4, "square"),
        (Structure("block_triangular", ((1, 2, 4, 8),)), 6, 6, "4 modules do not divide 6 units"),
        (Structure("block_diagonal", (4,)), 6, 6, "4 blocks do not divide"),
        (Structure("block_diagonal", (3,)), 6, 4, "3 blocks do not divide"),
        (Structure("low_rank", (5,)), 6, 4, "rank 5 is above"),
    ],
    ids=str,
)
def test_a_structure_refuses_sizes_that_do_not_allow_it(structure, out, into, message):
    with pytest.raises(ShapeError, match=message):
        structure.entries(out, into)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (Structure("diagonal", (2,)), "takes no argument"),
        (Structure("antisymmetric", (2,)), "takes no argument"),
        (Structure("block_diagonal"), "takes one argument"),
        (Structure("block_diagonal", (0,)), "takes a positive integer"),
        (Structure("block_diagonal", ("heads",)), "takes a positive integer"),
        (Structure("low_rank", (-1,)), "takes a positive integer"),
        (Structure("low_rank", (2, 3)), "takes one argument"),
        (Structure("block_triangular", (4,)), "tuple of periods"),
        (Structure("block_triangular", ((),)), "tuple of periods"),
        (Structure("block_triangular", ((1, 0),)), "tuple of periods"),
        (Structure("block_triangular", ((2, 1),)), "must ascend"),
        (Structure("block_triangular", ((1, 1),)), "must ascend"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused_before_any_size_is_known(structure, message):
    with pytest.raises(ShapeError, match=message):
        check_arguments(structure)


@pytest.mark.parametrize(
    "structure",
    [
        DENSE,
        Structure("diagonal"),
        Structure("block_diagonal", (2,)),
        Structure("block_triangular", ((1, 2),)),
        Structure("low_rank", (3,)),
    ],
    ids=str,
)
def test_arguments_that_make_sense_are_accepted(structure):
    check_arguments(structure)
