"""Directions in a layer's feature space, a row each, read from a file on demand. No torch.

A dictionary of 65,536 x 1,024 numbers is mapped into memory: a worker reads only the rows of its chunk.
"""

import hashlib
import io
import json
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy
from safetensors import safe_open

from featlight.config.arrays import plain_array
from featlight.config.user_text import FROM_PYTHON, expanded
from featlight.errors import UsageError, listed, one_line, unknown
from featlight.files import open_regular

SUFFIXES = (".npy", ".npz", ".safetensors")
TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}  # of safetensors; a bfloat16 is half of a float32
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}  # of .npy; later ones name fields
MOST_BYTES = 1 << 44  # of a file
BLOCK = 1 << 22  # values that are looked at together


@dataclass(frozen=True)
class Directions:
    """Directions (K, C), a row each.

    Args:
        values: (K, C), of float16 to float64; mapped, if they come from a file.
        asked: value of the setting that names them.
        path: path of the file; None for an array given in Python.
        name: name of the array in the file; "" if the file holds only one.
        halves: whether the values are bfloat16, held as integers.
        stamp: identity of the file, which changes when it is written or replaced.
    """

    values: "np.ndarray[Any, Any]"
    asked: str
    path: Path | None = None
    name: str = ""
    halves: bool = False
    stamp: tuple[int, ...] = ()

    @classmethod
    def of_array(cls, array: Any) -> "Directions":
        """Make directions from an array, a tensor or nested lists, (K, C).

        Raises:
            UsageError: the value is no such array.
        """
        try:
            values = np.atleast_2d(plain_array(array))
        except MemoryError:
            raise
        except Exception as error:  # arrays of other libraries raise anything
            raise UsageError(
                f"directions: {type(array).__name__} given, which cannot be converted to an array ({_line(error)}); "
                "an array or tensor (directions, features) is needed"
            ) from None
        _check(values.dtype, values.shape, FROM_PYTHON)
        return cls(values, FROM_PYTHON)

    @property
    def count(self) -> int:
        """Number of directions, K."""
        return len(self.values)

    @property
    def features(self) -> int:
        """Number of features, C."""
        return int(self.values.shape[1])

    def rows(self, numbers: Sequence[int]) -> "np.ndarray[Any, Any]":
        """Read some rows, (N, C), in float32, or in float64 if the file has it.

        Raises:
            UsageError: the file has changed since it was opened.
        """
        self._check_unchanged()
        rows = self.values[np.asarray(numbers, np.int64)]  # (N, C), read now
        if self.halves:
            return (rows.astype(np.uint32) << 16).view(np.float32)
        return rows.astype(np.promote_types(rows.dtype, np.float32))

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the file, followed by the array's name if it has one."""
        if self.path is None:
            content = np.ascontiguousarray(self.values)
            return hashlib.sha256(f"{content.dtype}{content.shape}".encode() + content.tobytes()).hexdigest()
        with open_regular(self.path, MOST_BYTES, links=True) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        self._check_unchanged()
        return f"{found}:{self.name}" if self.name else found

    def check_finite(self, numbers: Sequence[int], dtype: "np.dtype[Any]") -> None:
        """Raise UsageError for the first row with NaN, Inf or numbers beyond the run's data type.

        Args:
            numbers: numbers of the rows to check.
            dtype: data type of the run.
        """
        step = max(1, BLOCK // self.features)
        for start in range(0, len(numbers), step):
            part = numbers[start : start + step]
            with np.errstate(over="ignore"):
                good = np.isfinite(self.rows(part).astype(dtype)).all(1)
            if not good.all():
                raise UsageError(
                    f"directions: {self.asked}: row {part[int(good.argmin())]} holds NaN, Inf or a number beyond "
                    f"{dtype}; mend it, or leave it out by --features"
                )

    def _check_unchanged(self) -> None:
        """Raise UsageError if the file has changed: reading a map of a truncated file would kill the process."""
        if self.path is not None and self.stamp != _stamp(self.path):
            raise UsageError(
                f"directions: {self.asked}: the file has changed since it was opened; put it back and give the same "
                "command again, or give another --out"
            )


def open_directions(asked: str, preferred: Sequence[str] = ()) -> Directions:
    """Open the directions in a file.

    Args:
        asked: .npy, .npz or .safetensors file, or `FILE:name` for one of the arrays in it.
        preferred: names of the arrays to use if none is given, the best first.

    Raises:
        UsageError: there is no such file or array, or its shape or data type does not fit.
    """
    path, name = _named(asked)
    try:
        with open_regular(path, MOST_BYTES, links=True) as file, warnings.catch_warnings(action="ignore"):
            stamp = _stamp(file.fileno())
            match path.suffix:
                case ".npy":
                    place = _npy_place(file, 0, os.fstat(file.fileno()).st_size)
                case ".npz":
                    name, place = _npz_place(file, path, name, preferred)
                case _:
                    name, place = _tensor_place(file, path, name, preferred)
            halves = place.dtype == np.uint16
            _check(place.dtype, place.shape, f"{asked}: an array{f' of {name!r}' if name else ''}", halves=halves)
            if place.bytes != place.dtype.itemsize * math.prod(place.shape):
                raise ValueError(f"{place.bytes} bytes for {place.shape} of {place.dtype}")
            values = np.memmap(file, place.dtype, "r", place.start, place.shape, place.order)
    except (UsageError, MemoryError):
        raise
    except OSError as error:
        raise UsageError(f"directions: {asked}: {error.strerror or error}") from None
    except Exception as error:  # parsers of these formats raise anything on a damaged file
        raise UsageError(f"directions: {asked}: damaged ({_line(error)}); copy it again, or save it again") from None
    return Directions(values, asked, path, name, halves, stamp)


def _named(asked: str) -> tuple[Path, str]:
    path, colon, name = asked.rpartition(":")
    if not colon or len(path) < 2 or expanded(asked).is_file():  # a single letter before it is a drive
        path, name = asked, ""
    found = expanded(path)
    if found.suffix not in SUFFIXES:
        raise UsageError(f"directions: {asked!r} given; a file of {', '.join(SUFFIXES)} is needed, or FILE:name")
    if found.suffix == ".npy" and name:
        raise UsageError(f"directions: {asked!r} given; a .npy file holds one array, which has no name")
    return found, name


class _ArrayPlace(NamedTuple):
    """The position, shape and data type of an array in a file."""

    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    start: int
    bytes: int  # size in the file


def _check(dtype: "np.dtype[Any]", shape: Sequence[int], what: str, *, halves: bool = False) -> None:
    """Raise UsageError if an array is not (K, C) of floats; `halves` are bfloat16."""
    if len(shape) != 2 or min(shape) < 1:
        raise UsageError(f"directions: {what} of {tuple(shape)}; (directions, features) is needed")
    if not halves and (dtype.kind, dtype.itemsize) not in (("f", 2), ("f", 4), ("f", 8)):
        raise UsageError(
            f"directions: {what} of {dtype}; float16, float32 or float64 is needed, as .astype('float32') gives"
        )


def _stamp(file: Path | int) -> tuple[int, ...]:
    try:
        status = os.stat(file)  # noqa: PTH116  a handle perhaps
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _line(error: Exception) -> str:
    return one_line(error, 160) or type(error).__name__


def _chosen(path: Path, name: str, names: Sequence[str], preferred: Sequence[str]) -> str:
    """Choose the array: the one of that name, a preferred one, or the only one."""
    if name and name not in names:
        raise UsageError(f"directions: {path.name}: {unknown('array', name, names)}")
    found = name or next((each for each in preferred if each in names), "") or (names[0] if len(names) == 1 else "")
    if not found:
        shown = listed(names, 24) or "none"
        raise UsageError(f"directions: {path.name} holds {len(names)} arrays; FILE:name is needed, of: {shown}")
    return found


def _npy_place(file: BufferedReader, start: int, size: int) -> _ArrayPlace:
    """Locate the array of a .npy file.

    Args:
        file: file that contains the .npy file.
        start: offset of the .npy file, in bytes.
        size: size of the .npy file, in bytes.
    """
    file.seek(start)
    head = io.BytesIO(file.read(min(size, 1 << 16)))  # longer ones are structured types
    version = npy.read_magic(head)
    if version not in READERS:
        raise ValueError(f"version {version}")
    shape, is_fortran, dtype = READERS[version](head)
    if dtype.hasobject:
        raise ValueError("objects of Python's")
    return _ArrayPlace(dtype, shape, "F" if is_fortran else "C", start + head.tell(), size - head.tell())


def _npz_place(file: BufferedReader, path: Path, name: str, preferred: Sequence[str]) -> tuple[str, _ArrayPlace]:
    """Locate an uncompressed array in a zip of .npy files."""
    with zipfile.ZipFile(file) as archive:
        names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        name = _chosen(path, name, names, preferred)
        if names.count(name) > 1:
            raise ValueError(f"several arrays {name!r}")
        entry = archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise UsageError(
                f"directions: {path.name}: {name!r} is compressed, so that its rows cannot be read one by one; "
                "numpy.savez, or numpy.save, keeps it as it is"
            )
        with archive.open(entry) as stored:  # this checks its header, password and checksum
            while stored.read(1 << 20):
                pass
    file.seek(entry.header_offset + 26)  # the local header, whose names may be longer than the directory's
    start = entry.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    return name, _npy_place(file, start, entry.file_size)


def _tensor_place(file: BufferedReader, path: Path, name: str, preferred: Sequence[str]) -> tuple[str, _ArrayPlace]:
    """Locate a tensor in a safetensors file.

    The library checks the whole header: types, shapes and contiguous offsets. It reads rows as numpy arrays, which have
    no bfloat16, so featlight maps them by the checked offsets.
    """
    with safe_open(path, "np") as tensors:
        name = _chosen(path, name, list(tensors.keys()), preferred)
        known = tensors.get_slice(name)
        kind, shape = known.get_dtype(), tuple(known.get_shape())
    if kind not in TYPES:
        raise UsageError(f"directions: {path.name}: {name!r} is {kind}; allowed: {', '.join(TYPES)}")
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    entry = json.loads(file.read(length), object_pairs_hook=_without_doubles)[name]
    start, end = entry["data_offsets"]
    return name, _ArrayPlace(np.dtype(TYPES[kind]), shape, "C", 8 + length + start, end - start)


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a header with repeated keys")
    return found
