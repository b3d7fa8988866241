"""What a run's pictures and arrays hold, whoever has made them: whole and of a sane size, or refused in one line."""

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
    """A PNG of a run, RGB, with its text in `info`.

    Args:
        folder: the run directory.
        path: of the picture.

    Raises:
        FeatlightError: it is damaged; StorageError: it cannot be read.
    """
    try:
        return decode_png(_read(folder, path, PICTURE_BYTES))
    except ValueError as error:
        raise FeatlightError(f"{path}: damaged ({error}); delete it, and {_AGAIN}") from None


def read_alpha(folder: RunFolder, path: Path, size: tuple[int, int]) -> Image.Image:
    """The transparency of a tile, gray, black where it is clear.

    Args:
        folder: the run directory.
        path: of the transparency.
        size: width and height of the tile, in pixels.

    Raises:
        FeatlightError: it is damaged, or of another size; StorageError: it cannot be read.
    """
    opacity = read_picture(folder, path).convert("L")
    if opacity.size != size:
        raise FeatlightError(f"{path}: damaged (of another size than its tile); delete it, and {_AGAIN}")
    return opacity


def read_laid_on_white(folder: RunFolder, path: Path, alpha: Path) -> Image.Image:
    """A tile as it looks on white paper, given the paths of its picture and its transparency.

    Raises:
        FeatlightError: either is damaged; StorageError: either cannot be read.
    """
    picture = read_picture(folder, path)
    return laid_on_white(picture, read_alpha(folder, alpha, picture.size))


def read_vectors(folder: RunFolder, path: Path, rows: int, columns: int) -> "np.ndarray[Any, Any]":
    """The vectors of a chunk.

    Args:
        folder: the run directory.
        path: of the file.
        rows: tiles of the chunk.
        columns: features of its layer.

    Returns:
        (rows, columns), float32.

    Raises:
        FeatlightError: it is damaged; StorageError: it cannot be read.
    """
    try:
        with folder.open(path, ARRAY_BYTES) as file, reading_errors(path):
            start = _numbers_start(file, rows, columns)
            if start is None:
                raise FeatlightError(f"{path}: damaged; `featlight verify --repair` removes it, and {_AGAIN}")
            file.seek(start)
            return np.frombuffer(file.read(4 * rows * columns), np.float32).reshape(rows, columns)
    except FileNotFoundError:
        raise StorageError(f"{path}: it is gone; {_AGAIN}") from None


def has_whole_vectors(folder: RunFolder, path: Path, rows: int, columns: int) -> bool:
    """Whether a file holds a chunk's vectors; its end is not read.

    Raises:
        FileNotFoundError: there is none; StorageError: it cannot be read.
    """
    with folder.open(path, ARRAY_BYTES) as file:
        return _numbers_start(file, rows, columns) is not None


def _numbers_start(file: IO[bytes], rows: int, columns: int) -> int | None:
    """Where the numbers begin in the .npy file of such an array; None where it is of something else, or not whole.

    The file's size must bear out its head: NumPy would make room first for whatever a head says.
    """
    magic, version, length = struct.unpack("<6s2sH", file.read(10).ljust(10, b"\0"))
    head = _HEAD.fullmatch(file.read(length))
    if (magic, version) != (b"\x93NUMPY", b"\1\0") or head is None:
        return None
    start = file.tell()
    is_whole = file.seek(0, io.SEEK_END) == start + 4 * rows * columns
    return start if is_whole and (int(head[1]), int(head[2])) == (rows, columns) else None


def read_tensors(folder: RunFolder, path: Path, most: int) -> "dict[str, np.ndarray[Any, Any]]":
    """The arrays of a safetensors file, by name.

    Args:
        folder: the run directory.
        path: of the file.
        most: bytes that it may have.

    Raises:
        FeatlightError: it is damaged; StorageError: it cannot be read.
    """
    try:
        return load(_read(folder, path, most))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = one_line(error, 160)
        raise FeatlightError(
            f"{path}: damaged ({reason}); `featlight verify --repair` removes it, and {_AGAIN}"
        ) from None


def _read(folder: RunFolder, path: Path, most: int) -> bytes:
    content = folder.read_if_there(path, most)
    if content is None:
        raise StorageError(f"{path}: it is gone; {_AGAIN}")
    return content
