"""The numbers of large texts on the disk: encoded once, then read from where they lie."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.data.files import CHUNK
from unrolled.data.numbering import Numbering
from unrolled.errors import UnrolledError

# What the file is; how many numbers and starts it has, and how many unknown symbols; the checksum of what follows.
_HEADER = struct.Struct("<8sQQQL")
_KIND = b"stream 1"
_OFFSET = 64


@dataclass(frozen=True)
class Stored:
    """What lies in a file."""

    path: Path
    numbers: NDArray[Any]
    starts: NDArray[np.int64]
    unknown: int


def stored(numbering: Numbering, folder: Path) -> Stored:
    """The numbers as a file of the folder holds them, which is written if it is not there or not whole.

    Raises   UnrolledError, in one line, when it cannot be written
    """
    path = folder / f"{numbering.key()}.stream"
    found = _read(path, numbering.dtype)
    if found is None:
        try:
            _write(path, numbering)
        except OSError as error:
            raise UnrolledError(
                f"the encoded text cannot be written to {folder}: {error.strerror or error}; the environment variable "
                "UNROLLED_CACHE names another place"
            ) from error
        found = _read(path, numbering.dtype)
    if found is None:
        raise UnrolledError(f"{path} was written and is not whole: the disk may be full or damaged")
    return found


def _read(path: Path, dtype: np.dtype[Any]) -> Stored | None:
    """What a file holds; None if it is not there or not whole."""
    try:
        with path.open("rb") as file:
            kind, count, starts, unknown, checksum = _HEADER.unpack(file.read(_HEADER.size))
            places = _OFFSET + count * dtype.itemsize
            if kind != _KIND or not count or os.fstat(file.fileno()).st_size != places + 8 * starts:
                return None
            file.seek(_OFFSET)
            found = 0
            while chunk := file.read(CHUNK):
                found = zlib.crc32(chunk, found)
            if found != checksum:
                return None
            file.seek(places)
            begins = np.frombuffer(file.read(), np.int64)
            return Stored(path, np.memmap(file, dtype, "r", _OFFSET, (count,)), begins, unknown)
    except (OSError, struct.error):
        return None


def _write(path: Path, numbering: Numbering) -> None:
    """Write a file beside its place and move it there: it is whole or not there, however many write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(bytes(_OFFSET))
            count = checksum = 0
            for numbers in numbering:
                content = numbers.tobytes()
                count, checksum = count + len(numbers), zlib.crc32(content, checksum)
                file.write(content)
            starts = numbering.starts.tobytes()
            file.write(starts)
            file.seek(0)
            checksum = zlib.crc32(starts, checksum)
            file.write(_HEADER.pack(_KIND, count, len(numbering.starts), numbering.unknown, checksum))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)
