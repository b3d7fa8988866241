"""The image files of a folder, identified by content. The index is append-only: later images get later numbers."""

import hashlib
import json
import mimetypes
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter

from featlight.config.user_text import is_text
from featlight.console import printable
from featlight.errors import UsageError, plural
from featlight.files import open_regular, walk
from featlight.image_io import MOST_BYTES

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".tif", ".tiff", ".avif")


@dataclass(frozen=True)
class ImageEntry:
    """One image file.

    Args:
        name: path relative to the folder, with slashes.
        bytes: size of the file.
        time: modification time in nanoseconds.
        sha256: checksum of the file, hexadecimal.
    """

    name: str
    bytes: int
    time: int
    sha256: str


def _relative_path(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name:
        raise ValueError("not a path inside a folder")
    return name


@dataclass(frozen=True)
class _Columns:
    """The index on disk; the names are JSON keys."""

    parts: list[Annotated[int, Field(ge=1)]]
    name: list[Annotated[str, Field(max_length=4096), AfterValidator(_relative_path)]]
    bytes: list[Annotated[int, Field(ge=0, lt=2**53)]]
    time: list[Annotated[int, Field(ge=-(2**63), lt=2**63)]]
    sha256: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
    unreadable: dict[str, str]


_COLUMNS = TypeAdapter(_Columns)


@dataclass(frozen=True)
class FolderListing:
    """Current files of a folder.

    Args:
        images: size and modification time of each image, by name.
        unreadable: reason of each image that cannot be read, by printable name.
        skipped: number of images of other formats, by suffix.
    """

    images: dict[str, tuple[int, int]]
    unreadable: dict[str, str]
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def skipped_text(self) -> str:
        """Number and suffixes of the skipped files; empty without any."""
        kinds = ", ".join(sorted(self.skipped))
        return f"{plural(sum(self.skipped.values()), 'file')} of other image formats ({kinds}) skipped" if kinds else ""


def find_images(folder: Path, without: Path | None = None) -> FolderListing:
    """List the PNG, JPEG, WebP, GIF, TIFF and AVIF files of a folder, at any depth.

    Links to files are followed, links to folders are not.

    Args:
        folder: folder to search.
        without: subfolder to leave out, such as the run directory.

    Raises:
        UsageError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise UsageError(f"--images: {folder} given, and there is no such folder")
    images: dict[str, tuple[int, int]] = {}
    unreadable: dict[str, str] = {}
    skipped: Counter[str] = Counter()

    def refuse(path: str, reason: str | None) -> None:
        unreadable[printable(_name(folder, path))] = reason or "it cannot be read"

    def refuse_folder(error: OSError) -> None:
        refuse(str(error.filename), error.strerror)

    excluded = None if without is None else without.resolve()
    for parent, folders, names in walk(folder, onerror=refuse_folder):
        folders[:] = [name for name in folders if (parent / name).resolve() != excluded]
        for name in names:
            suffix = Path(name).suffix.lower()
            if suffix not in SUFFIXES:
                skipped[suffix] += (mimetypes.guess_type(f"image{suffix}")[0] or "").startswith("image/")
            else:
                path = parent / name
                if not is_text(_name(folder, str(path))):
                    refuse(str(path), "its name is not UTF-8")
                    continue
                try:
                    status = path.stat()
                except OSError as error:
                    refuse(str(path), error.strerror)
                else:
                    images[_name(folder, str(path))] = status.st_size, status.st_mtime_ns
    listing = FolderListing(images, unreadable, dict(+skipped))
    if not images and not unreadable:
        note = f" ({listing.skipped_text})" if listing.skipped else ""
        raise UsageError(f"--images: {folder} holds no image{note}; PNG, JPEG and WebP files are read, at any depth")
    return listing


def _name(folder: Path, path: str) -> str:
    return Path(path).relative_to(folder).as_posix()


@dataclass(frozen=True)
class ImageIndex:
    """Images of a scan in parts: the images of the first scan, then those of each extension, in path order each.

    Args:
        parts: images of each part; an image's number counts over all parts.
        unreadable: reason of each file that could not be read when the index was made, by printable name.
    """

    parts: tuple[tuple[ImageEntry, ...], ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)

    @cached_property
    def entries(self) -> list[ImageEntry]:
        return [entry for part in self.parts for entry in part]

    @cached_property
    def unique(self) -> dict[str, int]:
        """Number of the first image with each content, by checksum."""
        numbers: dict[str, int] = {}
        for number, entry in enumerate(self.entries):
            numbers.setdefault(entry.sha256, number)
        return numbers

    @cached_property
    def names(self) -> dict[int, str]:
        """Alphabetically first name with the content of each unique image, by number."""
        first: dict[str, str] = {}
        for entry in self.entries:
            first[entry.sha256] = min(first.get(entry.sha256, entry.name), entry.name)
        return {number: first[sha256] for sha256, number in self.unique.items()}

    @property
    def duplicates(self) -> int:
        """Number of files with the content of an earlier one."""
        return len(self.entries) - len(self.unique)

    def ranks(self) -> list[int]:
        """Return each image's rank in path order, by number; 0 for duplicates, which are never scanned."""
        ranks = {name: rank for rank, name in enumerate(sorted(self.names.values()))}
        return [ranks[self.names[number]] if number in self.names else 0 for number in range(len(self.entries))]

    def chunks(self, batch_size: int) -> list[list[int]]:
        """Return the image numbers of each chunk; no extension changes an existing chunk."""
        chunks, start = [], 0
        for part in self.parts:
            own = [number for number in range(start, start + len(part)) if number in self.names]
            chunks += [own[i : i + batch_size] for i in range(0, len(own), batch_size)]
            start += len(part)
        return chunks

    def matches(self, listing: FolderListing) -> bool:
        """Whether the index holds exactly the readable files of a folder."""
        stamps = {entry.name: (entry.bytes, entry.time) for entry in self.entries}
        return stamps == {
            name: stamp for name, stamp in listing.images.items() if name in stamps or name not in self.unreadable
        }

    def extended(self, folder: Path, listing: FolderListing) -> "ImageIndex | None":
        """Add the new files of a folder; None if an indexed file is gone or has other content.

        Raises:
            UsageError: no file of the folder can be read.
        """
        indexed = {entry.name: entry for entry in self.entries}
        same = {name for name, entry in indexed.items() if listing.images.get(name) == (entry.bytes, entry.time)}
        read, unreadable = _hash_files(folder, sorted(listing.images.keys() - same), listing)
        current = {name: indexed[name] for name in same} | {entry.name: entry for entry in read}
        if any(name not in current or current[name].sha256 != entry.sha256 for name, entry in indexed.items()):
            return None
        if not current:
            name, reason = next(iter((listing.unreadable | unreadable).items()))
            raise UsageError(f"--images: {folder}: no image of it can be read ({name}: {reason})")
        # a file with a new time and the same content keeps its number
        parts = tuple(tuple(current[entry.name] for entry in part) for part in self.parts)
        new = tuple(entry for entry in read if entry.name not in indexed)
        return ImageIndex((*parts, new) if new else parts, listing.unreadable | unreadable)

    def to_json(self) -> str:
        columns = {key: [getattr(entry, key) for entry in self.entries] for key in ("name", "bytes", "time", "sha256")}
        parts = [len(part) for part in self.parts]
        return json.dumps({"parts": parts, **columns, "unreadable": self.unreadable}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "ImageIndex":
        """Read an index.

        Raises:
            ValueError: the text is not a valid index.
        """
        columns = _COLUMNS.validate_json(text, strict=True)
        rows = zip(columns.name, columns.bytes, columns.time, columns.sha256, strict=True)
        entries = [ImageEntry(*row) for row in rows]
        if len(set(columns.name)) < len(entries) or sum(columns.parts) != len(entries):
            raise ValueError("an image is listed twice, or in no part")
        rest = iter(entries)
        return cls(tuple(tuple(islice(rest, count)) for count in columns.parts), columns.unreadable)


def _hash_files(folder: Path, names: Sequence[str], listing: FolderListing) -> tuple[list[ImageEntry], dict[str, str]]:
    """Return the entries of the readable files, and the reason of each other file by name."""

    def entry_or_reason(name: str) -> ImageEntry | str:
        try:
            with open_regular(folder / name, MOST_BYTES, links=True) as file:
                return ImageEntry(name, *listing.images[name], hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            return error.strerror or "it cannot be read"

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = dict(zip(names, pool.map(entry_or_reason, names), strict=True))
    return (
        [result for result in results.values() if isinstance(result, ImageEntry)],
        {name: result for name, result in results.items() if isinstance(result, str)},
    )
