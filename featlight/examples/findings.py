"""What each worker has found so far in a pass over images, as it stands on disk."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from featlight.examples import histogram
from featlight.examples.state import CPU, Pass
from featlight.examples.top import NOBODY, Top
from featlight.store.examples import found_files
from featlight.store.paths import ARRAY_BYTES
from featlight.store.store import Store

Parts = tuple[int, ...]  # of the tiles, by number


@dataclass
class Findings:
    """What one worker has found.

    Args:
        worker: by name.
        top: on the worker's device.
        histogram: of all that was looked at, (T, BINS), int32, likewise.
        done: by part of the tiles, numbers of the chunks that were looked at for it.
        refused: by image number, why it was not looked at.
    """

    worker: str
    top: Top
    histogram: torch.Tensor
    done: list[set[int]]
    refused: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, known: Pass, worker: str, device: torch.device) -> "Findings":
        tiles = len(known.places)
        top = Top.empty(tiles, known.settings["top"], device)
        return cls(worker, top, histogram.empty(tiles, device), [set() for _ in known.tiles])

    def to(self, device: torch.device) -> "Findings":
        return replace(self, top=self.top.to(device), histogram=self.histogram.to(device))

    def write(self, store: Store, known: Pass) -> None:
        done = [sorted(numbers) for numbers in self.done]
        about = {"stamp": known.stamps[len(done)], "done": done, "refused": list(self.refused.items())}
        arrays = self.top.arrays() | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        store.write(store.example_findings(self.worker), save(arrays | {"histogram": self.histogram.cpu().numpy()}))

    @classmethod
    def read(cls, store: Store, worker: str, known: Pass) -> "Findings | None":
        """Those of a worker, on the CPU; None where there are none of this pass that are whole."""
        content = store.folder.read_if_there(store.example_findings(worker), ARRAY_BYTES)
        with suppress(SafetensorError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            arrays = load(content or b"")
            about = json.loads(arrays.pop("about").tobytes())
            counts = torch.from_numpy(arrays.pop("histogram").copy())
            top = Top(**{key: torch.from_numpy(values.copy()) for key, values in arrays.items()})
            refused = {int(number): str(why) for number, why in about["refused"]}
            done = [set(map(int, numbers)) for numbers in about["done"]]
            found = cls(worker, top, counts, done, refused)
            if about["stamp"] == known.stamps[len(done)] and found._is_of(known):
                return found._for_all_of(known)
        return None

    def _is_of(self, known: Pass) -> bool:
        tiles = len(known.keys(range(len(self.done))))
        shape, most = (tiles, known.settings["top"]), len(known.images.entries)
        numbers = [self.top.images, torch.tensor(list(self.refused) or [0])]
        return (
            (self.top.values.shape, self.top.images.shape) == (shape, shape)
            and (self.top.places.shape, self.histogram.shape) == ((*shape, 2), (tiles, histogram.BINS))
            and (self.top.values.dtype, self.top.images.dtype) == (torch.float64, torch.int64)
            and all(bool(((each >= NOBODY) & (each < most)).all()) for each in numbers)
            and set().union(*self.done) <= set(range(len(known.chunks)))
        )

    def _for_all_of(self, known: Pass) -> "Findings":
        """The same, with nothing found yet for the tiles that have come since."""
        new = len(known.places) - len(self.histogram)
        top = self.top.followed_by(Top.empty(new, known.settings["top"], CPU))
        counts = torch.cat([self.histogram, histogram.empty(new, CPU)])
        done = self.done + [set() for _ in known.tiles[len(self.done) :]]
        return replace(self, top=top, histogram=counts, done=done)

    @property
    def looks(self) -> set[tuple[int, int]]:
        """What was looked at: a part of the tiles and a chunk each."""
        return {(part, number) for part, numbers in enumerate(self.done) for number in numbers}


def every_finding(store: Store, known: Pass) -> list[Findings]:
    """Of all workers that have ever looked, none of which has seen what another one has.

    Where two have, after two commands at once say, those of the first count, and the other's work is done again.
    """
    every: list[Findings] = []
    done: set[tuple[int, int]] = set()
    for path in sorted(found_files(store.folder)):
        found = Findings.read(store, path.stem, known)
        if found is not None and not done & found.looks:
            every.append(found)
            done |= found.looks
    return every


def lacking(known: Pass, findings: Sequence[Findings]) -> dict[int, Parts]:
    """By the chunk's number, the parts of the tiles that nobody has looked at it for; none where that is done."""
    done: set[tuple[int, int]] = set().union(*(found.looks for found in findings))
    parts = range(len(known.tiles))
    left = {number: tuple(p for p in parts if (p, number) not in done) for number in range(len(known.chunks))}
    return {number: missing for number, missing in left.items() if missing}
