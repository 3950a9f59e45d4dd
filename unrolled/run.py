"""The run folder: everything that a trained model is. Opening it executes nothing.

config.toml        format, task, version, every option
cell.txt           the equations that were trained, whatever becomes of the file or the name that they came from
model.safetensors  the weights
vocabulary.json    the symbols, in the order of their numbers
metrics.jsonl      what was measured, one event a line
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unrolled.errors import UnrolledError, UsageError

FORMAT = 1
_FILES = {"config": "config.toml", "cell": "cell.txt", "weights": "model.safetensors", "symbols": "vocabulary.json"}
_METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class RunFolder:
    """What a run folder holds, in memory."""

    config: Mapping[str, Any]
    cell: str
    weights: Mapping[str, Tensor]
    symbols: Sequence[str]
    metrics: Sequence[Mapping[str, Any]]

    def write(self, path: Path) -> None:
        """Write the folder; each file is complete or not there.

        Raises   UnrolledError when it cannot be written, in one line
        """
        weights = {name: tensor.detach().contiguous().cpu() for name, tensor in self.weights.items()}
        contents = {
            _FILES["cell"]: self.cell.encode(),
            _FILES["weights"]: save(weights),
            _FILES["symbols"]: json.dumps(list(self.symbols), ensure_ascii=False).encode(),
            _METRICS: "".join(json.dumps(row) + "\n" for row in self.metrics).encode(),
            # Last, so that a folder with a configuration is a whole one.
            _FILES["config"]: tomli_w.dumps({"format": FORMAT, **self.config}).encode(),
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name, content in contents.items():
                _replace(path / name, content)
        except OSError as error:
            raise UnrolledError(f"the run cannot be written to {path}: {error.strerror or error}") from error


def claim(path: Path) -> None:
    """Check, before any work is done, that a new run may be written there.

    Raises   UsageError when something is there already, or the place cannot be written
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is there already; nothing is written over: name another folder with --out")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def read(path: Path) -> RunFolder:
    """Read a run folder.

    Raises   UsageError when it is none, is of a later format, or a file in it is missing or damaged
    """
    if not (path / _FILES["config"]).is_file():
        raise UsageError(f"{path} is no run: it has no {_FILES['config']}")
    try:
        config = tomllib.loads((path / _FILES["config"]).read_text(encoding="utf-8"))
        if config.pop("format", None) != FORMAT:
            raise UsageError(f"{path} has a format that this version does not know; a later version wrote it")
        lines = (path / _METRICS).read_text(encoding="utf-8").splitlines()
        return RunFolder(
            config,
            (path / _FILES["cell"]).read_text(encoding="utf-8"),
            load((path / _FILES["weights"]).read_bytes()),
            json.loads((path / _FILES["symbols"]).read_text(encoding="utf-8")),
            [json.loads(line) for line in lines],
        )
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    except (SafetensorError, ValueError) as error:
        raise UsageError(f"a file of the run {path} is damaged: {str(error).splitlines()[0]}") from None


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that no half of it is ever seen."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
