"""Image files decoded to the network's input, by DataLoader processes."""

import hashlib
import math
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from featlight.config.image_shape import Fit, both_sides
from featlight.distributed.signals import Stop
from featlight.errors import Interrupted
from featlight.examples.image_index import ImageEntry
from featlight.files import open_regular
from featlight.image_io import MOST_BYTES, bands, open_photograph

PREFETCH = 2  # items that each process decodes in advance
GRAY = (128, 128, 128)
HELD_BYTES = 1 << 26  # of an item with images of their own sizes; its further images are decoded when they are needed
MOST_PIXELS = 4096 * 4096  # of a resized image
MOST_UNFITTED = 2048 * 1024  # pixels of an image that is used unfitted; its gradient takes 300 bytes for each and more


@dataclass(frozen=True)
class DecodedChunk:
    """Images of one chunk.

    Args:
        number: number of the chunk.
        images: decoded images by number, (H, W, C), uint8, or functions that decode them.
        refused: reason by number of each image that could not be decoded.
    """

    number: int
    images: dict[int, Any]
    refused: dict[int, str]


def open_image(folder: Path, entry: ImageEntry) -> Image.Image:
    """Open an image as RGB: rotated by its EXIF orientation, on gray where transparent, the upper 8 of 16 bits.

    Raises:
        ValueError: the file is damaged, too large, changed or of another format; the message is one line.
    """
    try:
        with open_regular(folder / entry.name, MOST_BYTES, links=True) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                raise ValueError("it has changed since it was listed")
            file.seek(0)
            with open_photograph(file) as image:
                if image.mode == "RGB" and not image.has_transparency_data:
                    return image.copy()
                rgb = Image.new("RGB", image.size)
                for box, part in bands(image):
                    rgb.paste(_as_rgb(part), box)
                return rgb
    except OSError as error:
        raise ValueError(error.strerror or "it cannot be read") from None


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16-bit gray at 255
        return Image.fromarray((np.asarray(image, np.int32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", whole.size, (*GRAY, 255)), whole).convert("RGB")
    return image.convert("RGB")


def fitted(image: Image.Image, fit: Fit) -> Image.Image:
    """Resize an image and crop its center.

    Raises:
        ValueError: the fit keeps the image's size, and the image is too large.
    """
    if fit.size is None:
        if image.width * image.height > MOST_UNFITTED:
            raise ValueError(
                f"{image.width} x {image.height} pixels; without a fit at most {MOST_UNFITTED:,} are allowed; "
                "give --fit a size"
            )
        return image
    height, width = fit.scaled(image.height, image.width)
    kind = Image.Resampling.BICUBIC if fit.interpolation == "bicubic" else Image.Resampling.BILINEAR
    left, top = crop_offset(fit, height, width)
    needed = both_sides(fit.size)
    crop = (left, top, left + needed[1], top + needed[0])
    if width * height > MOST_PIXELS:
        return _resized_crop(image, (width, height), crop, kind)
    scaled = image if (width, height) == image.size else image.resize((width, height), kind)
    return scaled.crop(crop)


def _resized_crop(
    image: Image.Image, size: tuple[int, int], crop: tuple[int, int, int, int], kind: Image.Resampling
) -> Image.Image:
    """Resize to a size and crop, up to rounding, without computing pixels outside the crop."""
    scales = [before / after for before, after in zip(image.size, size, strict=True)]
    box = [side * scales[axis % 2] for axis, side in enumerate(crop)]
    reach = [2 + math.ceil(2 * max(1.0, scale)) for scale in scales]  # px that the filter reads outside the box
    starts = [max(0, math.floor(box[axis]) - reach[axis]) for axis in range(2)]
    ends = [min(image.size[axis], math.ceil(box[axis + 2]) + reach[axis]) for axis in range(2)]
    part = image.crop((starts[0], starts[1], ends[0], ends[1]))  # Pillow stores the box in single precision
    inside = [min(side - starts[axis % 2], part.size[axis % 2]) for axis, side in enumerate(box)]
    return part.resize((crop[2] - crop[0], crop[3] - crop[1]), kind, tuple(inside))  # type: ignore[arg-type]


def crop_offset(fit: Fit, height: int, width: int) -> tuple[int, int]:
    """Return left and top of the center crop in a resized image of this size."""
    if fit.size is None:
        return 0, 0
    needed = both_sides(fit.size)
    return round((width - needed[1]) / 2), round((height - needed[0]) / 2)


def network_input(image: Image.Image, fit: Fit, channels: int) -> Any:
    """Fit an image and return its pixels, (H, W, C), uint8.

    Raises:
        ValueError: see `fitted`.
    """
    pixels = np.array(fitted(image, fit).convert("L" if channels == 1 else "RGB"))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


class ChunkDataset(Dataset[DecodedChunk]):
    """Chunks of a scan, decoded on demand.

    Args:
        folder: folder of the images.
        entries: all images.
        chunks: image numbers of each chunk.
        fit: fit of every image.
        channels: channels of the network's input, 1 or 3.
    """

    def __init__(
        self, folder: Path, entries: Sequence[ImageEntry], chunks: Sequence[Sequence[int]], fit: Fit, channels: int
    ) -> None:
        self._folder, self._entries, self._chunks = folder, entries, chunks
        self._fit, self._channels = fit, channels

    def __getitem__(self, number: int) -> DecodedChunk:
        images: dict[int, Any] = {}
        refused: dict[int, str] = {}
        held = 0
        for image in self._chunks[number]:
            decode = partial(_decode, self._folder, self._entries[image], self._fit, self._channels)
            if self._fit.size is None and held > HELD_BYTES:
                images[image] = decode
                continue
            try:
                images[image] = decode()
                held += images[image].nbytes
            except ValueError as error:
                refused[image] = str(error)
        return DecodedChunk(number, images, refused)


def _decode(folder: Path, entry: ImageEntry, fit: Fit, channels: int) -> Any:
    return network_input(open_image(folder, entry), fit, channels)


def decoded(dataset: Dataset[Any], numbers: Iterable[int], processes: int) -> Iterator[Any]:
    """Decode items of a dataset, in the order of the numbers.

    Args:
        dataset: dataset of NumPy arrays; tensors would use shared memory, which containers often lack.
        numbers: numbers of the items; an iterator is read only as far as items are prefetched.
        processes: number of decoding processes; 0 for decoding in this process.
    """
    options: dict[str, Any] = {"prefetch_factor": PREFETCH, "worker_init_fn": ignore_signals} if processes else {}
    return iter(DataLoader(dataset, batch_size=None, sampler=numbers, num_workers=processes, **options))


@contextmanager
def decoder_errors(stop: Stop) -> Iterator[None]:
    """Turn the end of a decoding process into Interrupted; torch raises it anywhere in this process.

    A signal to all processes of a group, as `timeout` and schedulers send it, ends the decoding processes first.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        stop.check()
        raise Interrupted(
            "a decoding process was killed, or its memory was full; run the same command again to continue"
        ) from None


def ignore_signals(_: int) -> None:
    """Let a decoding process ignore the signals that stop its parent; it ends when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    torch.set_num_threads(1)
