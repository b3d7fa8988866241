"""Reading and encoding of pictures. Files may come from anybody: `_opened` opens all of them."""

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
HUNGRY, MOST_HUNGRY = ("WEBP", "AVIF"), 33_554_432  # formats whose decoders need twice the memory; most pixels
MOST_SIDE = 65_535  # px, the limit of JPEG
LONGEST_TILE = 8192  # px, side of a tile or an octave
HEAD_BYTES, HEAD_READS = 8 << 20, 20_000  # before the pixels, which Python code reads part by part
MOST_READS = 300_000  # read calls for a whole file
MOST_CHUNKS = 100_000  # of a PNG; encoders write at least 8 kB into each
MOST_SCANS = 64  # of a JPEG: each of a few bytes only may cost a pass over all pixels
META_BYTES = 1 << 20  # of metadata such as EXIF


class _Bounded(io.BufferedReader):
    """A file with a limited number of reads: a file of tiny parts would keep a decoder busy for hours."""

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
    """Open a picture; its header is read, its pixels are not. Pillow's warnings are suppressed.

    Args:
        file: open file, read from its beginning.
        formats: Pillow's names of the formats that are accepted.
        most_pixels: largest area.
        most_side: largest width and height.

    Raises:
        ValueError: the picture cannot be read, or the block raises any error; its message is the reason in one line.
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
    """Check the size before any pixel is read; Pillow's own check only warns."""
    width, height = image.size
    most = min(most_pixels, MOST_HUNGRY) if image.format in HUNGRY else most_pixels
    if not (0 < width <= most_side and 0 < height <= most_side and width * height <= most):
        raise ValueError(f"{width} x {height} pixels; at most {most:,} are read, {most_side:,} a side")
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(322, 0) * tags.get(323, 0) > most_pixels:  # the decoder allocates a whole one
            raise ValueError("a TIFF with oversized tiles")
        if image.mode in ("F", "I"):
            raise ValueError(f"values of 32 bits (Pillow's mode {image.mode}), whose range is unknown")


def _check_scans(file: IO[bytes]) -> None:
    start = file.tell()
    if sum(block.count(b"\xff\xda") for block in iter(partial(file.read, 1 << 20), b"")) > MOST_SCANS:
        raise ValueError(f"a JPEG of more than {MOST_SCANS} scans")
    file.seek(start)


@contextmanager
def open_photograph(file: IO[bytes], most_pixels: int = MOST_OF_PHOTOGRAPH) -> Iterator[Image.Image]:
    """Decode a user's picture, the first frame of an animated one, and rotate it according to its EXIF data.

    Args:
        file: open file, read from its beginning.
        most_pixels: largest area.

    Raises:
        ValueError: the picture cannot be read, or the block raises any error; its message is the reason in one line.
    """
    with _opened(file, PHOTOGRAPHS, most_pixels) as image:
        clear = image.info.get("transparency")  # the transparent color, if there is one
        if image.mode == "RGB" and isinstance(clear, tuple) and ";16" in str(getattr(image, "tile", "")):
            image.info["transparency"] = tuple(value >> 8 for value in clear)  # as Pillow does with the colors
        image.load()
        for key in [key for key, value in image.info.items() if isinstance(value, str | bytes)]:
            if len(image.info[key]) > META_BYTES:
                del image.info[key]
        ImageOps.exif_transpose(image, in_place=True)
        yield image


def bands(image: Image.Image, pixels: int = 1 << 22) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """Yield a picture in bands of rows, each with its box; converting band by band saves memory."""
    rows = max(1, pixels // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield box, image.crop(box)


def decode_png(content: bytes) -> Image.Image:
    """Return a PNG of a run as an RGB picture, with its text in `info`.

    Raises:
        ValueError: the PNG is damaged, or larger than any tile.
    """
    with _opened(io.BytesIO(content), ("PNG",), most_side=LONGEST_TILE) as image:
        picture = image.convert("RGB")
        text = {str(keyword): str(value) for keyword, value in image.text.items()}  # type: ignore[attr-defined]
    picture.info.clear()
    picture.info.update(text)
    return picture


def png_text(file: IO[bytes]) -> dict[str, str]:
    """Return the text before a PNG's pixels, which are not read; nothing if the header is damaged."""
    try:
        with _opened(file, ("PNG",)) as image:
            return {str(keyword): value for keyword, value in image.info.items() if isinstance(value, str)}
    except ValueError:
        return {}


def laid_on_white(picture: Image.Image, opacity: Image.Image) -> Image.Image:
    """Return a picture on a white background.

    Args:
        picture: RGB picture.
        opacity: gray picture of the same size; black pixels are transparent.

    Raises:
        ValueError: the sizes differ.
    """
    return Image.composite(picture, Image.new("RGB", picture.size, "white"), opacity)


def is_whole_png(content: bytes) -> bool:
    """Return whether a PNG has all its chunks, with correct checksums; its pixels are not decoded."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return False
    view, at = memoryview(content), 8
    for _ in range(MOST_CHUNKS):
        if len(content) < at + 12:
            return False
        length, kind = struct.unpack_from(">I4s", content, at)
        part, check = view[at + 4 : at + 8 + length], view[at + 8 + length : at + 12 + length]
        if check != struct.pack(">I", zlib.crc32(part)):
            return False
        if kind == b"IEND":
            return True
        at += 12 + length
    return False


def decode_jpeg(content: bytes, most_pixels: int) -> Image.Image | None:
    """Return a JPEG of a run as RGB, with its comment in `info`; None if it is damaged or too large."""
    try:
        with _opened(io.BytesIO(content), ("JPEG",), most_pixels) as image:
            picture = image.convert("RGB")
            picture.info["comment"] = image.info.get("comment", b"")
            return picture
    except ValueError:
        return None


def jpeg_comment(content: bytes, most_pixels: int) -> bytes:
    """Return the comment of a JPEG, whose pixels are not read; nothing if its header is damaged or it is too large."""
    try:
        with _opened(io.BytesIO(content), ("JPEG",), most_pixels) as image:
            return bytes(image.info.get("comment", b""))
    except ValueError:
        return b""


def encode_png(image: Image.Image, text: Mapping[str, str], dpi: int | None = None) -> bytes:
    """Encode as a PNG; the same picture and text give the same bytes.

    Args:
        image: picture to encode.
        text: values by keyword (Latin-1, at most 79 characters) to store in the file.
        dpi: pixels per inch, for printing.
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
        image: picture to encode.
        quality: quality from 1 to 95.
        comment: ASCII text to store in the file.
        full_color: whether to keep the color at full resolution, so that neighbors on a sheet do not bleed.
    """
    buffer = io.BytesIO()
    options = {"subsampling": 0} if full_color else {}
    image.convert("RGB").save(buffer, "JPEG", quality=quality, comment=comment, **options)
    return buffer.getvalue()
