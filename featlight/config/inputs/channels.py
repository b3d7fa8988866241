"""Channels of images: how many a network takes, and which of them a picture shows."""

from collections.abc import Sequence
from typing import Any

MOST = 1024  # channels of an image: no camera has as many bands


def parse_in_channels(given: Any) -> Any:
    """`auto`, or a number, as a flag or a file has it.

    Raises:
        ValueError: it is neither.
    """
    if given == "auto":
        return given
    try:
        count = 0 if isinstance(given, bool) else int(str(given))
    except ValueError:
        count = 0
    if not 1 <= count <= MOST:
        raise ValueError(f"auto, or a whole number from 1 to {MOST}, is allowed")
    return count


def parse_shown(given: Any) -> Any:
    """`auto`, one channel, or three for red, green and blue: `3,2,1`, or a list.

    Raises:
        ValueError: it is none of these.
    """
    if given == "auto":
        return given
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    words = [str(part).strip() for part in parts]
    chosen = [int(word) for word in words if word.isascii() and word.isdecimal() and int(word) < MOST]
    if len(chosen) != len(words) or len(chosen) not in (1, 3):
        raise ValueError("auto, one channel, or three for red, green and blue as in 3,2,1, from 0, is allowed")
    return tuple(chosen)


def shown_channels(asked: Any, channels: int) -> Sequence[int]:
    """The channels that a picture shows: one as gray, or three as red, green and blue.

    Args:
        asked: `auto`: the first three, or of one or two the first; or which.
        channels: of the images.

    Raises:
        ValueError: the images have no such channel.
    """
    if asked == "auto":
        return (0, 1, 2) if channels >= 3 else (0,)
    for channel in asked:
        if channel >= channels:
            raise ValueError(f"channel {channel} given; images have {channels}, 0 to {channels - 1}")
    return tuple(asked)
