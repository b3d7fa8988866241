"""Moving pictures: how a feature grows, a neuron at a time, and how an image comes about, an octave at a time.

frames = growth_frames(cells, positions, (17, 17), title="Mixed_6b feature 654", mark=True)
Path("654.webp").write_bytes(encode_animation(frames, milliseconds=80, format="WEBP"))
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Literal

from PIL import Image, ImageDraw

from featlight.config.inputs.sizes import ImageSize, fitted, image_size, shape_words
from featlight.drawing.sheet import INK, PAPER, Cell, Run, Sheet, caption_color, draw_sheet
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
    """Encode frames as a file that loops for ever; the same frames give the same bytes.

    Frames that are alike become one that is shown as long as all of them.

    Args:
        frames: all of one size.
        milliseconds: for each frame; a GIF counts in steps of 10 ms.
        format: WebP, or GIF for what shows nothing else (256 colours a frame, several times larger).
        hold_last_ms: for the last frame instead, in milliseconds.
        quality: of WebP, from 0 to 100.

    Raises:
        ValueError: there are no frames, they differ in size, or they are shorter than browsers can show.
    """
    last_ms = milliseconds if hold_last_ms is None else hold_last_ms
    for name, time in (("milliseconds", milliseconds), ("hold_last_ms", last_ms)):
        if not 20 <= time <= 60_000:
            raise ValueError(f"{name}: {time} given; 20 to 60000 are allowed")
    pictures: list[Image.Image] = []
    for frame in frames:
        picture = frame.convert("RGB")
        picture.info.clear()  # a profile or a comment would be kept, and the same frames give other bytes
        pictures.append(picture if format == "WEBP" else _with_palette(picture))
        if picture.size != pictures[0].size:
            raise ValueError(f"frame {len(pictures) - 1} is {picture.size} pixels, those before are {pictures[0].size}")
    if not pictures:
        raise ValueError("an animation needs at least one frame")
    times = [milliseconds] * (len(pictures) - 1) + [last_ms]
    first, *rest = pictures
    buffer = io.BytesIO()
    if format == "WEBP":
        options = {"quality": quality, "method": 5, "kmax": 1}  # every frame whole: lossy ones must not add up
        first.save(buffer, "WEBP", save_all=True, append_images=rest, duration=times, loop=0, **options)
    else:
        first.save(buffer, "GIF", save_all=True, append_images=rest, duration=times, loop=0, optimize=False)
    return buffer.getvalue()


def _with_palette(picture: Image.Image) -> Image.Image:
    """In 256 colours of its own."""
    settled = picture.width * picture.height // 100  # once fewer pixels change their colour, it is good enough
    return picture.quantize(256, Image.Quantize.MEDIANCUT, kmeans=settled)


def growth_frames(
    cells: Iterable[Cell],
    positions: Sequence[tuple[int, int]],
    map_size: tuple[int, int],
    *,
    title: str,
    mark: bool = False,
    size: int = 384,
) -> Iterator[Image.Image]:
    """Frames of a feature's growth, one more neuron in each, with a small map of those that take part.

    Args:
        cells: one for each position; opened and drawn one at a time, marked ones as in the atlas.
        positions: row and column of each frame's newest neuron.
        map_size: rows and columns of the map that the positions count on.
        title: above the image; shortened to one line.
        mark: whether a frame around the newest neuron's place is drawn on the image too.
        size: side of the square that images are scaled to, in pixels.

    Yields:
        The frames, RGB, all of one size.

    Raises:
        ValueError: a position is outside the map, or there are more or fewer cells than positions.
    """
    rows, columns = map_size
    for row, column in positions:
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(f"position ({row}, {column}) given; the map has {rows} rows and {columns} columns")
    x, y = _image_corner(size)
    for number, (cell, (row, column)) in enumerate(zip(cells, positions, strict=True), 1):
        small_map = _small_map(positions[:number], map_size, round(0.15 * size))
        caption = f"neuron {number} of {len(positions)}"
        frame = _frame(cell, size, title, caption, f"row {row}, column {column}", small_map)
        if mark:
            shown = _size_shown(cell, size)
            _mark(frame, _place(row, column, map_size, shown), (x + (size - shown[0]) // 2, y + (size - shown[1]) // 2))
        yield frame


def octave_frames(
    cells: Iterable[Cell], sizes: Sequence[ImageSize], *, title: str, start: bool = False, size: int = 384
) -> Iterator[Image.Image]:
    """Frames of one descent, an octave in each, all scaled to one size.

    Args:
        cells: the image at the end of each octave.
        sizes: theirs, in pixels.
        title: above the image; shortened to one line.
        start: whether the first of them is what the descent started from, and no octave.
        size: side of the square that images are scaled to, in pixels.

    Yields:
        The frames, RGB, all of one size.

    Raises:
        ValueError: there are more or fewer cells than sizes.
    """
    for number, (cell, pixels) in enumerate(zip(cells, sizes, strict=True), 0 if start else 1):
        caption = f"octave {number} of {len(sizes) - start}" if number else "start"
        yield _frame(cell, size, title, caption, f"{shape_words(pixels)} px")


def _frame(
    cell: Cell, size: int, title: str, caption: str, note: str, beside: Image.Image | None = None
) -> Image.Image:
    """One image, its title above it, and below it a caption, a note (or why it is marked) and a small picture."""
    x, y = _image_corner(size)
    type_ = _type(size)
    inner = size - (beside.width + type_ if beside else 0)
    below = y + size + round(0.45 * type_)
    runs = [
        Run(x, x - round(0.3 * type_), shorten(title, type_, size), type_, INK, strong=True),
        Run(x, below, shorten(caption, type_, inner), type_, INK),
        Run(
            x,
            below + leading(type_),
            shorten(cell.mark or note, type_, inner),
            type_,
            caption_color(cell),
        ),
    ]
    bottom = (
        y + size + max(round(0.45 * type_) + 2 * leading(type_), beside.height + round(0.7 * type_) if beside else 0)
    )
    frame = draw_sheet(Sheet([cell], 1, size, x, y, size, size, 0, 1, runs, size + 2 * x, bottom + round(0.6 * x)))
    if beside:
        frame.paste(beside, (x + size - beside.width, y + size + round(0.7 * type_)))
    return frame


def _type(size: int) -> int:
    """Of all text, in pixels."""
    return max(12, round(size / 22))


def _image_corner(size: int) -> tuple[int, int]:
    """Where the image's top left corner is on the frame."""
    margin = max(10, round(size / 24))
    return margin, margin + round(1.35 * _type(size))


