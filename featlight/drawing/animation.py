"""Animations: a feature that grows neuron by neuron, and an image that is optimized octave by octave.

frames = growth_frames(cells, positions, (17, 17), title="Mixed_6b feature 654", mark=True)
Path("654.webp").write_bytes(encode_animation(frames, milliseconds=80, format="WEBP"))
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Literal

from PIL import Image, ImageDraw

from featlight.config.image_shape import ImageSize, fitted, image_size, shape_words
from featlight.drawing.sheet import INK, PAPER, Cell, Sheet, TextLine, caption_color, draw_sheet
from featlight.drawing.text import RGB, leading, shorten

NEWEST: RGB = (255, 122, 0)
GROWN: RGB = (138, 138, 144)
WAITING: RGB = (226, 226, 228)


def encode_animation(
    frames: Iterable[Image.Image],
    *,
    milliseconds: int,
    format: Literal["WEBP", "GIF"],
    hold_last_ms: int | None = None,
    quality: int = 82,
) -> bytes:
    """Encode frames as an animation that loops forever. The same frames give the same bytes.

    Equal successive frames are merged into one with their total duration.

    Args:
        frames: frames of the same size.
        milliseconds: duration of a frame; a GIF rounds it to 10 ms.
        format: WebP, or GIF for programs that cannot show WebP (256 colors a frame, several times larger).
        hold_last_ms: duration of the last frame; None for `milliseconds`.
        quality: WebP quality, from 0 to 100.

    Raises:
        ValueError: there are no frames, they differ in size, or a duration is out of range.
    """
    last_ms = milliseconds if hold_last_ms is None else hold_last_ms
    for name, time in (("milliseconds", milliseconds), ("hold_last_ms", last_ms)):
        if not 20 <= time <= 60_000:
            raise ValueError(f"{name}: {time} given; 20 to 60000 are allowed")
    pictures: list[Image.Image] = []
    for frame in frames:
        picture = frame.convert("RGB")
        picture.info.clear()  # a color profile or a comment would change the bytes of the file
        pictures.append(picture if format == "WEBP" else _with_palette(picture))
        if picture.size != pictures[0].size:
            raise ValueError(f"frame {len(pictures) - 1} is {picture.size} pixels, those before are {pictures[0].size}")
    if not pictures:
        raise ValueError("an animation needs at least one frame")
    times = [milliseconds] * (len(pictures) - 1) + [last_ms]
    first, *rest = pictures
    buffer = io.BytesIO()
    if format == "WEBP":
        options = {"quality": quality, "method": 5, "kmax": 1}  # only key frames, so that losses do not accumulate
        first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=times, loop=0, **options)
    else:
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=False)
    return buffer.getvalue()


def _with_palette(picture: Image.Image) -> Image.Image:
    """Quantize to 256 colors, chosen for this picture."""
    tolerance = picture.width * picture.height // 100  # k-means stops when fewer pixels change their color
    return picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=tolerance)


def growth_frames(
    cells: Iterable[Cell],
    positions: Sequence[tuple[int, int]],
    map_size: tuple[int, int],
    *,
    title: str,
    mark: bool = False,
    size: int = 384,
) -> Iterator[Image.Image]:
    """Draw the frames of a growing feature: each adds one neuron, which a small map shows.

    Args:
        cells: one cell for each position; opened one at a time, and marked as in the atlas.
        positions: row and column of the neuron that each frame adds.
        map_size: rows and columns of the activation map.
        title: line above the image; shortened if it is too long.
        mark: whether to outline the position of the new neuron on the image too.
        size: side of the square that images are scaled to, in pixels.

    Yields:
        RGB frames of the same size.

    Raises:
        ValueError: a position is outside the map, or the numbers of cells and positions differ.
    """
    rows, columns = map_size
    for row, column in positions:
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(f"position ({row}, {column}) given; the map has {rows} rows and {columns} columns")
    left, top = _image_corner(size)
    for number, (cell, (row, column)) in enumerate(zip(cells, positions, strict=True), 1):
        small_map = _small_map(positions[:number], map_size, round(0.15 * size))
        caption = f"neuron {number} of {len(positions)}"
        frame = _frame(cell, size, title, caption, f"row {row}, column {column}", small_map)
        if mark:
            width, height = _fitted_size(cell, size)
            corner = (left + (size - width) // 2, top + (size - height) // 2)
            _mark(frame, _neuron_box(row, column, map_size, (width, height)), corner)
        yield frame


def octave_frames(
    cells: Iterable[Cell], sizes: Sequence[ImageSize], *, title: str, start: bool = False, size: int = 384
) -> Iterator[Image.Image]:
    """Draw one frame for each octave of an optimization, all scaled to one size.

    Args:
        cells: images at the ends of the octaves.
        sizes: sizes of these images, in pixels.
        title: line above the image; shortened if it is too long.
        start: whether the first cell is the starting image.
        size: side of the square that images are scaled to, in pixels.

    Yields:
        RGB frames of the same size.

    Raises:
        ValueError: the numbers of cells and sizes differ.
    """
    for number, (cell, pixels) in enumerate(zip(cells, sizes, strict=True), 0 if start else 1):
        caption = f"octave {number} of {len(sizes) - start}" if number else "start"
        yield _frame(cell, size, title, caption, f"{shape_words(pixels)} px")


def _frame(
    cell: Cell, size: int, title: str, caption: str, note: str, beside: Image.Image | None = None
) -> Image.Image:
    """Draw an image, its title above it, and below it a caption, a note (or the reason of its mark) and a picture."""
    x, y = _image_corner(size)
    font_size = _font_size(size)
    inner = size - (beside.width + font_size if beside else 0)
    below = y + size + round(0.45 * font_size)
    text_lines = [
        TextLine(x, x - round(0.3 * font_size), shorten(title, font_size, size), font_size, INK, strong=True),
        TextLine(x, below, shorten(caption, font_size, inner), font_size, INK),
        TextLine(
            x,
            below + leading(font_size),
            shorten(cell.mark or note, font_size, inner),
            font_size,
            caption_color(cell),
        ),
    ]
    bottom = (
        y
        + size
        + max(round(0.45 * font_size) + 2 * leading(font_size), beside.height + round(0.7 * font_size) if beside else 0)
    )
    frame = draw_sheet(
        Sheet([cell], 1, size, x, y, size, size, 0, 1, text_lines, size + 2 * x, bottom + round(0.6 * x))
    )
    if beside:
        frame.paste(beside, (x + size - beside.width, y + size + round(0.7 * font_size)))
    return frame


def _font_size(size: int) -> int:
    """Return the size of all text, in pixels."""
    return max(12, round(size / 22))


def _image_corner(size: int) -> tuple[int, int]:
    """Return the position of the image's top left corner on the frame."""
    margin = max(10, round(size / 24))
    return margin, margin + round(1.35 * _font_size(size))


