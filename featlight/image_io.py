"""Pictures, read and encoded in one way wherever they are."""

import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, PngImagePlugin

from featlight.errors import FeatlightError


def read_picture(path: Path) -> Image.Image:
    """A PNG of a run, RGB, with its text in `info`.

    Raises:
        FeatlightError: it cannot be read.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            text = image.text if isinstance(image, PngImagePlugin.PngImageFile) else {}
            picture = image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        reason = f"damaged ({error}); delete it, and the same command makes it again"
        raise FeatlightError(f"{path}: {reason}") from None
    picture.info.clear()
    picture.info.update(text)
    return picture


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
