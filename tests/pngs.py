"""PNG files assembled by hand, with any bit depth and with contents that no library writes."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6


def part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *parts: bytes, depth: int = 8, color: int = RGB, data: bytes = b"x") -> bytes:
    """Return a PNG file with any header and data.

    Args:
        width: width in the header, in pixels.
        height: height in the header, in pixels.
        parts: chunks between the header and the pixels.
        depth: bits per value.
        color: color type, one of the constants above.
        data: uncompressed pixel data.
    """
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    every = [part(b"IHDR", head), *parts, part(b"IDAT", zlib.compress(data)), part(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(every)


def picture(pixels: Sequence, color: int, *parts: bytes, depth: int = 8) -> bytes:
    """Return a PNG file of pixel values, (H, W) or (H, W, channels)."""
    rows = np.asarray(pixels).astype(">u2" if depth == 16 else "u1")
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return png(rows.shape[1], rows.shape[0], *parts, depth=depth, color=color, data=lines)
