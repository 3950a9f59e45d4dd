"""The run folder: everything that a trained model is. Opening it executes nothing.

config.toml             format, version, task, every option, and what was found: files and their hashes, steps
cell.txt                the equations that were trained, whatever becomes of the file or the name that they came from
model.safetensors       the weights
vocabulary.json         the symbols, in the order of their numbers
metrics.jsonl           what was measured, one event a line
report.html             curves, samples, configuration, to look at
README.md               the model card
checkpoint.safetensors  while a training is not at its end: what `--resume` goes on from
"""

from __future__ import annotations

import errno
import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
CONFIGURATION = "config.toml"
CELL = "cell.txt"
WEIGHTS = "model.safetensors"
VOCABULARY = "vocabulary.json"
METRICS = "metrics.jsonl"
REPORT = "report.html"
CARD = "README.md"


@dataclass(frozen=True)
class RunFolder:
    """What a run folder holds, in memory."""

    config: Mapping[str, Any]
    cell: str
    weights: Mapping[str, Tensor]
    vocabulary: Any
    metrics: Sequence[Mapping[str, Any]]

    def write(self, path: Path, pages: Mapping[str, str] | None = None) -> None:
        """Write the folder; each file is complete or not there.

        pages   further files, by name

        Raises   UnrolledError when it cannot be written, in one line
        """
        weights = {name: tensor.detach().contiguous().cpu() for name, tensor in self.weights.items()}
        contents = {
            CELL: self.cell.encode(),
            WEIGHTS: save(weights),
            VOCABULARY: json.dumps(self.vocabulary, ensure_ascii=False).encode(),
            METRICS: "".join(map(metrics_line, self.metrics)).encode(),
            **{name: page.encode(errors="replace") for name, page in (pages or {}).items()},
            # Last, so that a folder with a configuration is a whole one.
            CONFIGURATION: tomli_w.dumps({"format": FORMAT, **self.config}, multiline_strings=True).encode(),
        }
        for name, content in contents.items():
            replace_file(path / name, content)


def metrics_line(row: Mapping[str, Any]) -> str:
    """A row as every reader of JSON takes it: there is no number in it for what is not finite."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(finite, ensure_ascii=False) + "\n"


@contextmanager
def claimed(path: Path | None) -> Iterator[None]:
    """Make the folder of a new run before any work is done, and take it back, if it is still empty, should that fail.

    Raises   UsageError when something is there already, or the place cannot be written
    """
    if path is None:
        yield
        return
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is there already; nothing is written over: name another folder with --out")
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise UsageError(f"{path} cannot be written: {os.strerror(errno.EACCES)}")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


def read(path: Path) -> RunFolder:
    """Read a run folder.

    Raises   UsageError when it is none, is of a later format, or a file in it is missing or damaged
    """
    try:
        if not path.is_dir():
            raise UsageError(f"there is no folder {path}")
        if not (path / CONFIGURATION).is_file():
            raise UsageError(f"{path} is no run: it has no {CONFIGURATION}")
        config = _decoded(path / CONFIGURATION, lambda content: tomllib.loads(content.decode()))
        written = config.pop("format", None)
        if written != FORMAT:
            raise UsageError(f"{path} has format {written!r}; this version of unrolled reads format {FORMAT}")
        return RunFolder(
            config,
            _decoded(path / CELL, bytes.decode),
            _decoded(path / WEIGHTS, load),
            _decoded(path / VOCABULARY, json.loads),
            _decoded(path / METRICS, _rows),
        )
    except FileNotFoundError as error:
        raise UsageError(f"{path} is no whole run: it has no {Path(error.filename).name}") from None
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None


def _decoded(path: Path, decode: Callable[[bytes], T]) -> T:
    content = path.read_bytes()
    try:
        return decode(content)
    # What is nested too deeply ends in a RecursionError.
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {str(error).splitlines()[0]}") from None


def _rows(content: bytes) -> list[Any]:
    """The rows of the metrics, but for a last one that a killed process left unfinished."""
    whole = content[: content.rfind(b"\n") + 1].decode()
    rows = [json.loads(line) for line in whole.split("\n") if line]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a row is no object of JSON")
    return rows


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there, so that no half of it is ever seen.

    Raises   UnrolledError when it cannot be written
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            _keep_name(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UnrolledError(f"{path} cannot be written: {error.strerror or error}") from error


def _keep_name(folder: Path) -> None:
    """Have the new name of a file outlive a power cut, where folders can be opened for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
