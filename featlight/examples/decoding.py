"""From an image file's bytes to the pixels that a network sees, by torch's DataLoader in processes of their own."""

import hashlib
import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from featlight.config.inputs.fit import Fit
from featlight.config.inputs.sizes import both_sides
from featlight.examples.image_index import ImageEntry
from featlight.files import open_regular
from featlight.image_io import MOST_BYTES, bands, open_photograph

PixelArray = "np.ndarray[Any, Any]"
AHEAD = 2  # chunks that each process decodes before they are asked for
GRAY = (128, 128, 128)
MOST_MADE = 4096 * 4096  # pixels that scaling makes of an image, or that are given to the network where nothing does


@dataclass(frozen=True)
class Decoded:
    """The images of a chunk.

    Args:
        number: of the chunk.
        images: by number, (H, W, C), uint8.
        refused: by number, why there is no image.
    """

    number: int
    images: dict[int, Any]
    refused: dict[int, str]


def open_image(folder: Path, entry: ImageEntry) -> Image.Image:
    """An image as people see it, RGB: upright as its EXIF says, transparency laid on gray, of 16 bits the upper eight.

    Raises:
        ValueError: it is damaged, another format, too large, or not what was listed; why, in a line.
    """
    try:
        with open_regular(folder / entry.name, MOST_BYTES, links=True) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                raise ValueError("it has changed since it was listed")
            file.seek(0)
            with open_photograph(file) as image:
                if image.mode == "RGB" and not image.has_transparency_data:
                    return image.copy()
                seen = Image.new("RGB", image.size)
                for box, part in bands(image):
                    seen.paste(_as_seen(part), box)
                return seen
    except OSError as error:
        raise ValueError(error.strerror or "it cannot be read") from None


def _as_seen(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(image, np.int32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", whole.size, (*GRAY, 255)), whole).convert("RGB")
    return image.convert("RGB")


def fitted(image: Image.Image, fit: Fit) -> Image.Image:
    """An image as the network sees it: resized, and its middle taken.

    Raises:
        ValueError: it is given as it is, and too large.
    """
    if fit.size is None:
        if image.width * image.height > MOST_MADE:
            words = f"{image.width} x {image.height} pixels; at most {MOST_MADE:,} are looked at as they are"
            raise ValueError(f"{words}, and --fit with a size looks at any")
        return image
    height, width = fit.scaled(image.height, image.width)
    kind = Image.Resampling.BICUBIC if fit.interpolation == "bicubic" else Image.Resampling.BILINEAR
    left, top = middle(fit, height, width)
    needed = both_sides(fit.size)
    kept = (left, top, left + needed[1], top + needed[0])
    if width * height > MOST_MADE:
        return _resized_part(image, (width, height), kept, kind)
    scaled = image if (width, height) == image.size else image.resize((width, height), kind)
    return scaled.crop(kept)


def _resized_part(
    image: Image.Image, size: tuple[int, int], kept: tuple[int, int, int, int], kind: Image.Resampling
) -> Image.Image:
    """What resizing to a size and then cropping gives, but for rounding, and no more of it is made than is kept."""
    scales = [before / after for before, after in zip(image.size, size, strict=True)]
    box = [side * scales[axis % 2] for axis, side in enumerate(kept)]
    reach = [2 + math.ceil(2 * max(1.0, scale)) for scale in scales]  # px that the filter looks at beyond the box
    starts = [max(0, math.floor(box[axis]) - reach[axis]) for axis in range(2)]
    ends = [min(image.size[axis], math.ceil(box[axis + 2]) + reach[axis]) for axis in range(2)]
    part = image.crop((starts[0], starts[1], ends[0], ends[1]))  # as Pillow keeps the box in single precision
    inside = [min(side - starts[axis % 2], part.size[axis % 2]) for axis, side in enumerate(box)]
    return part.resize((kept[2] - kept[0], kept[3] - kept[1]), kind, tuple(inside))  # type: ignore[arg-type]


def middle(fit: Fit, height: int, width: int) -> tuple[int, int]:
    """Where the middle begins in an image of a size after it was resized: left, top."""
    if fit.size is None:
        return 0, 0
    needed = both_sides(fit.size)
    return round((width - needed[1]) / 2), round((height - needed[0]) / 2)


class Chunks(Dataset[Decoded]):
    """The chunks of a pass, each decoded when it is asked for.

    Args:
        folder: of the images.
        entries: of all images.
        chunks: by number, the numbers of their images.
        fit: of each.
        channels: of the images that the network takes, 1 or 3.
    """

    def __init__(
        self, folder: Path, entries: Sequence[ImageEntry], chunks: Sequence[Sequence[int]], fit: Fit, channels: int
    ) -> None:
        self._folder, self._entries, self._chunks, self._fit = folder, entries, chunks, fit
        self._mode = "L" if channels == 1 else "RGB"

    def __getitem__(self, number: int) -> Decoded:
        images: dict[int, Any] = {}
        refused: dict[int, str] = {}
        for each in self._chunks[number]:
            try:
                image = fitted(open_image(self._folder, self._entries[each]), self._fit).convert(self._mode)
                pixels = np.array(image)
                images[each] = pixels if pixels.ndim == 3 else pixels[:, :, None]
            except ValueError as error:
                refused[each] = str(error)
        return Decoded(number, images, refused)

    def loaded(self, numbers: Sequence[int], processes: int) -> Iterator[Decoded]:
        """Some chunks, in this order.

        Args:
            numbers: of the chunks.
            processes: that decode; 0 for this one itself.
        """
        options: dict[str, Any] = {"prefetch_factor": AHEAD, "worker_init_fn": deaf} if processes else {}
        # arrays and not tensors: those would lie in shared memory, of which a container may have next to none
        return iter(DataLoader(self, batch_size=None, sampler=list(numbers), num_workers=processes, **options))


def deaf(_: int) -> None:
    """A process that decodes does not hear what tells its parent to stop; it ends when that does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    torch.set_num_threads(1)
