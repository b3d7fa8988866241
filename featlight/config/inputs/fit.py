"""How photographs are resized and cropped to a network's input size. No torch."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from featlight.config.inputs.sizes import ImageSize, both_sides, image_size, size_words
from featlight.config.recipe import LARGEST_SIZE

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
