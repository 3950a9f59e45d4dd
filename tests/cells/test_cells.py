from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import unrolled.cells
from tests.ir.numeric import random_leaves, results_of
from unrolled.cells import all_cells, get
from unrolled.errors import UsageError
from unrolled.language import Cell

CELLS = all_cells()
FILES = sorted(file for file in Path(unrolled.cells.__file__).parent.glob("*.py") if file.stem != "__init__")


def test_every_file_of_cells_is_found_by_being_there():
    modules = [module.name for module in pkgutil.iter_modules(unrolled.cells.__path__)]
    assert modules == [file.stem for file in FILES]
    for module in modules:
        loaded = importlib.import_module(f"unrolled.cells.{module}")
        own = [value for value in vars(loaded).values() if isinstance(value, Cell)]
        assert own, f"{module} has no cell"
        assert all(CELLS[value.name] is value for value in own)


def test_names_are_in_order_and_have_hyphens():
    assert list(CELLS) == sorted(CELLS)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in CELLS)


def test_the_cells_that_everyone_knows_are_there():
    assert {"elman", "gru", "gru-cho", "lstm", "mgu", "peephole-lstm", "simple-gru"} <= set(CELLS)


@pytest.mark.parametrize("name", ["gru-cho", "gru_cho"])
def test_a_cell_is_got_by_name_with_hyphen_or_underscore(name):
    assert get(name) is CELLS["gru-cho"]


def test_an_unknown_cell_names_the_nearest():
    with pytest.raises(UsageError, match=r"there is no cell 'lstmm'\. Did you mean lstm\?"):
        get("lstmm")


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_a_source_and_words(name):
    assert re.search(r"\d{4}|lecture", CELLS[name].source)
    assert CELLS[name].program.doc.endswith(".")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_of_cells_imports_the_language_and_nothing_else(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Import)
        if isinstance(node, ast.ImportFrom):
            assert node.module == "unrolled.language"
    cells = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 20 + 30 * len(cells)


def test_cells_load_without_a_numerical_library():
    code = (
        "import sys, unrolled.cells; unrolled.cells.all_cells(); "
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _net(leaves, gate, h):
    return leaves[f"W.{gate}"] @ leaves["sequence x"] + leaves[f"U.{gate}"] @ h + leaves[f"b.{gate}"]


@pytest.mark.parametrize("name", ["elman", "elman-relu"])
def test_elman_is_the_equation_of_the_paper(name):
    leaves = random_leaves(CELLS[name].program)
    net = _net(leaves, "h", leaves["state h"])
    expected = np.tanh(net) if name == "elman" else np.maximum(net, 0)
    np.testing.assert_allclose(results_of(CELLS[name].program, leaves)[0], expected)


@pytest.mark.parametrize("name", ["lstm", "peephole-lstm"])
def test_the_lstm_is_the_equations_of_the_paper(name):
    leaves = random_leaves(CELLS[name].program)
    h, c = leaves["state h"], leaves["state c"]
    peep = {gate: leaves.get(f"p.{gate}", 0.0) for gate in "ifo"}
    i = _sigmoid(_net(leaves, "i", h) + peep["i"] * c)
    f = _sigmoid(_net(leaves, "f", h) + peep["f"] * c)
    new = f * c + i * np.tanh(_net(leaves, "g", h))
    o = _sigmoid(_net(leaves, "o", h) + peep["o"] * new)
    got = results_of(CELLS[name].program, leaves)
    np.testing.assert_allclose(got[0], o * np.tanh(new))
    np.testing.assert_allclose(got[1], new)


def test_the_forget_bias_begins_at_one():
    assert CELLS["lstm"].program.init == {"b.f": 1.0}


def test_cho_s_gru_resets_before_the_product_and_torch_s_after_it():
    leaves = random_leaves(CELLS["gru"].program) | random_leaves(CELLS["gru-cho"].program)
    h = leaves["state h"]
    r, z = _sigmoid(_net(leaves, "r", h)), _sigmoid(_net(leaves, "z", h))
    before = np.tanh(_net(leaves, "g", r * h))
    from_input = leaves["W.g"] @ leaves["sequence x"] + leaves["b.g"]
    after = np.tanh(from_input + r * (leaves["U.g"] @ h + leaves["b.u"]))
    np.testing.assert_allclose(results_of(CELLS["gru-cho"].program, leaves)[0], z * h + (1 - z) * before)
    np.testing.assert_allclose(results_of(CELLS["gru"].program, leaves)[0], z * h + (1 - z) * after)


def test_the_minimal_gated_unit_has_one_gate_for_both_jobs():
    leaves = random_leaves(CELLS["mgu"].program)
    h = leaves["state h"]
    f = _sigmoid(_net(leaves, "f", h))
    expected = (1 - f) * h + f * np.tanh(_net(leaves, "g", f * h))
    np.testing.assert_allclose(results_of(CELLS["mgu"].program, leaves)[0], expected)


def test_the_lecture_s_first_gru_takes_the_candidate_where_its_gate_is_open():
    leaves = random_leaves(CELLS["simple-gru"].program)
    h = leaves["state h"]
    z = _sigmoid(_net(leaves, "z", h))
    expected = z * np.tanh(_net(leaves, "g", h)) + (1 - z) * h
    np.testing.assert_allclose(results_of(CELLS["simple-gru"].program, leaves)[0], expected)
