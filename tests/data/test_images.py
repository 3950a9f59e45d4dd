"""Images keep their values, in the order that is said; idx files are read, or refused in one line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from unrolled.data.images import patches, permuted, pixels, read_idx, rows
from unrolled.errors import ShapeError, UsageError

IMAGES = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6)


def values(x: torch.Tensor) -> np.ndarray:
    assert x.dtype == torch.float32
    return np.rint(255 * x.numpy()).astype(np.uint8)


def test_rows_go_from_the_top() -> None:
    found = values(rows(IMAGES))
    assert found.shape == (4, 2, 6)
    for row in range(4):
        assert (found[row] == IMAGES[:, row]).all()


def test_pixels_go_row_after_row() -> None:
    found = values(pixels(IMAGES))
    assert found.shape == (24, 2, 1)
    np.testing.assert_array_equal(found[:, :, 0].T, IMAGES.reshape(2, -1))


def test_patches_go_row_of_patches_after_row_and_hold_their_pixels_likewise() -> None:
    found = values(patches(IMAGES, 2, 3))
    assert found.shape == (4, 2, 6)
    corners = [(0, 0), (0, 3), (2, 0), (2, 3)]
    for step, (top, left) in enumerate(corners):
        assert (found[step] == IMAGES[:, top : top + 2, left : left + 3].reshape(2, -1)).all()
    assert torch.equal(patches(IMAGES, 1, 6), rows(IMAGES))
    assert torch.equal(patches(IMAGES, 1, 1), pixels(IMAGES))
    assert patches(IMAGES[:0], 2, 3).shape == (4, 0, 6)


def test_channels_stay_with_their_pixel() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    assert (values(rows(colours)) == colours.transpose(1, 0, 2, 3).reshape(4, 2, 18)).all()
    assert (values(pixels(colours)) == colours.reshape(2, 24, 3).transpose(1, 0, 2)).all()
    assert (values(patches(colours, 4, 2))[1] == colours[:, :, 2:4].reshape(2, -1)).all()


def test_only_whole_numbers_of_a_byte_are_scaled() -> None:
    assert float(pixels(np.full((1, 1, 1), 255, np.uint8))) == 1.0
    assert float(pixels(np.full((1, 1, 1), 0.25))) == 0.25
    assert torch.equal(rows(torch.ones(2, 3, 4)), torch.ones(3, 2, 4))


def test_a_permutation_is_one_for_all_rows_and_the_same_for_a_seed() -> None:
    x = pixels(IMAGES)
    once, again, other = permuted(x, 1), permuted(x, 1), permuted(x, 2)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    order = [int(np.flatnonzero(IMAGES[0].ravel() == value)[0]) for value in values(once)[:, 0, 0]]
    assert sorted(order) == list(range(24))
    assert torch.equal(once, x[order])


def test_what_is_no_image_is_refused_in_words() -> None:
    with pytest.raises(ShapeError, match=r"patches of 3 x 3 do not fill images of 4 x 6"):
        patches(IMAGES, 3, 3)
    with pytest.raises(ShapeError, match=r"images is \(4, 6\); expected \(batch, height, width\)"):
        rows(IMAGES[0])


def idx(array: np.ndarray, kind: int) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_an_idx_file_is_read_as_it_was_written(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "images"
    for array, kind in ((IMAGES, 0x08), (IMAGES.astype(">i4"), 0x0C), ((IMAGES[0, 0] / 7).astype(">f8"), 0x0E)):
        data = idx(array, kind)
        path.write_bytes(gzip.compress(data) if compressed else data)
        found = read_idx(path)
        assert found.dtype == array.dtype.newbyteorder("=")
        assert (found == array).all()


WHOLE = idx(IMAGES, 0x08)
SPOILED = {
    "empty": (b"", "is no idx file: it begins with nothing"),
    "text": (b"hello", "is no idx file: it begins with 68 65 6c 6c, not 00 00 08"),
    "type": (b"\0\0\x07\x01" + WHOLE[4:], "is no idx file: it begins with 00 00 07 01"),
    "sizes": (WHOLE[:9], "ends within the sizes of its 3 axes"),
    "short": (WHOLE[:-1], r"has 63 bytes; an array \(2, 4, 6\) needs 64: copy it anew"),
    "long": (WHOLE + b"\0", r"has 65 bytes; an array \(2, 4, 6\) needs 64"),
    "huge": (b"\0\0\x08\x02" + b"\xff" * 8, "has 12 bytes; an array .* needs 18,446,744,065,119,617,037"),
    "cut": (gzip.compress(WHOLE)[:-12], "cannot be decompressed"),
    "damaged": (gzip.compress(WHOLE)[:10] + b"\xff" * 30, "cannot be decompressed"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_file_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    data, words = SPOILED[what]
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*images"):
        read_idx(tmp_path / "images")
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory"):
        read_idx(tmp_path)


def test_the_digits_of_mnist_are_read(data: Path) -> None:
    images = read_idx(data / "mnist" / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(data / "mnist" / "t10k-labels-idx1-ubyte.gz")
    assert (images.shape, labels.shape) == ((10_000, 28, 28), (10_000,))
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    few = images[:3]
    assert pixels(few).shape == (784, 3, 1)
    assert torch.equal(rows(few).transpose(0, 1).flatten(), pixels(few).transpose(0, 1).flatten())
    assert float(pixels(images).max()) == 1.0
    assert patches(few, 7, 7).shape == (16, 3, 49)
