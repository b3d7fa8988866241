"""Image channels: how many a network takes, and which of them pictures show."""

from collections.abc import Sequence
from typing import Any

MOST = 1024  # channels of an image


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
    if not 1 <= count <= MOST:
        raise ValueError(f"allowed: auto, or a whole number from 1 to {MOST}")
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
    chosen = [int(word) for word in digits if word.isascii() and word.isdecimal() and int(word) < MOST]
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
