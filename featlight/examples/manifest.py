"""A pass over a folder of images as it stands on disk: which images it is over, and for which tiles."""

import json
from collections.abc import Collection as Keys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter

from featlight.config.inputs.fit import Fit
from featlight.config.schema import MOST_TOP
from featlight.examples.image_index import ImageIndex
from featlight.store.guard.bounds import most_bytes
from featlight.store.store import Store

IMAGE_BYTES = 4096  # of the list of images, for each of them, which takes some 200
MOST_BATCH = 4096  # images
CPU = torch.device("cpu")


@dataclass(frozen=True)
class ScanSettings:
    """All that the values and the choice of examples hang on, besides the images.

    Args:
        folder: of the images, its full path.
        fit: how each is brought to the network.
        batch_size: images of a chunk.
        top: examples of each tile.
        network: its checksum.
        preparation: of how it runs.
        normalize: what is done to pixels, in words.
        precision: of the network.
    """

    folder: str
    fit: Fit
    batch_size: Annotated[int, Field(ge=1, le=MOST_BATCH)]
    top: Annotated[int, Field(ge=1, le=MOST_TOP)]
    network: str
    preparation: str
    normalize: str
    precision: str

    def plain(self) -> dict[str, Any]:
        """In JSON's own types, in the order in which they are written."""
        values: dict[str, Any] = json.loads(json.dumps(vars(self) | {"fit": vars(self.fit)}, sort_keys=True))
        return values


@dataclass(frozen=True)
class _Head:
    """The first line of the list on disk; the second one is the images'."""

    format: Literal[2]
    settings: ScanSettings
    tiles: Annotated[tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...], Field(min_length=1)]
    sha256: str | None = None  # of the second line, and of the rest of this; an older version has written none


_HEAD = TypeAdapter(_Head)


@dataclass(frozen=True)
class ScanManifest:
    """What a pass is over.

    Args:
        settings: in JSON's own types.
        images: listed.
        tiles: keys of what they look for, in parts as images are: the first, and what has come since.
    """

    settings: dict[str, Any]
    images: ImageIndex
    tiles: tuple[tuple[str, ...], ...]

    @cached_property
    def stamps(self) -> list[str]:
        """What findings carry, by how many parts of the tiles they are of: equal as long as the pass goes on."""
        begun = _digest([self.settings, [entry.sha256 for entry in self.images.parts[0]]])
        return [_digest([begun, self.tiles[:parts]]) for parts in range(len(self.tiles) + 1)]

    @property
    def checksum(self) -> str:
        """Of all that is looked at and looked for, in whatever order it came."""
        contents = sorted((name, self.images.entries[number].sha256) for number, name in self.images.names.items())
        return _digest([self.settings, contents, sorted(self.keys(range(len(self.tiles))))])

    def keys(self, parts: Iterable[int]) -> list[str]:
        """Of what some parts of the tiles look for."""
        return [key for part in parts for key in self.tiles[part]]

    @cached_property
    def places(self) -> dict[str, int]:
        """By key, its place among all."""
        return {key: place for place, key in enumerate(self.keys(range(len(self.tiles))))}

    def rows(self, parts: Iterable[int]) -> torch.Tensor:
        """The places of some parts' tiles among all, (N,), int64, on the CPU."""
        return torch.tensor([self.places[key] for key in self.keys(parts)], dtype=torch.int64, device=CPU)

    @property
    def folder(self) -> Path:
        """Of the images."""
        return Path(self.settings["folder"])

    @cached_property
    def chunks(self) -> list[list[int]]:
        return self.images.chunks(self.settings["batch_size"])

    @cached_property
    def ranks(self) -> torch.Tensor:
        """By number, an image's place in the order of paths, (images,), int64, on the CPU."""
        return torch.tensor(self.images.ranks(), dtype=torch.int64, device=CPU)

    def write(self, store: Store) -> None:
        images = f"{self.images.to_json()}\n"
        values = {"format": 2, "settings": self.settings, "tiles": self.tiles}
        head = json.dumps(values | {"sha256": self._list_checksum(images.encode())}, sort_keys=True)
        store.write(store.example_list, f"{head}\n{images}".encode())

    def _list_checksum(self, images: bytes) -> str:
        return sha256(json.dumps([self.settings, self.tiles]).encode() + images).hexdigest()

    @classmethod
    def read(cls, store: Store, images: int) -> "ScanManifest | None":
        """The pass of a run directory; None where there is none that can be gone on with.

        Args:
            store: of the run.
            images: that the folder holds.

        Raises:
            StorageError: it cannot be read, or is larger than a list of so many images.
        """
        content = store.folder.read_if_there(store.example_list, most_bytes(store.folder) + IMAGE_BYTES * images)
        try:
            first, _, second = (content or b"").partition(b"\n")
            head = _HEAD.validate_json(first, strict=True)
            found = cls(head.settings.plain(), ImageIndex.from_json(second), head.tiles)
        except ValueError:  # pydantic's own is one
            return None
        is_whole = head.sha256 in (None, found._list_checksum(second))
        return found if is_whole and len(found.places) == len(found.keys(range(len(found.tiles)))) else None


def with_new(tiles: tuple[tuple[str, ...], ...], keys: Keys[str]) -> tuple[tuple[str, ...], ...] | None:
    """The parts of the tiles that are known, with what has come since; None where one of them is gone."""
    known = {key for part in tiles for key in part}
    if not known <= set(keys):
        return None
    new = tuple(key for key in keys if key not in known)
    return (*tiles, new) if new else tiles


def _digest(values: Any) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
