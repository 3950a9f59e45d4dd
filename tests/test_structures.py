"""The structures by name are what the layers have, and no cells."""

import re

import pytest

import unrolled.layers
from unrolled.cells import all_cells
from unrolled.errors import UsageError
from unrolled.layers import Recurrent
from unrolled.options import LanguageModelOptions
from unrolled.structures import STRUCTURES


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_is_in_the_layers_and_is_no_cell(name: str) -> None:
    structure = STRUCTURES[name]
    assert structure.home in unrolled.layers.__all__
    assert name not in all_cells()
    assert structure.sentence.endswith(".")
    assert re.search(r"\d{4}", structure.source)


@pytest.mark.parametrize("name", STRUCTURES)
def test_asked_for_as_a_cell_a_structure_says_how_it_is_written(name: str) -> None:
    with pytest.raises(UsageError, match="is no cell but a structure") as caught:
        Recurrent(name, 3, 4)
    assert STRUCTURES[name].use in str(caught.value)


def test_what_the_uses_of_structures_say_runs() -> None:
    names = vars(unrolled.layers)
    for name, structure in STRUCTURES.items():
        code = re.search(r"(?<![a-z])[A-Za-z_]+\(.*\)", structure.use)
        assert code is not None, name
        assert isinstance(eval(code[0].split(");")[0] + (")" if ");" in code[0] else ""), dict(names)), object)


def test_flags_that_the_uses_name_are_options() -> None:
    for structure in STRUCTURES.values():
        for flag, value in re.findall(r"--([a-z]+)(?: ([a-z-]+))?", structure.use):
            assert hasattr(LanguageModelOptions, flag)
            if flag == "cell":
                assert value in all_cells()
