"""Directions in a layer's space of features, many in one file: a row each, read from disk as it is asked for. No torch.

A dictionary of 65,536 x 1,024 numbers is mapped into memory, never read whole: a worker touches the rows of its chunk.
"""

import hashlib
import json
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy

from featlight.config.paths import expanded
from featlight.config.tile import Term
from featlight.errors import UsageError, unknown
from featlight.files import open_regular

SUFFIXES = (".npy", ".npz", ".safetensors")
TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}  # of safetensors; a bfloat16 is half of a float32
MOST_BYTES = 1 << 44  # of a file
HEAD_BYTES = 100 << 20  # of a safetensors file's head, as its own library allows


@dataclass(frozen=True)
class Directions:
    """Directions (K, C), a row each.

    Args:
        values: (K, C), of float16 to float64; mapped, where they come from a file.
        asked: the words that name them.
        path: of their file; None for an array of Python's.
        name: of the array in it; "" where the file holds nothing else.
        halves: whether the values are bfloat16, held as whole numbers.
    """

    values: "np.ndarray[Any, Any]"
    asked: str
    path: Path | None = None
    name: str = ""
    halves: bool = False

    @classmethod
    def of_array(cls, array: Any) -> "Directions":
        """Those that are given in Python: an array, a tensor or nested lists, (K, C).

        Raises:
            UsageError: it is nothing of the kind.
        """
        detached = array.detach().cpu() if hasattr(array, "detach") else array
        return _checked(cls(np.atleast_2d(np.asarray(detached)), "an array"))

    @property
    def count(self) -> int:
        """K."""
        return len(self.values)

    @property
    def features(self) -> int:
        """C."""
        return int(self.values.shape[1])

    def rows(self, numbers: Sequence[int]) -> "np.ndarray[Any, Any]":
        """Some of them, (N, C), in float32, or float64 where they are held so."""
        rows = self.values[np.asarray(numbers, np.int64)]  # (N, C), read now
        if self.halves:
            return (rows.astype(np.uint32) << 16).view(np.float32)
        return rows.astype(np.promote_types(rows.dtype, np.float32))

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the file, with the array's name where it has one; read as a stream, some GB a second."""
        if self.path is None:
            content = np.ascontiguousarray(self.values)
            return hashlib.sha256(f"{content.dtype}{content.shape}".encode() + content.tobytes()).hexdigest()
        with open_regular(self.path, MOST_BYTES, links=True) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{found}:{self.name}" if self.name else found


def vectors_of(terms: Sequence[Term], directions: Directions | None) -> "np.ndarray[Any, Any]":
    """The directions of some terms, (N, C), float32, or float64 where they are given or held so."""
    rows = [term.feature for term in terms if term.direction == "row" and term.feature is not None]
    read = iter(()) if directions is None else iter(directions.rows(rows))
    return np.stack([next(read) if term.direction == "row" else np.asarray(term.direction) for term in terms])


def open_directions(asked: str, preferred: Sequence[str] = ()) -> Directions:
    """The directions of a file.

    Args:
        asked: a .npy, .npz or .safetensors file, or `FILE:name` for one of the arrays in it.
        preferred: names of the arrays that are meant where none is said, the best first.

    Raises:
        UsageError: there is no such file or array, or it is none of directions.
    """
    path, name = _named(asked)
    try:
        open_regular(path, MOST_BYTES, links=True).close()
        match path.suffix:
            case ".npy":
                found = Directions(np.load(path, mmap_mode="r", allow_pickle=False), asked, path)
            case ".npz":
                found = _of_npz(path, name, asked, preferred)
            case _:
                found = _of_safetensors(path, name, asked, preferred)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"directions: {asked}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, struct.error, EOFError) as error:
        raise UsageError(f"directions: {asked}: damaged ({' '.join(str(error).split())[:160]})") from None
    return _checked(found)


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


def _checked(found: Directions) -> Directions:
    values, of = found.values, f" of {found.name!r}" if found.name else ""
    if values.ndim != 2 or 0 in values.shape:
        raise UsageError(f"directions: {found.asked}: an array{of} of {values.shape}; (directions, features) is needed")
    if not found.halves and values.dtype.kind != "f":
        raise UsageError(f"directions: {found.asked}: {values.dtype}{of}; float16, float32 or float64 is needed")
    return found


def _chosen(path: Path, name: str, names: Sequence[str], preferred: Sequence[str]) -> str:
    """The array that is meant: the one of that name, a preferred one, or the only one."""
    if name and name not in names:
        raise UsageError(f"directions: {path.name}: {unknown('array', name, names)}")
    found = name or next((each for each in preferred if each in names), "") or (names[0] if len(names) == 1 else "")
    if not found:
        shown = ", ".join(names[:24]) or "none"
        raise UsageError(f"directions: {path.name} holds {len(names)} arrays; FILE:name is needed, of: {shown}")
    return found


def _of_npz(path: Path, name: str, asked: str, preferred: Sequence[str]) -> Directions:
    """A zip of .npy files; its arrays can be mapped where they are not compressed."""
    with zipfile.ZipFile(path) as archive:
        names = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        name = _chosen(path, name, names, preferred)
        entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise UsageError(
            f"directions: {path.name}: {name!r} is compressed, so that its rows cannot be read one by one; "
            "numpy.savez, or numpy.save, keeps it as it is"
        )
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # the local head, whose names may be longer than the directory's
        file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        return Directions(_mapped(path, dtype, file.tell(), shape, "F" if is_fortran else "C"), asked, path, name)


def _of_safetensors(path: Path, name: str, asked: str, preferred: Sequence[str]) -> Directions:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > HEAD_BYTES:
            raise ValueError(f"a head of {length} bytes")
        head = json.loads(file.read(length))
    head.pop("__metadata__", None)
    name = _chosen(path, name, list(head), preferred)
    kind, shape, (start, _) = head[name]["dtype"], tuple(head[name]["shape"]), head[name]["data_offsets"]
    if kind not in TYPES:
        raise UsageError(f"directions: {path.name}: {name!r} is {kind}; allowed: {', '.join(TYPES)}")
    values = _mapped(path, np.dtype(TYPES[kind]), 8 + length + start, shape, "C")
    return Directions(values, asked, path, name, kind == "BF16")


def _mapped(
    path: Path, dtype: "np.dtype[Any]", offset: int, shape: tuple[int, ...], order: Literal["C", "F"]
) -> "np.ndarray[Any, Any]":
    if dtype.hasobject:
        raise ValueError("objects of Python's")
    return np.memmap(path, dtype, "r", offset, shape, order)
