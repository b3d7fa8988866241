"""The manifest of a scan: which images are scored, with which settings, for which tiles.

The first worker creates or extends the manifest on disk; the other workers wait for it.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from collections.abc import Collection as Keys
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

import torch
from pydantic import Field, TypeAdapter

from featlight.config.image_shape import Fit, FitWord, ImageSize, pixels_of
from featlight.config.schema import MOST_TOP
from featlight.config.user_text import is_text
from featlight.distributed.env import LAUNCHER, Worker
from featlight.distributed.signals import Stop
from featlight.errors import plural
from featlight.examples.image_index import FolderListing, ImageIndex
from featlight.examples.scorer import ActivationScorer
from featlight.plan.plan import Plan
from featlight.store.example_files import found_files
from featlight.store.guard.bounds import most_bytes
from featlight.store.store import Store

IMAGE_BYTES = 4096  # limit per image on the size of files; an entry takes about 200
MOST_BATCH = 4096  # images
CPU_SCORED, GPU_SCORED = 32, 128  # images at once, of at most SCORED_PIXELS; of larger ones fewer
SCORED_PIXELS = 320 * 320
POLL_SECONDS = 0.5
CPU = torch.device("cpu")
Echo = Callable[[str], object]  # prints a line
KeyParts = tuple[tuple[str, ...], ...]  # query keys: those of the first scan, then those of each extension


@dataclass(frozen=True)
class ExamplesRequest:
    """A request for examples.

    Args:
        images: folder of the images.
        top: examples per tile.
        fit: `auto`, `none`, or a size in pixels.
        batch_size: images per batch; `auto` keeps that of an earlier scan with the same folder and fit, else depends
            on the device and the fit.
        paths: whether to measure the path similarity of each tile.
    """

    images: Path
    top: int = 9
    fit: FitWord = "auto"
    batch_size: Literal["auto"] | int = "auto"
    paths: bool = False


@dataclass(frozen=True)
class ScanSettings:
    """Settings that change activations or the choice of examples. The names are on disk.

    Args:
        folder: absolute path of the images' folder; a file URI if the path is not UTF-8.
        fit: fit of every image.
        batch_size: images per chunk.
        top: examples per tile.
        network: checksum of the network.
        preparation: checksum of the prepared network, see `ActivationScorer.preparation`.
        normalize: description of the normalization.
        precision: precision of the network.
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
        """Return the settings as JSON types, sorted by key."""
        values: dict[str, Any] = json.loads(json.dumps(vars(self) | {"fit": vars(self.fit)}, sort_keys=True))
        return values


@dataclass(frozen=True)
class _ManifestHeader:
    """First line of the file; the second line is the image index."""

    format: Literal[2]
    settings: ScanSettings
    tiles: Annotated[tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...], Field(min_length=1)]
    sha256: str | None = None  # checksum of all else in the file; earlier versions wrote none


_HEADER = TypeAdapter(_ManifestHeader)


