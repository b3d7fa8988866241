"""Sizes and channels of images, and how photographs are resized and cropped to a network's input size. No torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# The largest side that Pillow opens without a decompression-bomb warning, and that fits an atlas page
LARGEST_SIZE = 8192  # px
ImageSize = int | tuple[int, int]  # a square is always one number, so that equal sizes compare equal


def image_size(height: int, width: int) -> ImageSize:
    """Return the size of an image from its height and width."""
    return height if height == width else (height, width)


def both_sides(size: ImageSize) -> tuple[int, int]:
    """Return height and width."""
    return (size, size) if isinstance(size, int) else size


def size_words(size: ImageSize) -> str:
    """Return a size as text: `128`, or `96 x 128` (height first)."""
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"


def shape_words(size: ImageSize) -> str:
    """Return both sides as text: `128 x 128`."""
    height, width = both_sides(size)
    return f"{height} x {width}"


def size_key(size: ImageSize) -> str:
    """Return a size as a key: `128` or `96x128`."""
    return size_words(size).replace(" ", "")


def pixels_of(size: ImageSize) -> int:
    """Return the number of pixels."""
    height, width = both_sides(size)
    return height * width


def fitted(size: ImageSize, side: int) -> tuple[int, int]:
    """Return height and width after scaling the longer side to `side` pixels."""
    height, width = both_sides(size)
    longest = max(height, width)
    return max(1, round(side * height / longest)), max(1, round(side * width / longest))


def parse_size(given: Any) -> Any:
    """Parse a side, or height and width; other values are left to the caller's check.

    Raises:
        ValueError: the value is a list, but not of height and width.
    """
    if isinstance(given, list | tuple):
        if len(given) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in given):
            raise ValueError(f"size: {list(given)!r} given; a side, or [height, width], in pixels, is needed")
        return image_size(*given)
    return given


MOST_CHANNELS = 1024  # channels of an image


def parse_in_channels(given: Any) -> Any:
    """Parse `auto` or a number of channels.

    Raises:
        ValueError: the value is neither.
    """
    if given == "auto":
        return given
    try:
        count = 0 if isinstance(given, bool) else int(str(given))
    except ValueError:
        count = 0
    if not 1 <= count <= MOST_CHANNELS:
        raise ValueError(f"allowed: auto, or a whole number from 1 to {MOST_CHANNELS}")
    return count


def parse_shown(given: Any) -> Any:
    """Parse `auto`, one channel, or three for red, green and blue: `3,2,1`, or a list.

    Raises:
        ValueError: the value is none of these.
    """
    if given == "auto":
        return given
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    digits = [str(part).strip() for part in parts]
    chosen = [int(word) for word in digits if word.isascii() and word.isdecimal() and int(word) < MOST_CHANNELS]
    if len(chosen) != len(digits) or len(chosen) not in (1, 3):
        raise ValueError("allowed: auto, one channel, or three for red, green and blue as in 3,2,1, counted from 0")
    return tuple(chosen)


def shown_channels(asked: Any, channels: int) -> Sequence[int]:
    """Return the channels that a picture shows: one as gray, or three as red, green and blue.

    Args:
        asked: requested channels, or `auto`: the first three, or the first of one or two.
        channels: number of image channels.

    Raises:
        ValueError: the images have no such channel.
    """
    if asked == "auto":
        return (0, 1, 2) if channels >= 3 else (0,)
    for channel in asked:
        if channel >= channels:
            raise ValueError(f"channel {channel} given; images have {channels}, 0 to {channels - 1}")
    return tuple(asked)


FitWord = Literal["auto", "none"] | ImageSize


@dataclass(frozen=True)
class Fit:
    """A resolved way to resize and crop images.

    Args:
        size: input size in pixels; None to keep each image's own size.
        resize: length of the image's shorter side before the center crop, in pixels; None for the largest crop.
        interpolation: interpolation of the resize, `bilinear` or `bicubic`.
    """

    size: ImageSize | None = None
    resize: int | None = None
    interpolation: str = "bilinear"

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of an image after the resize and before the center crop."""
        if self.size is None:
            return height, width
        needed = both_sides(self.size)
        scale = max(needed[0] / height, needed[1] / width)
        if self.resize is not None:
            scale = max(scale, self.resize / min(height, width))
        # torchvision also rounds the longer side down
        return tuple(max(side, int(scale * each + 1e-6)) for side, each in zip(needed, (height, width), strict=True))  # type: ignore[return-value]

    def in_words(self) -> str:
        if self.size is None:
            return "each image as it is"
        first = "" if self.resize is None else f"shorter side to {self.resize} px, "
        return f"{first}middle {size_words(self.size)} px"


def parse_fit(given: Any) -> FitWord:
    """Parse `auto`, `none`, or a size as in 224 or 96x128.

    Raises:
        ValueError: the value is none of these.
    """
    if isinstance(given, list | tuple):
        given = "x".join(map(str, given))
    word = str(given).strip().lower()
    if word in ("auto", "none"):
        return "auto" if word == "auto" else "none"
    sides = re.fullmatch(r"(\d{1,5})(?:\s*x\s*(\d{1,5}))?", word)
    size = image_size(int(sides[1]), int(sides[2] or sides[1])) if sides else 0
    if not all(8 <= side <= LARGEST_SIZE for side in both_sides(size)):
        raise ValueError(f"fit: {given!r} given; allowed: auto, none, or a size in pixels, as in 224 or 96x128")
    return size
