"""Pictures, read and encoded in one way wherever they are."""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import IO

from PIL import Image, JpegImagePlugin, PngImagePlugin

MOST_PIXELS = 8192 * 8192  # of a tile, and of a page of an atlas


def decode_png(content: bytes) -> Image.Image:
    """A PNG as an RGB picture, with its text in `info`.

    Raises:
        ValueError: it is damaged, or of more pixels than any tile, atlas or figure has.
    """
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(content))
        _check_size(image)
        picture = image.convert("RGB")
        text = {str(keyword): str(words) for keyword, words in image.text.items()}
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    picture.info.clear()
    picture.info.update(text)
    return picture


def png_text(file: IO[bytes]) -> dict[str, str]:
    """What stands in a PNG before its pixels, which are not read; nothing where it is none, or its head is damaged."""
    try:
        info = PngImagePlugin.PngImageFile(file).info
    except (OSError, SyntaxError, ValueError, EOFError):
        return {}
    return {str(keyword): words for keyword, words in info.items() if isinstance(words, str)}


def laid_on_white(picture: Image.Image, opacity: Image.Image) -> Image.Image:
    """A picture as it looks on white paper.

    Args:
        picture: RGB.
        opacity: gray, of its size, black where it is clear.

    Raises:
        ValueError: they differ in size.
    """
    return Image.composite(picture, Image.new("RGB", picture.size, "white"), opacity)


def is_whole_png(content: bytes) -> bool:
    """Whether every part of a PNG is there and bears out its own checksum; what it shows is not looked at."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    at = 8
    while len(head := content[at : at + 8]) == 8:
        length, kind = struct.unpack(">I4s", head)
        part, check = content[at + 4 : at + 8 + length], content[at + 8 + length : at + 12 + length]
        if check != struct.pack(">I", zlib.crc32(part)):
            return False
        if kind == b"IEND":
            return True
        at += 12 + length
    return False


def decode_jpeg(content: bytes, size: tuple[int, int]) -> Image.Image | None:
    """A JPEG of that width and height, RGB, its comment in `info`; None where it is no such picture, or damaged."""
    try:
        image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
        if image.size != size:
            return None
        comment = image.info.get("comment", b"")
        picture = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError):
        return None
    picture.info["comment"] = comment
    return picture


def _check_size(image: Image.Image) -> None:
    """Before a pixel is read; Pillow's own check warns where it should refuse."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than any picture of a run has")


def encode_png(image: Image.Image, text: Mapping[str, str], dpi: int | None = None) -> bytes:
    """Encode without loss; the same picture and text give the same bytes.

    Args:
        image: the picture.
        text: keywords (Latin-1, at most 79 characters) and what to keep under them in the file.
        dpi: pixels per inch, for what is to be printed.
    """
    info = PngImagePlugin.PngInfo()
    for keyword in sorted(text):
        info.add_text(keyword, text[keyword])
    buffer = io.BytesIO()
    resolution = {} if dpi is None else {"dpi": (dpi, dpi)}
    image.save(buffer, "PNG", pnginfo=info, compress_level=4, **resolution)
    return buffer.getvalue()


def encode_jpeg(image: Image.Image, quality: int, *, comment: str = "", full_color: bool = False) -> bytes:
    """Encode as a JPEG, a tenth of a PNG's size.

    Args:
        image: the picture.
        quality: from 1 to 95.
        comment: ASCII, kept in the file.
        full_color: colours at the full resolution, so that neighbours on a sheet do not shine into each other.
    """
    buffer = io.BytesIO()
    options = {"subsampling": 0} if full_color else {}
    image.convert("RGB").save(buffer, "JPEG", quality=quality, comment=comment, **options)
    return buffer.getvalue()
