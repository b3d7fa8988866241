"""Pictures of each tile's examples: the receptive field cropped, and outlined in the whole image."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from featlight.config.image_shape import Fit, both_sides
from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.drawing.example_strip import (
    QUALITY,
    SIDE,
    Box,
    ExampleTile,
    MeasuredPaths,
    draw_strip,
    encode_strip,
    in_cell,
    what_is_shown,
)
from featlight.engine.device import repeatable
from featlight.examples.decoding import HELD_BYTES, decoded, network_input, open_image
from featlight.examples.image_index import ImageEntry
from featlight.examples.manifest import ScanManifest, images_at_once
from featlight.examples.paths import PathMeasure, Ranks
from featlight.examples.receptive_fields import in_source, measure_receptive_fields, squared
from featlight.examples.scorer import ActivationScorer
from featlight.examples.top_k import NO_IMAGE, TopK
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.store import Store

LARGE = 4 * SIDE  # px, longer side of a whole image until it is drawn
MOST_IN_BATCH = 16  # images of one backward pass, of larger ones fewer


class RankedExample(NamedTuple):
    """One example of a tile: image number, activation, row and column of the strongest neuron."""

    image: int
    value: float
    neuron: tuple[int, int]


def ranked_examples(top: TopK, row: int) -> list[RankedExample]:
    """Return the examples of one tile, best first."""
    columns = zip(top.images[row].tolist(), top.values[row].tolist(), top.places[row].tolist(), strict=True)
    return [RankedExample(image, value, (y, x)) for image, value, (y, x) in columns if image != NO_IMAGE]


def _digest(examples: Sequence[RankedExample], key: str, manifest: ScanManifest) -> str:
    """Return a checksum of everything that the picture of a query's examples depends on."""
    contents = [(manifest.images.entries[example.image].sha256, example.neuron) for example in examples]
    settings = json.dumps(manifest.settings, sort_keys=True)
    return sha256(repr((contents, key, settings, SIDE, QUALITY)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _DecodedExample:
    """One example's image.

    Args:
        pixels: input of the network, (H, W, C), uint8.
        small: small copy of the whole image, (H, W, 3), uint8.
        size: height and width of the file.
    """

    pixels: Any
    small: Any
    size: tuple[int, int]


class _ExampleDataset(Dataset[list[Any]]):
    """Images of each tile's examples: a `_DecodedExample`, a function that decodes it, or None if it is unreadable."""

    def __init__(
        self, manifest: ScanManifest, scorer: ActivationScorer, examples: Sequence[Sequence[RankedExample]]
    ) -> None:
        self._folder, self._entries, self._examples = manifest.folder, manifest.images.entries, examples
        self._fit, self._channels = scorer.fit, scorer.channels

    def __getitem__(self, tile: int) -> list[Any]:
        images: list[Any] = []
        held = 0
        for example in self._examples[tile]:
            decode = partial(_decode, self._folder, self._entries[example.image], self._fit, self._channels)
            images.append(decode if self._fit.size is None and held > HELD_BYTES else decode())
            held += images[-1].pixels.nbytes if isinstance(images[-1], _DecodedExample) else 0
        return images


def _decode(folder: Path, entry: ImageEntry, fit: Fit, channels: int) -> _DecodedExample | None:
    try:
        image = open_image(folder, entry)
        pixels = network_input(image, fit, channels)
    except ValueError:
        return None
    size = image.height, image.width
    image.thumbnail((LARGE, LARGE), Image.Resampling.BICUBIC)
    return _DecodedExample(pixels, np.array(image), size)


def draw_pictures(
    store: Store,
    plan: Plan,
    manifest: ScanManifest,
    scorer: ActivationScorer,
    top: TopK,
    worker: Worker,
    stop: Stop,
    processes: int,
    *,
    paths: bool = False,
) -> dict[str, ExampleTile]:
    """Draw the missing pictures. Workers start at different tiles and skip finished ones.

    Args:
        store: store of the run.
        plan: plan of the run.
        manifest: manifest of the scan.
        scorer: scorer of the run.
        top: top k of all images.
        worker: this worker.
        stop: request to stop, checked before every tile.
        processes: decoding processes; 0 for decoding in this process.
        paths: whether to measure the path similarity of each tile.

    Returns:
        What is shown of each tile, by the tile's file: the box of each example's receptive field in the pixels of its
        file, and the path similarity, if it is up to date.
    """
    # by layer: the network is truncated anew for each
    tiles = sorted(plan.tiles, key=lambda planned: scorer.layers.index(planned.tile.terms[0].output))
    first = worker.rank * len(tiles) // worker.world_size
    tiles = tiles[first:] + tiles[:first]
    keys = [scorer.keys[planned.file] for planned in tiles]
    examples = [ranked_examples(top, manifest.row_of[key]) for key in keys]
    digests = [_digest(ranked, key, manifest) for ranked, key in zip(examples, keys, strict=True)]
    measure = PathMeasure(store, manifest, scorer, store.records())
    shown: dict[str, ExampleTile] = {}
    prefetched: list[int] = []

    def missing() -> Iterator[int]:
        for i, planned in enumerate(tiles):
            stop.check()
            strip = what_is_shown(store.folder, store.example_path(planned.file))
            current = measure.digest(planned, digests[i])
            if strip is not None and strip.paths is not None and strip.paths.digest != current:
                strip = strip._replace(paths=None)
            is_measured = not paths or current is None or (strip is not None and strip.paths is not None)
            if strip is None or strip.digest != digests[i] or len(strip.boxes) != len(examples[i]) or not is_measured:
                prefetched.append(i)
                yield i
            else:
                shown[planned.file] = strip

    with repeatable(1):
        for images in decoded(_ExampleDataset(manifest, scorer, examples), missing(), processes):
            i = prefetched.pop(0)
            digest = measure.digest(tiles[i], digests[i]) if paths else None
            own: list[Ranks] = []
            keep = None if digest is None else partial(measure.keep, tiles[i], own)
            picture, boxes = _picture(tiles[i], scorer, examples[i], images, keep)
            values = {} if digest is None else measure.values(tiles[i], own, {each.image for each in examples[i]})
            found = None if digest is None else MeasuredPaths(digest, values)
            shown[tiles[i].file] = ExampleTile(digests[i], boxes, found)
            store.write(store.example_path(tiles[i].file), encode_strip(picture, shown[tiles[i].file]))
    return shown


def _picture(
    planned: PlannedTile,
    scorer: ActivationScorer,
    examples: Sequence[RankedExample],
    images: Sequence[Any],
    keep: Callable[[torch.Tensor], object] | None = None,
) -> tuple[Image.Image, tuple[Box, ...]]:
    """Draw a tile's examples; also return the box of each receptive field in its file.

    Args:
        planned: tile.
        scorer: scorer of the run.
        examples: its examples.
        images: decoded images of the examples.
        keep: function that is called with each readable image as the network takes it, (1, C, H, W).
    """
    crops, wholes, outlines, boxes = [], [], [], []
    for image, field in _with_receptive_fields(planned, scorer, examples, images):
        if image is None:
            crops.append(Image.new("RGB", (SIDE, SIDE)))
            wholes.append(crops[-1])
            outlines.append((0, 0, SIDE, SIDE))
            boxes.append((0, 0, 0, 0))
            continue
        if keep is not None:
            keep(image.pixels)
        crops.append(in_cell(image.fed.crop(squared(field, image.fed.size))))
        wholes.append(Image.fromarray(image.small))
        box = in_source(field, scorer.fit, scorer.input_size, image.size)
        scale = wholes[-1].width / image.size[1], wholes[-1].height / image.size[0]
        outlines.append(tuple(round(side * scale[i % 2]) for i, side in enumerate(box)))  # type: ignore[arg-type]
        boxes.append(box)
    return draw_strip(crops, wholes, outlines), tuple(boxes)


class _FedExample(NamedTuple):
    """An image as the network takes it: a batch of one, (1, C, H, W), and a picture; its small copy, and its size."""

    pixels: torch.Tensor
    fed: Image.Image
    small: Any
    size: tuple[int, int]


def _fed(image: _DecodedExample | None, scorer: ActivationScorer) -> _FedExample | None:
    if image is None:
        return None
    fed = Image.fromarray(image.pixels.squeeze(2) if image.pixels.shape[2] == 1 else image.pixels)
    if scorer.input_size is not None:
        fed = fed.resize(both_sides(scorer.input_size)[::-1], Image.Resampling.BICUBIC)
    return _FedExample(scorer.pixels([image.pixels]), fed, image.small, image.size)


def _with_receptive_fields(
    planned: PlannedTile, scorer: ActivationScorer, examples: Sequence[RankedExample], images: Sequence[Any]
) -> Iterator[tuple[_FedExample | None, Box]]:
    """Yield each example with its receptive field in the network's input; an empty box without an image."""
    term = planned.tile.terms[0]
    outputs = scorer.truncated_at(term.output)
    is_unfitted = scorer.fit.size is None and scorer.input_size is None
    step = 1 if is_unfitted else images_at_once(MOST_IN_BATCH, scorer.fit.size or scorer.input_size)
    for start in range(0, len(images), step):
        batch = [_fed(image() if callable(image) else image, scorer) for image in images[start : start + step]]
        fields: list[Box] = [(0, 0, 0, 0)] * len(batch)
        if readable := [(i, image) for i, image in enumerate(batch) if image is not None]:
            pixels = torch.cat([image.pixels for _, image in readable])  # (N, C, H, W)
            neurons = [examples[start + i].neuron for i, _ in readable]
            found = measure_receptive_fields(outputs, pixels, term, neurons, scorer.directions)
            for (i, _), field in zip(readable, found, strict=True):
                fields[i] = field
        yield from zip(batch, fields, strict=True)
