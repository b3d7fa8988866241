"""What each worker has found so far in a pass over images, as it stands on disk."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, TypeAdapter
from safetensors import SafetensorError
from safetensors.numpy import load, save

from featlight.config.recipe import LARGEST_SIZE
from featlight.examples import histogram
from featlight.examples.manifest import CPU, IMAGE_BYTES, ScanManifest
from featlight.examples.top_k import NOBODY, TopK
from featlight.store.example_files import found_files
from featlight.store.guard.bounds import most_bytes
from featlight.store.store import Store

TileParts = tuple[int, ...]  # of the tiles, by number
ImageNumber = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class _About:
    """What stands beside the arrays on disk."""

    stamp: str
    done: list[set[ImageNumber]]
    refused: list[tuple[ImageNumber, str]]
    sha256: str | None = None  # of the arrays, and of the rest of this; an older version has written none


_ABOUT = TypeAdapter(_About)


@dataclass
class WorkerState:
    """What one worker has found.

    Args:
        worker: by name.
        top: on the worker's device.
        histogram: of all that was looked at, (T, BINS), int32, likewise.
        done: by part of the tiles, numbers of the chunks that were looked at for it.
        refused: by image number, why it was not looked at.
    """

    worker: str
    top: TopK
    histogram: torch.Tensor
    done: list[set[int]]
    refused: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, known: ScanManifest, worker: str, device: torch.device) -> "WorkerState":
        tiles = len(known.places)
        top = TopK.empty(tiles, known.settings["top"], device)
        return cls(worker, top, histogram.empty(tiles, device), [set() for _ in known.tiles])

    def to(self, device: torch.device) -> "WorkerState":
        return replace(self, top=self.top.to(device), histogram=self.histogram.to(device))

    def write(self, store: Store, known: ScanManifest) -> None:
        done = [sorted(numbers) for numbers in self.done]
        about = {"stamp": known.stamps[len(done)], "done": done, "refused": list(self.refused.items())}
        arrays = self.top.arrays() | {"histogram": self.histogram.cpu().numpy()}
        words = json.dumps(about | {"sha256": _checksum(arrays, about)}).encode()
        store.write(store.example_findings(self.worker), save(arrays | {"about": np.frombuffer(words, np.uint8)}))

    @classmethod
    def read(cls, store: Store, worker: str, known: ScanManifest) -> "WorkerState | None":
        """Those of a worker, on the CPU; None where there are none of this pass that are whole."""
        tiles, top, images = len(known.places), known.settings["top"], len(known.images.entries)
        most = most_bytes(store.folder) + tiles * (32 * top + 4 * histogram.BINS) + IMAGE_BYTES * images
        content = store.folder.read_if_there(store.example_findings(worker), most)
        try:
            arrays = load(content or b"")
            words = arrays.pop("about").tobytes()
            about = _ABOUT.validate_json(words, strict=True)
            if about.sha256 not in (None, _checksum(arrays, json.loads(words))):
                return None
            tensors = {key: torch.from_numpy(values.copy()) for key, values in arrays.items()}
            counts = tensors.pop("histogram")
            found = cls(worker, TopK(**tensors), counts, about.done, dict(about.refused))
        except (SafetensorError, ValueError, LookupError, TypeError):
            return None
        is_whole = len(about.done) < len(known.stamps) and about.stamp == known.stamps[len(about.done)]
        return found._for_all_of(known) if is_whole and found._is_of(known) else None

    def _is_of(self, known: ScanManifest) -> bool:
        """Whether all of it can have been found in this pass."""
        k, top = known.settings["top"], self.top
        tiles = len(known.keys(range(len(self.done))))
        shapes = (
            (top.values, torch.float64, (tiles, k)),
            (top.images, torch.int64, (tiles, k)),
            (top.places, torch.int64, (tiles, k, 2)),
            (self.histogram, torch.int32, (tiles, histogram.BINS)),
        )
        if any((each.dtype, each.shape) != (dtype, shape) for each, dtype, shape in shapes):
            return False
        looked: set[int] = set().union(*self.done)
        if not looked <= set(range(len(known.chunks))):
            return False
        seen = {NOBODY, *(number for chunk in looked for number in known.chunks[chunk])}
        return (
            bool(((top.values == -torch.inf) == (top.images == NOBODY)).all())
            and not bool(top.values.isnan().any() | (top.values == torch.inf).any())
            and bool((top.values[:, 1:] <= top.values[:, :-1]).all())
            and seen >= {*top.images.flatten().tolist(), *self.refused}
            and bool(((top.places >= 0) & (top.places < LARGEST_SIZE)).all())
            and bool((self.histogram >= 0).all())
            and bool((self.histogram.sum(1) < len(seen)).all())
        )

    def _for_all_of(self, known: ScanManifest) -> "WorkerState":
        """The same, with nothing found yet for the tiles that have come since."""
        new = len(known.places) - len(self.histogram)
        top = self.top.followed_by(TopK.empty(new, known.settings["top"], CPU))
        counts = torch.cat([self.histogram, histogram.empty(new, CPU)])
        done = self.done + [set() for _ in known.tiles[len(self.done) :]]
        return replace(self, top=top, histogram=counts, done=done)

    @property
    def looks(self) -> set[tuple[int, int]]:
        """What was looked at: a part of the tiles and a chunk each."""
        return {(part, number) for part, numbers in enumerate(self.done) for number in numbers}


def _checksum(arrays: "Mapping[str, np.ndarray[Any, Any]]", about: Mapping[str, Any]) -> str:
    rest = json.dumps({key: value for key, value in about.items() if key != "sha256"}, sort_keys=True)
    return sha256(b"".join([rest.encode(), *(arrays[key].tobytes() for key in sorted(arrays))])).hexdigest()


def all_worker_states(store: Store, known: ScanManifest) -> list[WorkerState]:
    """Of all workers that have ever looked, none of which has seen what another one has.

    Where two have, after two commands at once say, those of the first count, and the other's work is done again.
    """
    every: list[WorkerState] = []
    done: set[tuple[int, int]] = set()
    for path in sorted(found_files(store.folder)):
        found = WorkerState.read(store, path.stem, known)
        if found is not None and not done & found.looks:
            every.append(found)
            done |= found.looks
    return every


def lacking(known: ScanManifest, findings: Sequence[WorkerState]) -> dict[int, TileParts]:
    """By the chunk's number, the parts of the tiles that nobody has looked at it for; none where that is done."""
    done: set[tuple[int, int]] = set().union(*(found.looks for found in findings))
    parts = range(len(known.tiles))
    left = {number: tuple(p for p in parts if (p, number) not in done) for number in range(len(known.chunks))}
    return {number: missing for number, missing in left.items() if missing}
