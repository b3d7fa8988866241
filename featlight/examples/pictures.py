"""The pictures of tiles' examples: each image's part that counts, cut out, and outlined in the whole."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.drawing.example_strip import QUALITY, SIDE, Box, ExampleTile, draw_strip, encode_strip, what_is_shown
from featlight.engine.device import repeatable
from featlight.examples.decoding import AHEAD, deaf, fitted, open_image
from featlight.examples.manifest import ScanManifest
from featlight.examples.scoring.receptive_fields import in_source, measure_receptive_fields, squared
from featlight.examples.scoring.scorer import ActivationScorer
from featlight.examples.top_k import NOBODY, TopK
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.store import Store

LARGE = 4 * SIDE  # px of the longer side that a whole image keeps until it is drawn
MOST_AT_ONCE = 16  # images whose gradients are taken together


class RankedExample(NamedTuple):
    """One example of a tile."""

    image: int  # number
    value: float
    neuron: tuple[int, int]


def ranked_examples(top: TopK, place: int) -> list[RankedExample]:
    """A tile's examples, best first."""
    rows = zip(top.images[place].tolist(), top.values[place].tolist(), top.places[place].tolist(), strict=True)
    return [RankedExample(image, value, (row, column)) for image, value, (row, column) in rows if image != NOBODY]


