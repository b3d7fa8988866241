"""A tile's examples in one picture: above each image's part that counts, below the whole image with that part outlined.

What a strip shows stands in its comment, so that it is drawn again only where that has changed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from PIL import Image, ImageDraw
from pydantic import Field, TypeAdapter

from featlight.config.inputs.sizes import fitted, image_size
from featlight.config.schema import MOST_TOP
from featlight.image_io import decode_jpeg, encode_jpeg, jpeg_comment
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import PICTURE_BYTES

SIDE = 112  # px of a cell; whole JPEG blocks
QUALITY = 85
MOST_PIXELS = MOST_TOP * SIDE * 2 * SIDE
GROUND = (128, 128, 128)
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


class ExampleTile(NamedTuple):
    """What a strip shows.

    Args:
        digest: of the examples.
        boxes: of each, in the pixels of its file.
    """

    digest: str
    boxes: tuple[Box, ...]


_Side = Annotated[int, Field(ge=0, lt=2**31)]
_SHOWN = TypeAdapter(tuple[str, tuple[tuple[_Side, _Side, _Side, _Side], ...]])


def draw_strip(crops: Sequence[Image.Image], wholes: Sequence[Image.Image], boxes: Sequence[Box]) -> Image.Image:
    """Draw a tile's examples, best first.

    Args:
        crops: the part of each image that counts.
        wholes: each image, of any size.
        boxes: of the parts in the wholes.
    """
    strip = Image.new("RGB", (SIDE * max(1, len(crops)), 2 * SIDE), GROUND)
    for place, (crop, whole, box) in enumerate(zip(crops, wholes, boxes, strict=True)):
        _paste(strip, _scaled(crop), place, 0)
        small = _scaled(whole)
        draw = ImageDraw.Draw(small)
        across, down = small.width / whole.width, small.height / whole.height
        left, top, right, bottom = box[0] * across, box[1] * down, box[2] * across - 1, box[3] * down - 1
        if box != (0, 0, whole.width, whole.height):
            for inset, color in ((-1, "black"), (0, "white"), (1, "black")):
                # a box of a pixel or two still is a box
                low = (max(left, 0) + inset, max(top, 0) + inset)
                draw.rectangle((*low, max(right - inset, low[0] + 1), max(bottom - inset, low[1] + 1)), outline=color)
        _paste(strip, small, place, 1)
    return strip


def _scaled(image: Image.Image) -> Image.Image:
    height, width = fitted(image_size(image.height, image.width), SIDE)
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def _paste(strip: Image.Image, cell: Image.Image, column: int, row: int) -> None:
    strip.paste(cell, (column * SIDE + (SIDE - cell.width) // 2, row * SIDE + (SIDE - cell.height) // 2))


def encode_strip(strip: Image.Image, shown: ExampleTile) -> bytes:
    """A JPEG that says what it shows."""
    return encode_jpeg(strip, QUALITY, comment=json.dumps(shown, separators=(",", ":")), full_color=True)


def what_is_shown(folder: RunFolder, path: Path) -> ExampleTile | None:
    """What the strip on disk shows; None where there is none, or a picture that says nothing."""
    content = folder.read_if_there(path, PICTURE_BYTES)
    try:
        return ExampleTile(*_SHOWN.validate_json(jpeg_comment(content or b"", MOST_PIXELS), strict=True))
    except ValueError:
        return None


def read_crop(folder: RunFolder, path: Path, place: int = 0) -> Image.Image:
    """The part that counts of one example, a square; gray where the strip is gone or damaged."""
    content = folder.read_if_there(path, PICTURE_BYTES)
    strip = decode_jpeg(content or b"", MOST_PIXELS)
    box = (place * SIDE, 0, (place + 1) * SIDE, SIDE)
    return Image.new("RGB", (SIDE, SIDE), GROUND) if strip is None else strip.crop(box)
