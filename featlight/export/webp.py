"""Tiles as WebP files: a fraction of the bytes, and the same words inside on how each was made."""

import io
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image

from featlight.store.contents import read_picture
from featlight.store.guard.run_folder import RunFolder

Quality = int | Literal["lossless"]
METHOD = 4  # of libwebp's seven, from the fastest to the smallest


def encode_webp(folder: RunFolder, path: Path, quality: Quality) -> bytes:
    """A tile's PNG as a WebP; its provenance comes along in the EXIF tags ImageDescription and Software.

    Args:
        folder: the run directory.
        path: of the PNG.
        quality: from 1 to 100, or "lossless" for the very pixels.

    Raises:
        FeatlightError: the PNG cannot be read.
    """
    picture = read_picture(folder, path)
    exif = Image.Exif()
    for tag, keyword in ((ExifTags.Base.ImageDescription, "featlight"), (ExifTags.Base.Software, "Software")):
        if keyword in picture.info:
            exif[tag] = picture.info[keyword]
    buffer = io.BytesIO()
    if quality == "lossless":
        picture.save(buffer, "WEBP", lossless=True, method=METHOD, exif=exif)
    else:
        picture.save(buffer, "WEBP", quality=quality, method=METHOD, exif=exif)
    return buffer.getvalue()