@dataclass(frozen=True)
class ScanManifest:
    """Settings, images and tiles of a scan.

    Args:
        settings: scan settings as JSON types.
        images: index of the images.
        tiles: query keys of the tiles, in parts.
    """

    settings: dict[str, Any]
    images: ImageIndex
    tiles: KeyParts

    @cached_property
    def stamps(self) -> list[str]:
        """Identifier of worker states by their number of tile parts; equal as long as the scan is only extended."""
        first = _digest([self.settings, [entry.sha256 for entry in self.images.parts[0]]])
        return [_digest([first, self.tiles[:parts]]) for parts in range(len(self.tiles) + 1)]

    @property
    def checksum(self) -> str:
        """Checksum of settings, images and tiles, independent of the order in which they were added."""
        contents = sorted((name, self.images.entries[number].sha256) for number, name in self.images.names.items())
        return _digest([self.settings, contents, sorted(self.row_of)])

    def keys(self, parts: Iterable[int]) -> list[str]:
        """Return the query keys of some tile parts."""
        return [key for part in parts for key in self.tiles[part]]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each query key in the arrays of a worker state."""
        return {key: row for row, key in enumerate(self.keys(range(len(self.tiles))))}

    def rows(self, parts: Iterable[int]) -> torch.Tensor:
        """Return the rows of some tile parts, (N,), int64, on the CPU."""
        return torch.tensor([self.row_of[key] for key in self.keys(parts)], dtype=torch.int64, device=CPU)

    @property
    def folder(self) -> Path:
        """Folder of the images."""
        text = self.settings["folder"]
        return Path(os.fsdecode(unquote_to_bytes(text[len("file://") :])) if text.startswith("file://") else text)

    @cached_property
    def chunks(self) -> list[list[int]]:
        """Image numbers of each chunk."""
        return self.images.chunks(self.settings["batch_size"])

    @cached_property
    def ranks(self) -> torch.Tensor:
        """Rank of each image in path order, by number, (images,), int64, on the CPU."""
        return torch.tensor(self.images.ranks(), dtype=torch.int64, device=CPU)

    def image_count(self, chunks: Iterable[int]) -> int:
        """Return the number of images in some chunks."""
        return sum(len(self.chunks[number]) for number in chunks)

    def write(self, store: Store) -> None:
        images = f"{self.images.to_json()}\n"
        values = {"format": 2, "settings": self.settings, "tiles": self.tiles}
        header = json.dumps(values | {"sha256": self._file_checksum(images.encode())}, sort_keys=True)
        store.write(store.example_list, f"{header}\n{images}".encode())

    def _file_checksum(self, images: bytes) -> str:
        return sha256(json.dumps([self.settings, self.tiles]).encode() + images).hexdigest()

    @classmethod
    def read(cls, store: Store, images: int) -> "ScanManifest | None":
        """Read the manifest of a run directory; None if it is missing or damaged.

        Args:
            store: store of the run.
            images: number of images in the folder, which limits the size of the file.

        Raises:
            StorageError: the file cannot be read or is too large.
        """
        content = store.folder.read_if_there(store.example_list, most_bytes(store.folder) + IMAGE_BYTES * images)
        try:
            first, _, second = (content or b"").partition(b"\n")
            header = _HEADER.validate_json(first, strict=True)
            manifest = cls(header.settings.plain(), ImageIndex.from_json(second), header.tiles)
        except ValueError:  # includes pydantic's ValidationError
            return None
        is_intact = header.sha256 in (None, manifest._file_checksum(second))
        return manifest if is_intact and len(manifest.row_of) == sum(map(len, manifest.tiles)) else None


@dataclass(frozen=True)
class ManifestBuilder:
    """Creates, extends or awaits the manifest of a request.

    Args:
        store: store of the run.
        request: requested examples.
        scorer: scorer of the run.
        plan: plan of the run.
        listing: current files of the folder.
    """

    store: Store
    request: ExamplesRequest
    scorer: ActivationScorer
    plan: Plan
    listing: FolderListing

    def create_or_extend(self, echo: Echo) -> ScanManifest:
        """Extend the manifest on disk, or replace it by a new one if that is not possible; write it in both cases.

        Args:
            echo: prints a line.
        """
        before = ScanManifest.read(self.store, len(self.listing.images))
        manifest = None
        if before is not None:
            manifest, reason = self._extended(before)
            if manifest is None:
                echo(f"all images are scanned again: {reason}")
                for path in found_files(self.store.folder):
                    self.store.folder.remove(path)
            elif manifest.tiles != before.tiles:
                new = len(manifest.row_of) - len(before.row_of)
                echo(f"{plural(new, 'new tile')}: earlier images are scanned for these only")
        elif self.store.folder.has(self.store.example_list):
            echo(f"all images are scanned again: {self.store.example_list} is damaged")
        if manifest is None:
            images = ImageIndex().extended(self.request.images, self.listing)
            assert images is not None
            manifest = ScanManifest(self._settings(before), images, (tuple(self.scorer.queries),))
        manifest.write(self.store)
        return manifest

    def wait(self, stamp_before: tuple[int, ...] | None, worker: Worker, stop: Stop) -> ScanManifest:
        """Wait for the manifest of the first worker. featlight's own launcher starts other workers only after it.

        Args:
            stamp_before: stamp of the file when this worker started.
            worker: this worker.
            stop: request to stop, checked regularly.
        """
        while True:
            manifest = ScanManifest.read(self.store, len(self.listing.images))
            if manifest is not None and self._fits_request(manifest):
                is_new = self.store.folder.stamp(self.store.example_list) != stamp_before
                if worker.launcher == LAUNCHER or is_new or manifest.images.matches(self.listing):
                    return manifest
            stop.check()
            time.sleep(POLL_SECONDS)

    def _settings(self, before: ScanManifest | None) -> dict[str, Any]:
        """Return the requested settings as JSON types; `auto` keeps the batch size of a scan of this folder and fit."""
        settings = next(iter(self.plan.settings.values()))
        folder = self.request.images.resolve()
        most = GPU_SCORED if self.scorer.device.type == "cuda" else CPU_SCORED
        automatic = images_at_once(most, self.scorer.fit.size)
        values = ScanSettings(
            folder=str(folder) if is_text(str(folder)) else folder.as_uri(),
            fit=self.scorer.fit,
            batch_size=automatic if self.request.batch_size == "auto" else self.request.batch_size,
            top=self.request.top,
            network=self.plan.network.sha256,
            preparation=self.scorer.preparation,
            normalize=str(settings.normalize),
            precision=settings.precision,
        ).plain()
        if self.request.batch_size == "auto" and before is not None:
            is_same_scan = all(before.settings[key] == values[key] for key in ("folder", "fit"))
            values |= {"batch_size": before.settings["batch_size"]} if is_same_scan else {}
        return values

    def _extended(self, before: ScanManifest) -> tuple[ScanManifest | None, str]:
        """Add new images and tiles to a manifest; None and the reason if the scan must start again."""
        settings = self._settings(before)
        changed = [key for key, value in settings.items() if before.settings.get(key) != value]
        if changed:
            return None, f"{', '.join(changed)} changed"
        tiles = _extended_tiles(before.tiles, self.scorer.queries)
        if tiles is None:
            return None, "a tile of the earlier scan is gone"
        images = before.images.extended(self.request.images, self.listing)
        if images is None:
            return None, "an image of the earlier scan has changed or is gone"
        return ScanManifest(settings, images, tiles), ""

    def _fits_request(self, manifest: ScanManifest) -> bool:
        return (
            manifest.settings == self._settings(manifest)
            and _extended_tiles(manifest.tiles, self.scorer.queries) == manifest.tiles
        )


def images_at_once(most: int, size: ImageSize | None) -> int:
    """Return how many images are processed at once; it falls with their pixels, so that memory does not grow.

    Args:
        most: number of images of up to 320 x 320 pixels.
        size: size of the images; None if they are processed one at a time, at their own sizes.
    """
    return most if size is None else min(most, max(1, most * SCORED_PIXELS // pixels_of(size)))


def _extended_tiles(tiles: KeyParts, keys: Keys[str]) -> KeyParts | None:
    """Add a part with the new keys, if any; None if an earlier key is gone."""
    before = {key for part in tiles for key in part}
    if not before <= set(keys):
        return None
    new = tuple(key for key in keys if key not in before)
    return (*tiles, new) if new else tiles


def _digest(values: Any) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
