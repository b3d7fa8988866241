"""The images of a folder: found, told apart by their content, and listed so that a list only ever grows at its end."""

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

from featlight.config.text_checks import is_text
from featlight.console import printable
from featlight.errors import UsageError
from featlight.files import open_regular
from featlight.image_io import MOST_BYTES

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".tif", ".tiff", ".avif")
SHOWN = 3  # names in a line


@dataclass(frozen=True)
class ImageEntry:
    """One image of the folder.

    Args:
        name: its path from the folder, with slashes.
        bytes: of the file.
        time: when it was last changed, in nanoseconds.
        sha256: of its bytes, hexadecimal.
    """

    name: str
    bytes: int
    time: int
    sha256: str


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name:
        raise ValueError("no path inside of a folder")
    return name


@dataclass(frozen=True)
class _Columns:
    """A list of images on disk."""

    parts: list[Annotated[int, Field(ge=1)]]
    name: list[Annotated[str, Field(max_length=4096), AfterValidator(_inside)]]
    bytes: list[Annotated[int, Field(ge=0, lt=2**53)]]
    time: list[Annotated[int, Field(ge=-(2**63), lt=2**63)]]
    sha256: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]
    unreadable: dict[str, str]


_COLUMNS = TypeAdapter(_Columns)


@dataclass(frozen=True)
class FolderListing:
    """What lies in a folder now.

    Args:
        images: bytes and time of each image, by name.
        unreadable: reasons why images cannot be read, by name.
        skipped: number of images of other formats, by suffix.
    """

    images: dict[str, tuple[int, int]]
    unreadable: dict[str, str]
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def skipped_words(self) -> str:
        """What is not looked at, in words; "" where there is nothing."""
        count = sum(self.skipped.values())
        kinds = ", ".join(sorted(self.skipped))
        return f"{count} file{'' if count == 1 else 's'} of other image formats ({kinds}) skipped" if count else ""


def find_images(folder: Path, without: Path | None = None) -> FolderListing:
    """Every PNG, JPEG, WebP, GIF, TIFF and AVIF file in a folder, at any depth.

    Links to folders are not followed, links to files are.

    Args:
        folder: to look into.
        without: a folder inside that is left out: the run's own.

    Raises:
        UsageError: there is no such folder, or it holds no image.
    """
    if not folder.is_dir():
        raise UsageError(f"--images: {folder} given, and there is no such folder")
    images: dict[str, tuple[int, int]] = {}
    unreadable: dict[str, str] = {}
    skipped: Counter[str] = Counter()

    def refuse(path: str, why: str | None) -> None:
        unreadable[printable(_name(folder, path))] = why or "it cannot be read"

    def note(error: OSError) -> None:
        refuse(str(error.filename), error.strerror)

    left_out = None if without is None else without.resolve()
    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(each for each in folders if Path(parent, each).resolve() != left_out)
        for name in names:
            suffix = Path(name).suffix.lower()
            if suffix not in SUFFIXES:
                skipped[suffix] += (mimetypes.guess_type(f"image{suffix}")[0] or "").startswith("image/")
            else:
                path = Path(parent, name)
                if not is_text(_name(folder, str(path))):
                    refuse(str(path), "its name is not UTF-8")
                    continue
                try:
                    status = path.stat()
                except OSError as error:
                    refuse(str(path), error.strerror)
                else:
                    images[_name(folder, str(path))] = status.st_size, status.st_mtime_ns
    found = FolderListing(images, unreadable, dict(+skipped))
    if not images and not unreadable:
        words = f" ({found.skipped_words})" if found.skipped else ""
        raise UsageError(f"--images: {folder} holds no image{words}; PNG, JPEG and WebP files are read, at any depth")
    return found


def _name(folder: Path, path: str) -> str:
    return Path(path).relative_to(folder).as_posix()


