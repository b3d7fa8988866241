"""Image sizes in pixels: the side of a square, or height and width."""

from typing import Any

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
