from __future__ import annotations

import json

import pytest

from unrolled.cells import all_cells
from unrolled.cli import main
from unrolled.structures import STRUCTURES


def test_cells_are_listed_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cells", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = printed["cells"]
    assert [row["name"] for row in rows] == list(all_cells())
    assert rows[[row["name"] for row in rows].index("lstm")]["states"] == ["h", "c"]
    assert main(["cells"]) == 0
    table = capsys.readouterr().out
    assert all(f"{row['name']} " in table and row["parameters"] in table for row in rows)
    assert [row["name"] for row in printed["structures"]] == list(STRUCTURES)
    assert all(f"{name} " in table and structure.use in table for name, structure in STRUCTURES.items())
