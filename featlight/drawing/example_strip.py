"""A tile's dataset examples as one JPEG: crops in the upper row, whole images with the crop outlined in the lower row.

The JPEG's comment says which examples it shows, so a strip is drawn again only when they change.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from PIL import Image, ImageDraw
from pydantic import Field, TypeAdapter

from featlight.config.image_shape import fitted, image_size
from featlight.config.schema import MOST_TOP
from featlight.image_io import decode_jpeg, encode_jpeg, jpeg_comment
from featlight.store.guard.run_folder import RunFolder
from featlight.store.paths import PICTURE_BYTES

SIDE = 112  # px of a cell; whole JPEG blocks
QUALITY = 85
MOST_PIXELS = MOST_TOP * SIDE * 2 * SIDE
GROUND = (128, 128, 128)
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


class MeasuredPaths(NamedTuple):
    """Path similarity of a tile.

    Args:
        digest: digest of the tile's picture and of the images that it was measured with.
        values: path similarity by layer.
    """

    digest: str
    values: Mapping[str, float]


class ExampleTile(NamedTuple):
    """Examples that a strip shows.

    Args:
        digest: digest of the examples.
        boxes: crop box of each example, in pixels of its image file.
        paths: path similarity of the tile to these examples; None if it was not measured.
    """

    digest: str
    boxes: tuple[Box, ...]
    paths: MeasuredPaths | None = None


_Side = Annotated[int, Field(ge=0, lt=2**31)]
_Boxes = tuple[tuple[_Side, _Side, _Side, _Side], ...]
_Paths = tuple[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]]
_SHOWN: TypeAdapter[Any] = TypeAdapter(tuple[str, _Boxes] | tuple[str, _Boxes, _Paths])


def draw_strip(crops: Sequence[Image.Image], wholes: Sequence[Image.Image], boxes: Sequence[Box]) -> Image.Image:
    """Draw a tile's examples, best first.

    Args:
        crops: part of each image in the receptive field.
        wholes: whole images of any size.
        boxes: boxes of the crops in the whole images.
    """
    strip = Image.new("RGB", (SIDE * max(1, len(crops)), 2 * SIDE), GROUND)
    for place, (crop, whole, box) in enumerate(zip(crops, wholes, boxes, strict=True)):
        _paste(strip, in_cell(crop), place, 0)
        small = in_cell(whole)
        draw = ImageDraw.Draw(small)
        across, down = small.width / whole.width, small.height / whole.height
        left, top, right, bottom = box[0] * across, box[1] * down, box[2] * across - 1, box[3] * down - 1
        if box != (0, 0, whole.width, whole.height):
            for inset, color in ((-1, "black"), (0, "white"), (1, "black")):
                # a box of one or two pixels must stay visible
                low = (max(left, 0) + inset, max(top, 0) + inset)
                draw.rectangle((*low, max(right - inset, low[0] + 1), max(bottom - inset, low[1] + 1)), outline=color)
        _paste(strip, small, place, 1)
    return strip


def in_cell(image: Image.Image) -> Image.Image:
    """Return a picture scaled to the size of a cell."""
    height, width = fitted(image_size(image.height, image.width), SIDE)
    return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def _paste(strip: Image.Image, cell: Image.Image, column: int, row: int) -> None:
    strip.paste(cell, (column * SIDE + (SIDE - cell.width) // 2, row * SIDE + (SIDE - cell.height) // 2))


def encode_strip(strip: Image.Image, shown: ExampleTile) -> bytes:
    """Encode a strip as a JPEG with the shown examples in its comment."""
    comment = shown if shown.paths is not None else shown[:2]
    return encode_jpeg(strip, QUALITY, comment=json.dumps(comment, separators=(",", ":")), full_color=True)


def what_is_shown(folder: RunFolder, path: Path) -> ExampleTile | None:
    """Return the examples that the strip on disk shows; None if it is missing or has no valid comment."""
    content = folder.read_if_there(path, PICTURE_BYTES)
    try:
        digest, boxes, *paths = _SHOWN.validate_json(jpeg_comment(content or b"", MOST_PIXELS), strict=True)
    except ValueError:
        return None
    return ExampleTile(digest, boxes, MeasuredPaths(*paths[0]) if paths else None)


def read_crop(folder: RunFolder, path: Path, place: int = 0) -> Image.Image:
    """Return the square crop of one example; a gray square if the strip is missing or damaged."""
    content = folder.read_if_there(path, PICTURE_BYTES)
    strip = decode_jpeg(content or b"", MOST_PIXELS)
    box = (place * SIDE, 0, (place + 1) * SIDE, SIDE)
    return Image.new("RGB", (SIDE, SIDE), GROUND) if strip is None else strip.crop(box)
