"""Images read as sequences, and the files of MNIST that hold them."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.errors import ShapeError, UsageError

# What the third byte of an idx file says of its numbers, which are big-endian.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> NDArray[Any]:
    """The array of an idx file, the format of MNIST's images and labels, compressed by gzip or not.

    Raises   UsageError, in one line, for a file that cannot be read, is no idx file, or holds more or less than it says
    """
    data = _bytes_of(path)
    zero, kind, axes = struct.unpack(">HBB", data[:4]) if len(data) >= 4 else (1, 0, 0)
    if zero or kind not in _TYPES:
        raise UsageError(
            f"{path} is no idx file: it begins with {data[:4].hex(' ') or 'nothing'}, not 00 00 08 and so on"
        )
    begin = 4 + 4 * axes
    if len(data) < begin:
        raise UsageError(f"{path} ends within the sizes of its {axes} axes: copy it anew")
    shape = struct.unpack(f">{axes}I", data[4:begin])
    dtype = np.dtype(_TYPES[kind])
    expected = begin + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise UsageError(f"{path} has {len(data):,} bytes; an array {shape} needs {expected:,}: copy it anew")
    return np.frombuffer(data, dtype, offset=begin).reshape(shape).astype(dtype.newbyteorder("="))


def rows(images: NDArray[Any] | Tensor) -> Tensor:
    """Images row by row, from the top.

    Shapes   (batch, height, width) or (batch, height, width, channels) to (height, batch, width · channels)
    Units    as `pixels`
    """
    scaled = _scaled(images)
    return scaled.flatten(2).transpose(0, 1).contiguous()


def pixels(images: NDArray[Any] | Tensor) -> Tensor:
    """Images pixel by pixel, row after row from the top left.

    Shapes   (batch, height, width) or (batch, height, width, channels) to (height · width, batch, channels)
    Units    bytes, uint8, become float32 from 0 to 1; all other numbers only become float32
    """
    return _scaled(images).flatten(1, 2).transpose(0, 1).contiguous()


def patches(images: NDArray[Any] | Tensor, height: int, width: int) -> Tensor:
    """Images patch by patch, row of patches after row from the top left; within a patch as `pixels`.

    Shapes   (batch, height, width) or (batch, height, width, channels) to (patches, batch, features of a patch)
    Units    as `pixels`
    Raises   ShapeError unless the patches fill the image
    """
    scaled = _scaled(images)
    batch, high, wide, channels = scaled.shape
    if height < 1 or width < 1 or high % height or wide % width:
        raise ShapeError(f"patches of {height} x {width} do not fill images of {high} x {wide}: give sizes that do")
    cut = scaled.reshape(batch, high // height, height, wide // width, width, channels)
    return cut.permute(1, 3, 0, 2, 4, 5).reshape((high // height) * (wide // width), batch, height * width * channels)


def permuted(x: Tensor, seed: int) -> Tensor:
    """The same steps in another order, one for all rows and always the same for a seed: permuted pixels.

    Shapes   (time, batch, feature) in and out
    Source   Le, Jaitly & Hinton 2015
    """
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]


def _scaled(images: NDArray[Any] | Tensor) -> Tensor:
    """Images as float32, with an axis for their channels."""
    found = torch.as_tensor(images)
    if found.dim() not in (3, 4):
        raise ShapeError(
            f"images is {tuple(found.shape)}; expected (batch, height, width) or with channels as a fourth"
        )
    found = found[..., None] if found.dim() == 3 else found
    return found.to(torch.float32) / 255 if found.dtype == torch.uint8 else found.to(torch.float32)


def _bytes_of(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path} cannot be decompressed: {error}: copy it anew") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