@dataclass(frozen=True)
class ImageIndex:
    """The images that a pass is over, in parts: the first, and what has come since, each in the order of paths.

    Args:
        parts: of the list; an image's number is its place in all of them.
        unreadable: by name, as it can be printed, what could not be read when the list was made, and why.
    """

    parts: tuple[tuple[ImageEntry, ...], ...] = ()
    unreadable: dict[str, str] = field(default_factory=dict)

    @cached_property
    def entries(self) -> list[ImageEntry]:
        return [entry for part in self.parts for entry in part]

    @cached_property
    def first_of(self) -> dict[str, int]:
        """By content, the number of the image that stands for it: the one that was listed first."""
        found: dict[str, int] = {}
        for number, entry in enumerate(self.entries):
            found.setdefault(entry.sha256, number)
        return found

    @cached_property
    def names(self) -> dict[int, str]:
        """By number, of each image that stands for a content, the first path in order that holds this content."""
        best: dict[str, str] = {}
        for entry in self.entries:
            best[entry.sha256] = min(best.get(entry.sha256, entry.name), entry.name)
        return {number: best[sha256] for sha256, number in self.first_of.items()}

    @property
    def duplicates(self) -> int:
        """Files whose content another one has already."""
        return len(self.entries) - len(self.first_of)

    def ranks(self) -> list[int]:
        """By number, its place in the order of paths; of a duplicate, of no meaning."""
        places = {name: place for place, name in enumerate(sorted(self.names.values()))}
        return [places[self.names[number]] if number in self.names else 0 for number in range(len(self.entries))]

    def chunks(self, batch_size: int) -> list[list[int]]:
        """The numbers of the images that are looked at together; what comes later changes none of them."""
        found, start = [], 0
        for part in self.parts:
            own = [number for number in range(start, start + len(part)) if number in self.names]
            found += [own[i : i + batch_size] for i in range(0, len(own), batch_size)]
            start += len(part)
        return found

    def is_of(self, found: FolderListing) -> bool:
        """Whether it lists just what lies in the folder."""
        known = {entry.name: (entry.bytes, entry.time) for entry in self.entries}
        return known == {
            name: stamp for name, stamp in found.images.items() if name in known or name not in self.unreadable
        }

    def followed_by(self, folder: Path, found: FolderListing) -> "ImageIndex | None":
        """The list with what has come since; None where something that was listed is gone, or is another image now.

        Raises:
            UsageError: none of the files can be read.
        """
        known = {entry.name: entry for entry in self.entries}
        same = {name for name, entry in known.items() if found.images.get(name) == (entry.bytes, entry.time)}
        read, unreadable = _hashed(folder, sorted(found.images.keys() - same), found)
        now = {name: known[name] for name in same} | {entry.name: entry for entry in read}
        if any(name not in now or now[name].sha256 != entry.sha256 for name, entry in known.items()):
            return None
        if not now:
            name, why = next(iter((found.unreadable | unreadable).items()))
            raise UsageError(f"--images: {folder}: no image of it can be read ({name}: {why})")
        # one whose time alone has changed stays at its place
        parts = tuple(tuple(now[entry.name] for entry in part) for part in self.parts)
        new = tuple(entry for entry in read if entry.name not in known)
        return ImageIndex((*parts, new) if new else parts, found.unreadable | unreadable)

    def to_json(self) -> str:
        columns = {key: [getattr(entry, key) for entry in self.entries] for key in ("name", "bytes", "time", "sha256")}
        parts = [len(part) for part in self.parts]
        return json.dumps({"parts": parts, **columns, "unreadable": self.unreadable}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "ImageIndex":
        """Raises ValueError where it is none."""
        values = _COLUMNS.validate_json(text, strict=True)
        entries = [ImageEntry(*row) for row in zip(values.name, values.bytes, values.time, values.sha256, strict=True)]
        if len(set(values.name)) < len(entries) or sum(values.parts) != len(entries):
            raise ValueError("an image that is listed twice, or in no part")
        rest = iter(entries)
        return cls(tuple(tuple(islice(rest, count)) for count in values.parts), values.unreadable)


def _hashed(folder: Path, names: Sequence[str], found: FolderListing) -> tuple[list[ImageEntry], dict[str, str]]:
    """The images of some names, with what each file's content is; and what cannot be read, and why."""

    def look(name: str) -> ImageEntry | str:
        try:
            with open_regular(folder / name, MOST_BYTES, links=True) as file:
                return ImageEntry(name, *found.images[name], hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            return error.strerror or "it cannot be read"

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        seen = dict(zip(names, pool.map(look, names), strict=True))
    return (
        [entry for entry in seen.values() if isinstance(entry, ImageEntry)],
        {name: why for name, why in seen.items() if isinstance(why, str)},
    )


def some_names(names: Sequence[str]) -> str:
    """The first few of them."""
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")