def _fitted_size(cell: Cell, side: int) -> tuple[int, int]:
    """Return width and height of a cell's picture, scaled to fit a square."""
    if cell.open is None:
        return side, side
    with cell.open() as image:
        height, width = fitted(image_size(image.height, image.width), side)
    return width, height


def _neuron_box(row: int, column: int, map_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a neuron's part of a picture (width, height): left, top, right and bottom, the last two exclusive."""
    (rows, columns), (width, height) = map_size, size
    return (
        column * width // columns,
        row * height // rows,
        (column + 1) * width // columns,
        (row + 1) * height // rows,
    )


def _mark(frame: Image.Image, neuron_box: tuple[int, int, int, int], corner: tuple[int, int]) -> None:
    """Outline a box in white between two dark lines, which is visible on any image."""
    (left, top, right, bottom), (x, y) = neuron_box, corner
    draw = ImageDraw.Draw(frame)
    for inset, color in ((-1, INK), (0, PAPER), (1, PAPER), (2, INK)):
        box = (x + left + inset, y + top + inset, x + right - 1 - inset, y + bottom - 1 - inset)
        if box[0] <= box[2] and box[1] <= box[3]:
            draw.rectangle(box, outline=color)


def _small_map(positions: Sequence[tuple[int, int]], map_size: tuple[int, int], side: int) -> Image.Image:
    """Draw the activation map as a small grid: optimized neurons in gray, the newest in orange."""
    rows, columns = map_size
    pitch = max(1, side // max(rows, columns))
    picture = Image.new("RGB", (columns * pitch, rows * pitch), PAPER)
    draw = ImageDraw.Draw(picture)
    gap = 1 if pitch >= 3 else 0
    grown = set(positions)
    for row, column in product(range(rows), range(columns)):
        left, top, right, bottom = _neuron_box(row, column, map_size, picture.size)
        color = GROWN if (row, column) in grown else WAITING
        if (row, column) == positions[-1]:
            color = NEWEST
        draw.rectangle((left, top, right - 1 - gap, bottom - 1 - gap), fill=color)
    return picture
