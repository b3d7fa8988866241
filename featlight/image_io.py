"""Pictures, read and encoded in one way wherever they are: every file is opened by `_opened`, whoever has made it."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO

from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from featlight.errors import one_line

PHOTOGRAPHS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF")  # formats of photographs, by content
MOST_BYTES = 256 << 20  # of a file
MOST_PIXELS = 8192 * 8192  # of a tile
MOST_OF_PHOTOGRAPH = 50_000_000  # pixels; some decoders hold 12 bytes for each
HUNGRY, MOST_HUNGRY = ("WEBP", "AVIF"), 33_554_432  # formats whose decoders hold twice as many, and their pixels
MOST_SIDE = 65_535  # px; a JPEG has no longer one
LONGEST_TILE = 8192  # px of a side of a tile or an octave
HEAD_BYTES, HEAD_READS = 8 << 20, 20_000  # before the pixels: where a reader in Python goes from part to part
MOST_READS = 300_000  # of a whole file
MOST_SCANS = 64  # of a JPEG: each goes over all pixels, and may take a few bytes alone
META_BYTES = 1 << 20  # of what says which side is up


class _Bounded(io.BufferedReader):
    """A file that is read in no more parts than a picture has: a few bytes each would keep a decoder busy for hours."""

    reads, asked, most_reads, most_asked = 0, 0, HEAD_READS, HEAD_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        self.asked += max(size or 0, 0)
        if self.reads > self.most_reads or self.asked > self.most_asked:
            raise ValueError("it has more parts than a picture has")
        return super().read(size)

    def head_is_over(self) -> None:
        self.most_reads, self.most_asked = MOST_READS, 4 * MOST_BYTES


@contextmanager
def _opened(
    file: IO[bytes], formats: tuple[str, ...], most_pixels: int = MOST_PIXELS, most_side: int = MOST_SIDE
) -> Iterator[Image.Image]:
    """A picture whose head is read and whose pixels are not, yet; Pillow's warnings are not printed.

    Args:
        file: open file, read from its beginning.
        formats: Pillow's names of the formats that are accepted.
        most_pixels: largest area.
        most_side: largest width and height.

    Raises:
        ValueError: why it cannot be read, in a line; whatever is raised in the block becomes one, too.
    """
    bounded = _Bounded(file)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(bounded, formats=formats) as image:
                _check_size(image, most_pixels, most_side)
                bounded.head_is_over()
                if image.format in ("JPEG", "MPO"):
                    _check_scans(bounded)
                yield image
    except UnidentifiedImageError:
        names = ", ".join(formats[:-1]) + " or " * (len(formats) > 1) + formats[-1]
        raise ValueError(f"no {names.replace('WEBP', 'WebP')} picture that can be read") from None
    except MemoryError:
        raise ValueError("too large for this machine's memory") from None
    except Exception as error:  # a damaged file may raise anything in a decoder
        raise ValueError(one_line(error, 200) or type(error).__name__) from None
    finally:
        bounded.detach()


def _check_size(image: Image.Image, most_pixels: int, most_side: int) -> None:
    """Before a pixel is read; Pillow's own check warns where it should refuse."""
    width, height = image.size
    most = min(most_pixels, MOST_HUNGRY) if image.format in HUNGRY else most_pixels
    if not (0 < width <= most_side and 0 < height <= most_side and width * height <= most):
        raise ValueError(f"{width} x {height} pixels; at most {most:,} are read, {most_side:,} a side")
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(322, 0) * tags.get(323, 0) > most_pixels:  # room is made for a whole one
            raise ValueError("a tile of it has more pixels than a picture has")
        if image.mode in ("F", "I"):
            raise ValueError(f"values of 32 bits (Pillow's mode {image.mode}), whose range nobody knows")


def _check_scans(file: IO[bytes]) -> None:
    start = file.tell()
    if sum(block.count(b"\xff\xda") for block in iter(partial(file.read, 1 << 20), b"")) > MOST_SCANS:
        raise ValueError(f"a JPEG of more than {MOST_SCANS} scans")
    file.seek(start)


@contextmanager
def open_photograph(file: IO[bytes], most_pixels: int = MOST_OF_PHOTOGRAPH) -> Iterator[Image.Image]:
    """Decode a user's picture and turn it upright as its EXIF says; of an animated one, the first frame.

    Args:
        file: open file, read from its beginning.
        most_pixels: largest area.

    Raises:
        ValueError: why it cannot be read, in a line; whatever is raised in the block becomes one, too.
    """
    with _opened(file, PHOTOGRAPHS, most_pixels) as image:
        clear = image.info.get("transparency")  # the colour that means nothing, where there is one
        if image.mode == "RGB" and isinstance(clear, tuple) and ";16" in str(getattr(image, "tile", "")):
            image.info["transparency"] = tuple(value >> 8 for value in clear)  # as Pillow cuts the colours themselves
        image.load()
        for key in [key for key, value in image.info.items() if isinstance(value, str | bytes)]:
            if len(image.info[key]) > META_BYTES:
                del image.info[key]
        ImageOps.exif_transpose(image, in_place=True)
        yield image


def bands(image: Image.Image, pixels: int = 1 << 22) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """A picture's rows, some at a time, and where they are: to convert part by part takes less memory."""
    rows = max(1, pixels // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield box, image.crop(box)


def decode_png(content: bytes) -> Image.Image:
    """A PNG of a run as an RGB picture, with its text in `info`.

    Raises:
        ValueError: it is damaged, or of more pixels than any tile has.
    """
    with _opened(io.BytesIO(content), ("PNG",), most_side=LONGEST_TILE) as image:
        picture = image.convert("RGB")
        text = {str(keyword): str(words) for keyword, words in image.text.items()}  # type: ignore[attr-defined]
    picture.info.clear()
    picture.info.update(text)
    return picture


def png_text(file: IO[bytes]) -> dict[str, str]:
    """What stands in a PNG before its pixels, which are not read; nothing where it is none, or its head is damaged."""
    try:
        with _opened(file, ("PNG",)) as image:
            return {str(keyword): words for keyword, words in image.info.items() if isinstance(words, str)}
    except ValueError:
        return {}


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


def decode_jpeg(content: bytes, most_pixels: int) -> Image.Image | None:
    """A JPEG of a run, RGB, its comment in `info`; None where it is none, damaged, or of more pixels than that."""
    try:
        with _opened(io.BytesIO(content), ("JPEG",), most_pixels) as image:
            picture = image.convert("RGB")
            picture.info["comment"] = image.info.get("comment", b"")
            return picture
    except ValueError:
        return None


def jpeg_comment(content: bytes, most_pixels: int) -> bytes:
    """The comment of a JPEG, whose pixels are not read; nothing where `decode_jpeg` would give None for its head."""
    try:
        with _opened(io.BytesIO(content), ("JPEG",), most_pixels) as image:
            return bytes(image.info.get("comment", b""))
    except ValueError:
        return b""


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