def _size_shown(cell: Cell, side: int) -> tuple[int, int]:
    """Width and height of a cell's picture in a square: all of it is visible."""
    if cell.open is None:
        return side, side
    with cell.open() as image:
        height, width = fitted(image_size(image.height, image.width), side)
    return width, height


def _place(row: int, column: int, map_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A neuron's share of a picture (width, height): left, top, right and bottom, the last two exclusive."""
    (rows, columns), (width, height) = map_size, size
    return (
        column * width // columns,
        row * height // rows,
        (column + 1) * width // columns,
        (row + 1) * height // rows,
    )


def _mark(frame: Image.Image, place: tuple[int, int, int, int], corner: tuple[int, int]) -> None:
    """A thin white frame between two dark ones, to be seen on any image."""
    (left, top, right, bottom), (x, y) = place, corner
    draw = ImageDraw.Draw(frame)
    for inset, color in ((-1, INK), (0, PAPER), (1, PAPER), (2, INK)):
        box = (x + left + inset, y + top + inset, x + right - 1 - inset, y + bottom - 1 - inset)
        if box[0] <= box[2] and box[1] <= box[3]:
            draw.rectangle(box, outline=color)


def _small_map(positions: Sequence[tuple[int, int]], map_size: tuple[int, int], side: int) -> Image.Image:
    """The map as a little chessboard: those that take part gray, the last of them bright."""
    rows, columns = map_size
    pitch = max(1, side // max(rows, columns))
    picture = Image.new("RGB", (columns * pitch, rows * pitch), PAPER)
    draw = ImageDraw.Draw(picture)
    gap = 1 if pitch >= 3 else 0
    grown = set(positions)
    for row, column in product(range(rows), range(columns)):
        left, top, right, bottom = _place(row, column, map_size, picture.size)
        color = GROWN if (row, column) in grown else WAITING
        if (row, column) == positions[-1]:
            color = NEWEST
        draw.rectangle((left, top, right - 1 - gap, bottom - 1 - gap), fill=color)
    return picture
