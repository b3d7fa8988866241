"""Sizes of images: the side of a square, or height and width. In pixels."""

from typing import Any

ImageSize = int | tuple[int, int]  # of a square always its side alone, so that equal sizes are equal


def image_size(height: int, width: int) -> ImageSize:
    """The size of so high and so wide an image."""
    return height if height == width else (height, width)


def both_sides(size: ImageSize) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def size_words(size: ImageSize) -> str:
    """As people read it: `128`, or `96 x 128`, height first."""
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"


def shape_words(size: ImageSize) -> str:
    """Both sides always: `128 x 128`."""
    height, width = both_sides(size)
    return f"{height} x {width}"


def size_key(size: ImageSize) -> str:
    """As a key in a file: `128`, or `96x128`."""
    return size_words(size).replace(" ", "")


def pixels_of(size: ImageSize) -> int:
    """How many pixels there are."""
    height, width = both_sides(size)
    return height * width


def fitted(size: ImageSize, side: int) -> tuple[int, int]:
    """Height and width of an image that is scaled so that its longer side has so many pixels."""
    height, width = both_sides(size)
    longest = max(height, width)
    return max(1, round(side * height / longest)), max(1, round(side * width / longest))


def parse_size(given: Any) -> Any:
    """A number of pixels, or height and width.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, list | tuple):
        if len(given) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in given):
            raise ValueError(f"size: {list(given)!r} given; a side, or [height, width], in pixels, is needed")
        return image_size(*given)
    return given