def digest_of(found: Sequence[RankedExample], key: str, known: ScanManifest) -> str:
    """Of all that a picture of examples shows, given the key of what the tile looks for."""
    contents = [(known.images.entries[each.image].sha256, each.neuron) for each in found]
    settings = json.dumps(known.settings, sort_keys=True)
    return sha256(repr((contents, key, settings, SIDE, QUALITY)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Read:
    """An example's image: as the network is given it, (H, W, C), uint8; small; and its height and width."""

    fed: Any
    small: Any
    size: tuple[int, int]


class _Tiles(Dataset[list[_Read | None]]):
    """The images of each tile's examples; None where one cannot be read any more."""

    def __init__(self, known: ScanManifest, scorer: ActivationScorer, found: Sequence[Sequence[RankedExample]]) -> None:
        self._folder, self._entries, self._found = known.folder, known.images.entries, found
        self._fit, self._mode = scorer.fit, "L" if scorer.channels == 1 else "RGB"

    def __getitem__(self, tile: int) -> list[_Read | None]:
        return [self._read(each.image) for each in self._found[tile]]

    def _read(self, number: int) -> _Read | None:
        try:
            image = open_image(self._folder, self._entries[number])
        except ValueError:
            return None
        fed = np.array(fitted(image, self._fit).convert(self._mode))
        small = image.copy()
        small.thumbnail((LARGE, LARGE), Image.Resampling.BICUBIC)
        return _Read(fed if fed.ndim == 3 else fed[:, :, None], np.array(small), (image.height, image.width))


def draw_pictures(
    store: Store,
    plan: Plan,
    known: ScanManifest,
    scorer: ActivationScorer,
    top: TopK,
    worker: Worker,
    stop: Stop,
    processes: int,
) -> dict[str, tuple[Box, ...]]:
    """Draw what is missing of the pictures; workers begin at different tiles, and none does what it finds done.

    Args:
        store: of the run.
        plan: of the run.
        known: the pass.
        scorer: of the run.
        top: the best of all images.
        worker: this one.
        stop: asked before every tile.
        processes: that decode; 0 for this one itself.

    Returns:
        By the tile's file, where each example's field lies in the pixels of its file.
    """
    # tiles of one layer together: the network is cut for each
    tiles = sorted(plan.tiles, key=lambda planned: scorer.layers.index(planned.tile.terms[0].output))
    first = worker.rank * len(tiles) // worker.world_size
    tiles = tiles[first:] + tiles[:first]
    keys = [scorer.keys[planned.file] for planned in tiles]
    found = [ranked_examples(top, known.places[key]) for key in keys]
    digests = [digest_of(each, key, known) for each, key in zip(found, keys, strict=True)]
    boxes: dict[str, tuple[Box, ...]] = {}

    def is_missing(i: int) -> bool:
        stop.check()
        shown = what_is_shown(store.folder, store.example_path(tiles[i].file))
        if shown is None or shown.digest != digests[i] or len(shown.boxes) != len(found[i]):
            return True
        boxes[tiles[i].file] = shown.boxes
        return False

    with repeatable(1):
        for i, read in _loaded(_Tiles(known, scorer, found), filter(is_missing, range(len(tiles))), processes):
            picture, own = _picture(tiles[i], scorer, found[i], read)
            store.write(store.example_path(tiles[i].file), encode_strip(picture, ExampleTile(digests[i], own)))
            boxes[tiles[i].file] = own
    return boxes


def _loaded(tiles: _Tiles, numbers: Iterator[int], processes: int) -> Iterator[tuple[int, list[_Read | None]]]:
    """The images of some tiles, whose numbers are asked for no further ahead than is decoded."""
    asked: list[int] = []

    def noted() -> Iterator[int]:
        for number in numbers:
            asked.append(number)
            yield number

    options: dict[str, Any] = {"prefetch_factor": AHEAD, "worker_init_fn": deaf} if processes else {}
    loader = DataLoader(tiles, batch_size=None, sampler=_Once(noted()), num_workers=processes, **options)
    for read in loader:
        yield asked.pop(0), read


class _Once:
    """Numbers as they come."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers

    def __iter__(self) -> Iterator[int]:
        return self._numbers


def _picture(
    planned: PlannedTile, scorer: ActivationScorer, found: Sequence[RankedExample], read: Sequence[_Read | None]
) -> tuple[Image.Image, tuple[Box, ...]]:
    """A tile's examples, drawn, and where each one's field lies in its file."""
    crops, wholes, small, boxes = [], [], [], []
    fields = _fields(planned, scorer, found, read)
    for each, field in zip(read, fields, strict=True):
        if each is None:
            crops.append(Image.new("RGB", (SIDE, SIDE)))
            wholes.append(crops[-1])
            small.append((0, 0, SIDE, SIDE))
            boxes.append((0, 0, 0, 0))
            continue
        fed, whole = (
            Image.fromarray(each.fed.squeeze(2) if each.fed.shape[2] == 1 else each.fed),
            Image.fromarray(each.small),
        )
        view = scorer.view if scorer.view is None or isinstance(scorer.view, tuple) else (scorer.view, scorer.view)
        if view is not None:
            fed = fed.resize((view[1], view[0]), Image.Resampling.BICUBIC)
        crops.append(fed.crop(squared(field, fed.size)))
        wholes.append(whole)
        box = in_source(field, scorer.fit, scorer.view, each.size)
        scale = whole.width / each.size[1], whole.height / each.size[0]
        small.append(tuple(round(side * scale[i % 2]) for i, side in enumerate(box)))  # type: ignore[arg-type]
        boxes.append(box)
    return draw_strip(crops, wholes, small), tuple(boxes)


def _fields(
    planned: PlannedTile, scorer: ActivationScorer, found: Sequence[RankedExample], read: Sequence[_Read | None]
) -> list[Box]:
    """Each example's receptive field in what the network is given."""
    term = planned.tile.terms[0]
    outputs = scorer.cut_at(term.output)
    fields: list[Box] = [(0, 0, 0, 0)] * len(found)
    places = [place for place, each in enumerate(read) if each is not None]
    at_once = 1 if scorer.fit.size is None and scorer.view is None else MOST_AT_ONCE
    for start in range(0, len(places), at_once):
        part = places[start : start + at_once]
        pixels = torch.cat([scorer.pixels([each.fed]) for place in part if (each := read[place]) is not None])
        boxes = measure_receptive_fields(
            outputs, pixels, term, [found[place].neuron for place in part], scorer.directions
        )
        for place, box in zip(part, boxes, strict=True):
            fields[place] = box
    return fields
