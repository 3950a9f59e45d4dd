"""The run folder: everything that a trained model is. Opening it executes nothing.

config.toml        format, task, version, every option
cell.txt           the equations that were trained, whatever becomes of the file or the name that they came from
model.safetensors  the weights
vocabulary.json    the symbols, in the order of their numbers
metrics.jsonl      what was measured, one event a line
"""

from __future__ import annotations

import errno
import json
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from unrolled.errors import UnrolledError, UsageError

T = TypeVar("T")
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
            _METRICS: "".join(json.dumps(_plain(row)) + "\n" for row in self.metrics).encode(),
            # Last, so that a folder with a configuration is a whole one.
            _FILES["config"]: tomli_w.dumps({"format": FORMAT, **self.config}).encode(),
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name, content in contents.items():
                _replace(path / name, content)
        except OSError as error:
            raise UnrolledError(f"the run cannot be written to {path}: {error.strerror or error}") from error


def claim(path: Path) -> list[Path]:
    """Make the folder of a new run, before any work is done; returns the folders made, the deepest first.

    Raises   UsageError when something is there already, or the place cannot be written
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is there already; nothing is written over: name another folder with --out")
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise UsageError(f"{path} cannot be written: {os.strerror(errno.EACCES)}")
        return missing
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def release(made: Sequence[Path]) -> None:
    """Take back the folders that `claim` made, but for those that something was put into."""
    with suppress(OSError):
        for folder in made:
            folder.rmdir()


def read(path: Path) -> RunFolder:
    """Read a run folder.

    Raises   UsageError when it is none, is of a later format, or a file in it is missing or damaged
    """
    try:
        if not path.is_dir():
            raise UsageError(f"there is no folder {path}")
        if not (path / _FILES["config"]).is_file():
            raise UsageError(f"{path} is no run: it has no {_FILES['config']}")
        config = _decoded(path / _FILES["config"], lambda content: tomllib.loads(content.decode()))
        written = config.pop("format", None)
        if written != FORMAT:
            raise UsageError(f"{path} has format {written!r}; this version of unrolled reads format {FORMAT}")
        return RunFolder(
            config,
            _decoded(path / _FILES["cell"], bytes.decode),
            _decoded(path / _FILES["weights"], load),
            _decoded(path / _FILES["symbols"], _symbols),
            _decoded(path / _METRICS, lambda content: [json.loads(line) for line in content.decode().splitlines()]),
        )
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def _decoded(path: Path, decode: Callable[[bytes], T]) -> T:
    content = path.read_bytes()
    try:
        return decode(content)
    # What is nested too deeply ends in a RecursionError.
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {str(error).splitlines()[0]}") from None


def _symbols(content: bytes) -> list[str]:
    symbols = json.loads(content)
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) and symbol for symbol in symbols):
        raise ValueError("it must be a list of texts")
    if not symbols or len(set(symbols)) < len(symbols):
        raise ValueError("it is empty" if not symbols else "a symbol stands in it twice")
    return symbols


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row that every reader of JSON takes: there is no number in it for what is not finite."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


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
