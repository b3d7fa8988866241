"""From an image file's bytes to the pixels that a network sees, by torch's DataLoader in processes of their own."""

import hashlib
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

from featlight.config.inputs.fit import Fit
from featlight.config.inputs.sizes import both_sides
from featlight.examples.collection import IMAGE_BYTES, Entry
from featlight.files import open_regular

Pixels = "np.ndarray[Any, Any]"
AHEAD = 2  # chunks that each process decodes before they are asked for
GRAY = (128, 128, 128)


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


def open_image(folder: Path, entry: Entry) -> Image.Image:
    """An image as people see it, RGB: upright as its EXIF says, transparency laid on gray, of 16 bits the upper eight.

    Raises:
        ValueError: it is damaged, another format, too large, or not what was listed; why, in a line.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of EXIF that is damaged: it then turns nothing
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_regular(folder / entry.name, IMAGE_BYTES, links=True) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                    raise ValueError("it has changed since it was listed")
                file.seek(0)
                with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as image:
                    return _as_seen(image)
    except UnidentifiedImageError:
        raise ValueError("no PNG, JPEG or WebP picture") from None
    except MemoryError:
        raise ValueError("too large for this machine's memory") from None
    except Exception as error:  # a damaged file may raise anything in a decoder
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from None


def _as_seen(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(image, np.int32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", whole.size, (*GRAY, 255)), whole).convert("RGB")
    return image.convert("RGB")


def fitted(image: Image.Image, fit: Fit) -> Image.Image:
    """An image as the network sees it: resized, and its middle taken."""
    if fit.size is None:
        return image
    height, width = fit.scaled(image.height, image.width)
    kind = Image.Resampling.BICUBIC if fit.interpolation == "bicubic" else Image.Resampling.BILINEAR
    scaled = image if (width, height) == image.size else image.resize((width, height), kind)
    left, top = middle(fit, height, width)
    needed = both_sides(fit.size)
    return scaled.crop((left, top, left + needed[1], top + needed[0]))


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
        self, folder: Path, entries: Sequence[Entry], chunks: Sequence[Sequence[int]], fit: Fit, channels: int
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
