"""Every example runs, is short, and shows what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ALL = sorted(EXAMPLES.glob("*.py"))


def shown(name: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_an_example_has_at_most_60_lines_and_says_what_it_shows(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith('"""')


def test_every_example_is_run_by_a_test() -> None:
    tested = set(re.findall(r'shown\("([a-z_]+\.py)"\)', Path(__file__).read_text(encoding="utf-8")))
    assert tested == {path.name for path in ALL}


def test_a_cell_of_ones_own_learns_to_add() -> None:
    errors = [float(found) for found in re.findall(r"error ([0-9.]+)", shown("own_cell.py"))]
    assert len(errors) == 3
    assert errors[-1] < 0.05


def test_a_script_of_torch_nn_learns_and_its_weights_go_back() -> None:
    out = shown("torch_nn.py")
    right, difference = re.search(r"(\d+)% of", out), re.search(r"at most (\S+)", out)
    assert right is not None
    assert difference is not None
    assert int(right[1]) >= 85
    assert float(difference[1]) < 1e-5


def test_taps_show_every_gate_at_every_step() -> None:
    rows = shown("gates.py").splitlines()
    assert [row.split()[0] for row in rows] == ["input", *(f"{gate}[{unit}]" for gate in "rz" for unit in range(4))]


def test_the_gradient_of_an_lstm_with_an_open_forget_gate_reaches_farthest() -> None:
    *_, elman, closed, opened = (float(row.split()[-1]) for row in shown("gradient_by_distance.py").splitlines()[2:])
    assert opened > 100 * max(elman, closed)


def test_a_stream_steps_as_the_layer_runs_and_goes_on_without_torch() -> None:
    out = shown("streaming.py").splitlines()
    assert float(out[0].split()[-1]) < 1e-5
    here, (there, loaded) = out[3].split(":")[1].strip(), out[4].split(":")[1].strip().rsplit(" ", 1)
    assert here == there
    assert loaded == "False"
