"""What each worker of a scan has scored so far, on disk."""

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

from featlight.config.image_shape import LARGEST_SIZE
from featlight.examples import histogram
from featlight.examples.manifest import CPU, IMAGE_BYTES, ScanManifest
from featlight.examples.top_k import NO_IMAGE, TopK
from featlight.store.example_files import found_files
from featlight.store.guard.bounds import most_bytes
from featlight.store.store import Store

PartNumbers = tuple[int, ...]  # tile parts of the manifest
ImageNumber = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class _StateHeader:
    """Values beside the arrays on disk."""

    stamp: str
    done: list[set[ImageNumber]]
    refused: list[tuple[ImageNumber, str]]
    sha256: str | None = None  # checksum of all else in the file; earlier versions wrote none


_HEADER = TypeAdapter(_StateHeader)


@dataclass
class WorkerState:
    """Results of one worker.

    Args:
        worker: name of the worker.
        top: top k images of each tile.
        histogram: histogram of all scored images, (T, BINS), int32.
        done: numbers of the scored chunks, for each tile part.
        refused: reason of each image that could not be scored, by number.
    """

    worker: str
    top: TopK
    histogram: torch.Tensor
    done: list[set[int]]
    refused: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, manifest: ScanManifest, worker: str, device: torch.device) -> "WorkerState":
        tiles = len(manifest.row_of)
        top = TopK.empty(tiles, manifest.settings["top"], device)
        return cls(worker, top, histogram.empty(tiles, device), [set() for _ in manifest.tiles])

    def to(self, device: torch.device) -> "WorkerState":
        return replace(self, top=self.top.to(device), histogram=self.histogram.to(device))

    def write(self, store: Store, manifest: ScanManifest) -> None:
        done = [sorted(numbers) for numbers in self.done]
        header = {"stamp": manifest.stamps[len(done)], "done": done, "refused": list(self.refused.items())}
        arrays = self.top.arrays() | {"histogram": self.histogram.cpu().numpy()}
        text = json.dumps(header | {"sha256": _checksum(arrays, header)}).encode()
        store.write(store.example_findings(self.worker), save(arrays | {"about": np.frombuffer(text, np.uint8)}))

    @classmethod
    def read(cls, store: Store, worker: str, manifest: ScanManifest) -> "WorkerState | None":
        """Read the state of a worker, on the CPU; None if it is missing, damaged or of another scan."""
        tiles, top, images = len(manifest.row_of), manifest.settings["top"], len(manifest.images.entries)
        most = most_bytes(store.folder) + tiles * (32 * top + 4 * histogram.BINS) + IMAGE_BYTES * images
        content = store.folder.read_if_there(store.example_findings(worker), most)
        try:
            arrays = load(content or b"")
            text = arrays.pop("about").tobytes()
            header = _HEADER.validate_json(text, strict=True)
            if header.sha256 not in (None, _checksum(arrays, json.loads(text))):
                return None
            tensors = {key: torch.from_numpy(values.copy()) for key, values in arrays.items()}
            counts = tensors.pop("histogram")
            state = cls(worker, TopK(**tensors), counts, header.done, dict(header.refused))
        except (SafetensorError, ValueError, LookupError, TypeError):
            return None
        is_current = len(header.done) < len(manifest.stamps) and header.stamp == manifest.stamps[len(header.done)]
        return state._extended(manifest) if is_current and state._is_possible(manifest) else None

    def _is_possible(self, manifest: ScanManifest) -> bool:
        """Whether a scan with this manifest can have produced the state."""
        k, top = manifest.settings["top"], self.top
        tiles = len(manifest.keys(range(len(self.done))))
        expected = (
            (top.values, torch.float64, (tiles, k)),
            (top.images, torch.int64, (tiles, k)),
            (top.places, torch.int64, (tiles, k, 2)),
            (self.histogram, torch.int32, (tiles, histogram.BINS)),
        )
        if any((tensor.dtype, tensor.shape) != (dtype, shape) for tensor, dtype, shape in expected):
            return False
        chunks: set[int] = set().union(*self.done)
        if not chunks <= set(range(len(manifest.chunks))):
            return False
        scored = {NO_IMAGE, *(number for chunk in chunks for number in manifest.chunks[chunk])}
        return (
            bool(((top.values == -torch.inf) == (top.images == NO_IMAGE)).all())
            and not bool(top.values.isnan().any() | (top.values == torch.inf).any())
            and bool((top.values[:, 1:] <= top.values[:, :-1]).all())
            and scored >= {*top.images.flatten().tolist(), *self.refused}
            and bool(((top.places >= 0) & (top.places < LARGEST_SIZE)).all())
            and bool((self.histogram >= 0).all())
            and bool((self.histogram.sum(1) < len(scored)).all())
        )

    def _extended(self, manifest: ScanManifest) -> "WorkerState":
        """Add empty rows for the tile parts that were added since."""
        new = len(manifest.row_of) - len(self.histogram)
        top = self.top.with_rows(TopK.empty(new, manifest.settings["top"], CPU))
        counts = torch.cat([self.histogram, histogram.empty(new, CPU)])
        done = self.done + [set() for _ in manifest.tiles[len(self.done) :]]
        return replace(self, top=top, histogram=counts, done=done)

    @property
    def scored(self) -> set[tuple[int, int]]:
        """Scored pairs of tile part and chunk."""
        return {(part, number) for part, numbers in enumerate(self.done) for number in numbers}


def _checksum(arrays: "Mapping[str, np.ndarray[Any, Any]]", header: Mapping[str, Any]) -> str:
    rest = json.dumps({key: value for key, value in header.items() if key != "sha256"}, sort_keys=True)
    return sha256(b"".join([rest.encode(), *(arrays[key].tobytes() for key in sorted(arrays))])).hexdigest()


def read_states(store: Store, manifest: ScanManifest) -> list[WorkerState]:
    """Read the states of all workers of a scan, without overlaps.

    If two states overlap, as after two commands at once, the later one is dropped and its work is repeated.
    """
    states: list[WorkerState] = []
    scored: set[tuple[int, int]] = set()
    for path in sorted(found_files(store.folder)):
        state = WorkerState.read(store, path.stem, manifest)
        if state is not None and not scored & state.scored:
            states.append(state)
            scored |= state.scored
    return states


def missing_parts(manifest: ScanManifest, states: Sequence[WorkerState]) -> dict[int, PartNumbers]:
    """Return the tile parts that nobody has scored a chunk for, by chunk; without finished chunks."""
    scored: set[tuple[int, int]] = set().union(*(state.scored for state in states))
    parts = range(len(manifest.tiles))
    missing = {chunk: tuple(p for p in parts if (p, chunk) not in scored) for chunk in range(len(manifest.chunks))}
    return {chunk: left for chunk, left in missing.items() if left}
