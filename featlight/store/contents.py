"""Readers of a run's pictures and arrays. A run may come from anybody: damage is a one-line error."""

import io
import re
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load

from featlight.errors import FeatlightError, StorageError, one_line
from featlight.image_io import decode_png, laid_on_white
from featlight.store.guard.atomic import reading_errors
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import ARRAY_BYTES, PICTURE_BYTES

_HEAD = re.compile(rb"\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d{1,9}), (\d{1,9})\), \} *\n")
_AGAIN = "the same command makes it again"


def read_picture(folder: RunFolder, path: Path) -> Image.Image:
    """Return a PNG of a run as an RGB picture, with its text in `info`.

    Raises:
        FeatlightError: the file is damaged; StorageError: it cannot be read.
    """
    try:
        return decode_png(_read(folder, path, PICTURE_BYTES))
    except ValueError as error:
        raise FeatlightError(f"{path}: damaged ({error}); delete it, and {_AGAIN}") from None


def read_alpha(folder: RunFolder, path: Path, size: tuple[int, int]) -> Image.Image:
    """Return the opacity of a tile, in gray; black pixels are transparent.

    Args:
        folder: run directory.
        path: path of the opacity picture.
        size: width and height of the tile, in pixels.

    Raises:
        FeatlightError: the file is damaged, or has another size; StorageError: it cannot be read.
    """
    opacity = read_picture(folder, path).convert("L")
    if opacity.size != size:
        raise FeatlightError(f"{path}: damaged (its size differs from the tile); delete it, and {_AGAIN}")
    return opacity


def read_laid_on_white(folder: RunFolder, path: Path, alpha: Path) -> Image.Image:
    """Return a tile on a white background, given the paths of its picture and its opacity.

    Raises:
        FeatlightError: a file is damaged; StorageError: a file cannot be read.
    """
    picture = read_picture(folder, path)
    return laid_on_white(picture, read_alpha(folder, alpha, picture.size))


def read_vectors(folder: RunFolder, path: Path, rows: int, columns: int) -> "np.ndarray[Any, Any]":
    """Return the vectors of a chunk: (rows, columns), float32.

    Args:
        folder: run directory.
        path: path of the file.
        rows: number of the chunk's tiles.
        columns: number of the layer's features.

    Raises:
        FeatlightError: the file is damaged; StorageError: it cannot be read.
    """
    try:
        with folder.open(path, ARRAY_BYTES) as file, reading_errors(path):
            start = _data_start(file, rows, columns)
            if start is None:
                raise FeatlightError(f"{path}: damaged; `featlight verify --repair` removes it, and {_AGAIN}")
            file.seek(start)
            return np.frombuffer(file.read(4 * rows * columns), np.float32).reshape(rows, columns)
    except FileNotFoundError:
        raise StorageError(f"{path}: missing; {_AGAIN}") from None


def has_whole_vectors(folder: RunFolder, path: Path, rows: int, columns: int) -> bool:
    """Return whether a file has the header and the size of a chunk's vectors; the values are not read.

    Raises:
        FileNotFoundError: the file is missing; StorageError: it cannot be read.
    """
    with folder.open(path, ARRAY_BYTES) as file:
        return _data_start(file, rows, columns) is not None


def _data_start(file: IO[bytes], rows: int, columns: int) -> int | None:
    """Return the offset of the values in a .npy file; None if its header or size does not fit such an array.

    NumPy's reader would allocate whatever the header says; here the file's size must agree first.
    """
    magic, version, length = struct.unpack("<6s2sH", file.read(10).ljust(10, b"\0"))
    head = _HEAD.fullmatch(file.read(length))
    if (magic, version) != (b"\x93NUMPY", b"\1\0") or head is None:
        return None
    start = file.tell()
    is_whole = file.seek(0, io.SEEK_END) == start + 4 * rows * columns
    return start if is_whole and (int(head[1]), int(head[2])) == (rows, columns) else None


def read_tensors(folder: RunFolder, path: Path, most: int) -> "dict[str, np.ndarray[Any, Any]]":
    """Return the arrays of a safetensors file, by name.

    Args:
        folder: run directory.
        path: path of the file.
        most: largest size in bytes.

    Raises:
        FeatlightError: the file is damaged; StorageError: it cannot be read.
    """
    try:
        return load(_read(folder, path, most))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = one_line(error, 160)
        raise FeatlightError(
            f"{path}: damaged ({reason}); `featlight verify --repair` removes it, and {_AGAIN}"
        ) from None


def read_float_image(folder: RunFolder, path: Path, most: int, channels: int) -> "np.ndarray[Any, Any]":
    """Return a tile's unclipped image, (C, H, W).

    Args:
        folder: run directory.
        path: path of the float image.
        most: largest size in bytes.
        channels: number of channels of the run's images.

    Raises:
        FeatlightError: the file is damaged, or holds another array; StorageError: it cannot be read.
    """
    image = read_tensors(folder, path, most).get("image")
    if image is None or image.shape[:1] != (channels,) or image.ndim != 3:
        raise FeatlightError(f"{path}: holds no image of the run; delete it and run the same call again")
    return image


def _read(folder: RunFolder, path: Path, most: int) -> bytes:
    content = folder.read_if_there(path, most)
    if content is None:
        raise StorageError(f"{path}: missing; {_AGAIN}")
    return content
