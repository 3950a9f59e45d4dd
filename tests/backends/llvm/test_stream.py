"""A stream needs no torch, its file executes nothing, and its constants are those of the reference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("llvmlite")

from unrolled.backends import maps, operations
from unrolled.backends.llvm import constants
from unrolled.backends.llvm.machine import unavailable
from unrolled.backends.llvm.stream import load_stream
from unrolled.errors import UnrolledError, UsageError
from unrolled.ir.graph import Graph
from unrolled.ir.ops import OPERATIONS as ROWS
from unrolled.ir.structure import Structure
from unrolled.layers import Recurrent

if unavailable():
    pytest.skip(unavailable(), allow_module_level=True)

pytestmark = pytest.mark.timeout(120, method="thread")

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import pickle
import numpy as np
from unrolled.backends.llvm.stream import load_stream
x = np.load("x.npy")
with open("stream.pickle", "rb") as file:
    pickled = pickle.load(file)
loaded = load_stream("stream.safetensors")
np.save("y.npy", [loaded.step(x).copy(), pickled.step(x).copy(), loaded.step(2).copy()])
"""


def test_a_stream_steps_in_a_process_that_cannot_import_torch(tmp_path: Path) -> None:
    import pickle

    layer = Recurrent("lstm", 5, 19)
    x = torch.randn(2, 5)
    x[1] = torch.eye(5)[2]
    y, _ = layer(x[:, None])
    stream = layer.stream()
    stream.save(tmp_path / "stream.safetensors")
    (tmp_path / "stream.pickle").write_bytes(pickle.dumps(stream))
    np.save(tmp_path / "x.npy", x[0].numpy())
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=tmp_path, check=True)
    first, second, third = np.load(tmp_path / "y.npy")
    assert np.array_equal(first, second)
    for got, expected in ((first, y[0, 0]), (third, y[1, 0])):
        assert np.allclose(got, expected.detach().numpy(), rtol=2e-6, atol=2e-7)


def test_numpy_multiplies_by_every_structure_as_the_reference_does() -> None:
    structures = {
        "dense": Structure("dense"),
        "diagonal": Structure("diagonal"),
        "block_diagonal": Structure("block_diagonal", (2,)),
        "block_triangular": Structure("block_triangular", ((1, 2, 4),)),
        "antisymmetric": Structure("antisymmetric"),
        "low_rank": Structure("low_rank", (2,)),
    }
    assert set(structures) == set(maps.MAPS) == set(constants.DENSE_MAPS)
    for name, structure in structures.items():
        entries = torch.randn(*structure.entries(6, 6), dtype=torch.float64)
        expected = maps.dense_matrix(structure, entries, 6, 6).numpy()
        assert np.allclose(constants.DENSE_MAPS[name](structure, entries.numpy(), 6, 6), expected, atol=1e-14)


@pytest.mark.parametrize("name", sorted(operations.OPERATIONS))
def test_numpy_computes_every_operation_as_the_reference_does(name: str) -> None:
    graph, sizes = Graph(), {"hidden": 6, "short": 3}
    axes = {"repeat": "short", "spread": None}
    attributes: dict[str, Any] = {"epsilon": 1e-5} if name in ("layer_norm", "inverse_deviation") else {}
    if name in ("spread", "repeat", "raw", "fold"):
        attributes["axis"] = "short" if name == "fold" else "hidden"
    axis = axes.get(name, "hidden")
    shape = () if axis is None else (axis,)
    arity = ROWS[name].arity
    leaves = [graph.leaf("scalar", f"a{index}", shape) for index in range(arity)]
    node = graph.add(name, *leaves, **attributes)
    values = [torch.rand(tuple(sizes[axis] for axis in shape), dtype=torch.float64) + 0.1 for _ in leaves]
    expected = operations.OPERATIONS[name](node, sizes)(*values).numpy()
    got = np.asarray(constants.OPERATIONS[name](node, sizes, *(value.numpy() for value in values)), dtype=np.float64)
    assert np.allclose(got.reshape(expected.shape), expected, rtol=1e-13)


def test_every_operation_and_structure_has_its_row_in_numpy() -> None:
    assert set(constants.OPERATIONS) == set(operations.OPERATIONS)


def altered(content: bytes, change: Any) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    fields = json.loads(header["__metadata__"]["unrolled stream"])
    change(fields)
    header["__metadata__"]["unrolled stream"] = json.dumps(fields)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def larger(fields: Any) -> None:
    fields["layers"][0]["sizes"]["hidden"] = 400


def unknown(fields: Any) -> None:
    fields["layers"][0]["plan"] = fields["layers"][0]["plan"].replace("sigmoid", "system")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (larger, "damaged"),
        (unknown, "damaged"),
        (lambda fields: fields.update(format=2), "format 2"),
        (lambda fields: fields.update(batch=10**12), "damaged"),
        (lambda fields: fields.update(batch="1"), "damaged"),
        (lambda fields: fields.update(layers=[]), "damaged"),
        (lambda fields: fields["layers"].append(fields["layers"][0]), "damaged"),
        (lambda fields: fields["layers"][0].pop("sizes"), "damaged"),
        (lambda fields: fields["layers"][0].update(precision="float8"), "there is no precision 'float8' of float32"),
    ],
    ids=[
        "sizes",
        "operation",
        "format",
        "huge-batch",
        "text-batch",
        "no-layers",
        "a-layer-twice",
        "no-sizes",
        "precision",
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "a.safetensors"
    Recurrent("lstm", 3, 4).stream().save(path)
    path.write_bytes(altered(path.read_bytes(), change))
    with pytest.raises(UsageError, match=words):
        load_stream(path)


def test_a_file_of_earlier_has_no_precision_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    stream = Recurrent("lstm", 3, 4).stream()
    stream.save(path)
    path.write_bytes(altered(path.read_bytes(), lambda fields: fields["layers"][0].pop("precision")))
    x = np.ones(3, np.float32)
    assert np.array_equal(load_stream(path).step(x), stream.step(x))


def test_other_files_and_places_are_refused_in_words(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(UsageError, match="holds no stream"):
        load_stream(path)
    path.write_bytes(b"not one")
    with pytest.raises(UsageError, match="damaged"):
        load_stream(path)
    with pytest.raises(UsageError, match="No such file"):
        load_stream(tmp_path / "nothing")
    with pytest.raises(UnrolledError, match="cannot be written"):
        Recurrent("lstm", 3, 4).stream().save(tmp_path / "no folder" / "a")
