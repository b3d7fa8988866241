"""A tile scaled to a square, or the pattern of its mark if it is dead, failed or missing."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from featlight.drawing.text import RGB

PANEL: RGB = (244, 244, 242)
HAIRLINE: RGB = (196, 196, 200)
WHITE = 249  # of 255; a tile with a higher mean looks like an empty place, so it gets a frame
MARKS: dict[str, RGB] = {"dead": (150, 98, 20), "failed": (178, 42, 36), "missing": (62, 100, 140)}


def square_tile(tile: Image.Image | None, kind: str, side: int) -> Image.Image:
    """Draw a whole tile in a square, under the pattern of its mark.

    Args:
        tile: tile to draw; None if there is nothing to show.
        kind: kind of the mark; "" for none.
        side: side of the square, in pixels.
    """
    if tile is None:
        return _panel(None, kind, side)
    square = _square(tile, side)
    if kind:
        return _panel(square, kind, side)
    if np.asarray(square).sum(0).sum(0).min() > WHITE * side**2:  # (S, S, 3): the darkest channel's mean
        _frame(square)
    return square


def _square(image: Image.Image, side: int) -> Image.Image:
    """Scale an image to fit a square: repeat its pixels if the factor is whole, else interpolate."""
    image = image.convert("RGB")
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if scale < 1:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    elif scale > 1:
        even = scale == int(scale)
        image = image.resize(size, Image.Resampling.NEAREST if even else Image.Resampling.BICUBIC)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), PANEL)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _panel(image: Image.Image | None, kind: str, side: int) -> Image.Image:
    """Draw the pattern of a mark on a pale square, over a faint gray copy of the image if there is one."""
    panel = Image.new("RGB", (side, side), PANEL)
    if image is not None:
        panel = Image.blend(panel, image.convert("L").convert("RGB"), 0.22)
    panel.paste(MARKS.get(kind, HAIRLINE), mask=_pattern(kind, side))
    _frame(panel)
    return panel


def _frame(square: Image.Image) -> None:
    side = square.width
    ImageDraw.Draw(square).rectangle((0, 0, side - 1, side - 1), outline=HAIRLINE, width=max(1, round(side / 190)))


@lru_cache(maxsize=16)
def _pattern(kind: str, side: int) -> Image.Image:
    """Return the mask of a mark: hatching for dead, a cross for failed, a ring for missing."""
    large = 4 * side  # reduced at the end, which smooths the lines
    mask = Image.new("L", (large, large))
    draw = ImageDraw.Draw(mask)
    width = max(4, large // 100)
    if kind == "dead":
        step = large // min(9, max(3, side // 16))
        for start in range(step // 2 - large, large, step):
            draw.line((start, large, start + large, 0), fill=150, width=width)
    near, far = large // 4, large - large // 4
    if kind == "failed":
        draw.line((near, near, far, far), fill=230, width=2 * width)
        draw.line((near, far, far, near), fill=230, width=2 * width)
    if kind == "missing":
        draw.ellipse((near, near, far, far), outline=230, width=2 * width)
    return mask.resize((side, side), Image.Resampling.BOX)
