"""A pass over a folder of images as it stands on disk: what it is over, and what each worker has found so far."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from featlight.config.inputs.fit import Fit
from featlight.examples import histogram
from featlight.examples.collection import Collection
from featlight.examples.top import NOBODY, Top
from featlight.store.examples import found_files
from featlight.store.paths import ARRAY_BYTES
from featlight.store.store import Store

LIST_BYTES = 4 << 30  # of the list of images; a million of them take 200 MB
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    """All that the values and the choice of examples hang on, besides the images.

    Args:
        folder: of the images, its full path.
        fit: how each is brought to the network.
        batch_size: images of a chunk.
        top: examples of each tile.
        network: its checksum.
        normalize: what is done to pixels, in words.
        precision: of the network.
        tiles: checksum of what the tiles look for.
    """

    folder: str
    fit: Fit
    batch_size: int
    top: int
    network: str
    normalize: str
    precision: str
    tiles: str

    def plain(self) -> dict[str, Any]:
        size = list(self.fit.size) if isinstance(self.fit.size, tuple) else self.fit.size
        return vars(self) | {"fit": vars(self.fit) | {"size": size}}


@dataclass(frozen=True)
class Pass:
    """What a pass is over.

    Args:
        settings: in JSON's own types.
        images: listed.
    """

    settings: dict[str, Any]
    images: Collection

    @cached_property
    def stamp(self) -> str:
        """What its findings carry: equal while the pass goes on, with more images too."""
        first = [entry.sha256 for entry in self.images.parts[0]]
        return sha256(json.dumps([self.settings, first], sort_keys=True).encode()).hexdigest()[:16]

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
        content = json.dumps({"format": 1, "settings": self.settings}, sort_keys=True)
        store.write(store.example_list, f"{content}\n{self.images.to_json()}\n".encode())

    @classmethod
    def read(cls, store: Store) -> "Pass | None":
        """The pass of a run directory; None where there is none that can be gone on with."""
        content = store.folder.read_if_there(store.example_list, LIST_BYTES)
        with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            head, images = (content or b"").decode().split("\n", 1)
            values = json.loads(head)
            if values["format"] == 1:
                return cls(dict(values["settings"]), Collection.from_json(images))
        return None


@dataclass
class Findings:
    """What one worker has found.

    Args:
        stamp: of the pass.
        worker: by name.
        top: on the worker's device.
        histogram: of all that was looked at, (T, BINS), int32, likewise.
        done: numbers of the chunks that are in it.
        refused: by image number, why it was not looked at.
    """

    stamp: str
    worker: str
    top: Top
    histogram: torch.Tensor
    done: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, known: Pass, worker: str, tiles: int, device: torch.device) -> "Findings":
        top = Top.empty(tiles, known.settings["top"], device)
        return cls(known.stamp, worker, top, histogram.empty(tiles, device))

    def to(self, device: torch.device) -> "Findings":
        return replace(self, top=self.top.to(device), histogram=self.histogram.to(device))

    def write(self, store: Store) -> None:
        about = {"stamp": self.stamp, "done": sorted(self.done), "refused": list(self.refused.items())}
        arrays = self.top.arrays() | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        store.write(store.example_findings(self.worker), save(arrays | {"histogram": self.histogram.cpu().numpy()}))

    @classmethod
    def read(cls, store: Store, worker: str, known: Pass, tiles: int) -> "Findings | None":
        """Those of a worker, on the CPU; None where there are none of this pass that are whole."""
        content = store.folder.read_if_there(store.example_findings(worker), ARRAY_BYTES)
        with suppress(SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            arrays = load(content or b"")
            about = json.loads(arrays.pop("about").tobytes())
            counts = torch.from_numpy(arrays.pop("histogram").copy())
            top = Top(**{key: torch.from_numpy(values.copy()) for key, values in arrays.items()})
            refused = {int(number): str(why) for number, why in about["refused"]}
            found = cls(str(about["stamp"]), worker, top, counts, set(map(int, about["done"])), refused)
            if found._is_of(known, tiles):
                return found
        return None

    def _is_of(self, known: Pass, tiles: int) -> bool:
        shape, most = (tiles, known.settings["top"]), len(known.images.entries)
        numbers = [self.top.images, torch.tensor(list(self.refused) or [0])]
        return (
            self.stamp == known.stamp
            and (self.top.values.shape, self.top.images.shape) == (shape, shape)
            and (self.top.places.shape, self.histogram.shape) == ((*shape, 2), (tiles, histogram.BINS))
            and (self.top.values.dtype, self.top.images.dtype) == (torch.float64, torch.int64)
            and all(bool(((each >= NOBODY) & (each < most)).all()) for each in numbers)
            and self.done <= set(range(len(known.chunks)))
        )


def every_finding(store: Store, known: Pass, tiles: int) -> list[Findings]:
    """Of all workers that have ever looked, none of which has seen what another one has.

    Where two have, after two commands at once say, those of the first count, and the other's work is done again.
    """
    every: list[Findings] = []
    done: set[int] = set()
    for path in sorted(found_files(store.folder)):
        found = Findings.read(store, path.stem, known, tiles)
        if found is not None and not done & found.done:
            every.append(found)
            done |= found.done
    return every


def left(known: Pass, findings: Sequence[Findings]) -> list[int]:
    """Numbers of the chunks that nobody has looked at."""
    done = {number for found in findings for number in found.done}
    return [number for number in range(len(known.chunks)) if number not in done]
