"""The one door of all pictures: what hostile files make of it, and that there is no other."""

import ast
import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featlight
from featlight import image_io
from featlight.drawing.example_strip import GROUND, ExampleTile, encode_strip, read_crop, what_is_shown
from featlight.image_io import (
    bands,
    decode_jpeg,
    decode_png,
    encode_png,
    is_whole_png,
    jpeg_comment,
    open_photograph,
    png_text,
)
from featlight.store.guard.run_folder import RunFolder
from tests.pngs import GRAY, RGB, part, png

NOISE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PNG = encoded(Image.fromarray(NOISE), "PNG")
JPEG = encoded(Image.fromarray(NOISE), "JPEG")
GIF = encoded(Image.new("P", (16, 16)), "GIF")


def behind_head(*parts: bytes) -> bytes:
    return PNG[:33] + b"".join(parts) + PNG[33:]


def behind_pixels(*parts: bytes) -> bytes:
    return PNG[:-12] + b"".join(parts) + PNG[-12:]


def jpeg_of(width: int, height: int) -> bytes:
    """A small one whose head says another size."""
    start = JPEG.index(b"\xff\xc0")
    return JPEG[: start + 5] + struct.pack(">HH", height, width) + JPEG[start + 9 :]


def tiff(*tags: tuple[int, int, int, int], data: bytes = b"") -> bytes:
    """One of 16 x 16 gray pixels, with further tags: number, type, count and value."""
    plain = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    every = sorted([*plain, *tags])
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(every))
    return head + b"".join(struct.pack("<HHII", *tag) for tag in every) + bytes(4) + data


def many_scans() -> bytes:
    whole = encoded(Image.new("L", (16, 16)), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + 100 * last + whole[-2:]


COMMENTS = GIF[:13] + GIF[13 : 13 + 3 * 2 ** ((GIF[10] & 7) + 1)] + b"\x21\xfe" + 15_000 * (b"\1c") + b"\0\x3b"
BOMB = zlib.compress(bytes(3 << 20))
DEFLATED = zlib.compress(bytes(256))
HOSTILE = {
    "a long side": (png(2**26, 1, depth=1, color=GRAY), "at most"),
    "a tall side": (png(1, 70_000, color=GRAY), "at most"),
    "a large area": (png(10_000, 8_000), "at most"),
    "a JPEG's area": (jpeg_of(65_500, 65_500), "exceeds limit"),
    "a JPEG's side": (jpeg_of(65_535, 800), "at most"),
    "no width": (png(0, 5), "."),
    "an empty profile": (behind_head(part(b"iCCP", b"")), "."),
    "an empty profile at the end": (behind_pixels(part(b"iCCP", b"")), "."),
    "a profile that swells": (behind_head(part(b"iCCP", b"x\0\0" + BOMB)), "."),
    "text that swells": (behind_head(part(b"zTXt", b"x\0\0" + BOMB)), "too large"),
    "text at the end that swells": (behind_pixels(part(b"zTXt", b"x\0\0" + BOMB)), "too large"),
    "many parts": (behind_head(*[part(b"abCd", b"")] * 10_000), "more parts"),
    "a large part": (behind_head(part(b"abCd", bytes(9 << 20))), "more parts"),
    "a cut part": (behind_head(part(b"acTL", b"")), "."),
    "half a picture": (PNG[: len(PNG) // 2], "."),
    "many scans": (many_scans(), "scans"),
    "comments": (COMMENTS, "more parts"),
    "a GIF's frame": (GIF[: GIF.rindex(b",") + 5] + 4 * b"\xff" + GIF[GIF.rindex(b",") + 9 :], "exceeds limit"),
    "a tile of a TIFF": (
        tiff((259, 3, 1, 8), (322, 4, 1, 30_000), (323, 4, 1, 30_000), (324, 4, 1, 134), (325, 4, 1, 9), data=DEFLATED),
        "oversized tiles",
    ),
    "many strips": (
        tiff((259, 3, 1, 1), (273, 4, 1_500_000, 110), (279, 4, 1_500_000, 110), data=bytes(6_000_000)),
        "more parts",
    ),
    "floats": (encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "32 bits"),
    "whole numbers of 32 bits": (encoded(Image.new("I", (8, 8), 5), "TIFF"), "32 bits"),
    "words": (b"hello", "no PNG, JPEG, WebP, GIF, TIFF or AVIF picture"),
    "a bitmap": (encoded(Image.new("RGB", (4, 4)), "BMP"), "no PNG, JPEG, WebP, GIF, TIFF or AVIF picture"),
    "nothing": (b"", "no PNG"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_picture_is_refused_in_one_line(name):
    content, words = HOSTILE[name]
    with pytest.raises(ValueError, match=words) as refused, open_photograph(io.BytesIO(content)):
        pass
    assert type(refused.value) is ValueError
    assert 0 < len(str(refused.value)) <= 200
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("format", ["WEBP", "AVIF"])
def test_formats_that_take_more_memory_have_fewer_pixels(monkeypatch, format):
    content = encoded(Image.new("RGB", (20, 10)), format)
    monkeypatch.setattr(image_io, "MOST_HUNGRY", 199)
    with pytest.raises(ValueError, match="20 x 10 pixels; at most 199"), open_photograph(io.BytesIO(content)):
        pass


def test_parts_behind_the_pixels_are_bounded(monkeypatch):
    monkeypatch.setattr(image_io, "MOST_READS", 3000)
    content = behind_pixels(*[part(b"abCd", b"")] * 2000)
    with pytest.raises(ValueError, match="more parts"), open_photograph(io.BytesIO(content)):
        pass


@pytest.mark.parametrize(
    "content",
    [
        behind_head(part(b"acTL", struct.pack(">II", 2**31, 0))),
        behind_pixels(part(b"eXIf", b"MM\0*\0\0\0\x08\0\1" + bytes(2 << 20))),
        behind_head(part(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff")),
        encoded(Image.fromarray(NOISE), "PNG", save_all=True, append_images=[Image.new("RGB", (16, 24))]),
        encoded(Image.fromarray(NOISE), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"),
        encoded(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw"),
    ],
    ids=["frames without end", "long EXIF", "cut EXIF", "APNG", "EXIF of a WebP", "TIFF"],
)
def test_what_stands_beside_the_pixels_changes_nothing_and_prints_nothing(content, capfd):
    with open_photograph(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), NOISE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [
        *(OverflowError, struct.error, SyntaxError, zlib.error, MemoryError, IndexError, KeyError, RecursionError),
        *(AttributeError, EOFError, AssertionError, Image.DecompressionBombError, Image.DecompressionBombWarning),
    ],
)
def test_whatever_a_decoder_raises_is_a_reason(error):
    with pytest.raises(ValueError, match=r".") as refused, open_photograph(io.BytesIO(PNG)):
        raise error("\n of\ttwo lines\n")
    assert "\n" not in str(refused.value)


def test_what_tells_a_command_to_stop_is_no_reason():
    with pytest.raises(KeyboardInterrupt), open_photograph(io.BytesIO(PNG)):
        raise KeyboardInterrupt


@pytest.mark.parametrize("size", [(1, 70), (70, 1), (13, 9), (64, 64)])
def test_bands_are_the_picture(size):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8))
    again = Image.new("RGB", image.size)
    for box, band in bands(image, pixels=100):
        assert band.width * band.height <= max(100, image.width)
        again.paste(band, box)
    assert np.array_equal(again, image)


@pytest.mark.parametrize(
    "content",
    [
        png(1, 2**26, depth=1, color=GRAY),
        png(2**26, 1, depth=1, color=GRAY),
        png(9000, 2, color=RGB),
        behind_pixels(part(b"iCCP", b"")),
        behind_head(part(b"zTXt", b"x\0\0" + BOMB)),
        JPEG,
    ],
)
def test_a_hostile_tile_is_damaged(content):
    with pytest.raises(ValueError, match=r"."):
        decode_png(content)
    assert png_text(io.BytesIO(content)) == {}


def test_a_tile_is_read_with_its_text():
    words = {"Title": "a", "Software": "featlight 0"}
    tile = decode_png(encode_png(Image.fromarray(NOISE), words))
    assert np.array_equal(tile, NOISE)
    assert tile.info == words


@pytest.mark.parametrize(
    "content",
    [
        jpeg_of(65_500, 65_500),
        jpeg_of(8000, 8000),
        many_scans(),
        JPEG[:40],
        b"",
        PNG,
        *(
            encode_strip(Image.new("RGB", (224, 224)), ExampleTile("x", ((shape,) * 4,)))  # type: ignore[arg-type]
            for shape in (float("inf"), "a", None)
        ),
    ],
)
def test_a_hostile_strip_is_drawn_again(tmp_path, content):
    (tmp_path / "strip.jpg").write_bytes(content)
    folder = RunFolder(tmp_path)
    assert what_is_shown(folder, tmp_path / "strip.jpg") is None
    assert read_crop(folder, tmp_path / "strip.jpg", 1).size == (112, 112)


def test_a_jpeg_of_more_pixels_than_a_run_has_is_not_decoded(tmp_path):
    content = encoded(Image.new("RGB", (40, 30), "red"), "JPEG", comment=b"words")
    assert decode_jpeg(content, 1199) is None
    assert decode_jpeg(content, 1200).info["comment"] == b"words"
    assert (jpeg_comment(content, 1199), jpeg_comment(content, 1200)) == (b"", b"words")
    (tmp_path / "strip.jpg").write_bytes(jpeg_of(8000, 8000))
    assert read_crop(RunFolder(tmp_path), tmp_path / "strip.jpg").getpixel((5, 5)) == GROUND


def test_there_is_no_other_door():
    """No module but this one opens a picture, or takes one of Pillow's readers in hand."""
    root = Path(featlight.__file__).parent
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                opens = node.attr == "open" and ast.unparse(node.value).endswith("Image")
                reads = node.attr.endswith("ImageFile") or node.attr in ("read_image", "decode_image", "imread")
                assert not (opens or reads) or path == root / "image_io.py", f"{path}: {ast.unparse(node)}"


def test_a_png_is_whole_with_all_its_chunks_and_checksums():
    assert is_whole_png(PNG)
    assert is_whole_png(PNG + b"more")
    assert is_whole_png(behind_head(*[part(b"tEXt", b"a\0b")] * 100))
    assert not any(map(is_whole_png, (b"", PNG[:8], PNG[:20], PNG[:-1], PNG[:-12], b"x" + PNG[1:])))
    assert not any(is_whole_png(PNG[:at] + bytes([PNG[at] ^ 1]) + PNG[at + 1 :]) for at in range(len(PNG)))


def test_a_png_of_endless_chunks_is_refused_soon_and_copied_nowhere(monkeypatch):
    monkeypatch.setattr(image_io, "MOST_CHUNKS", 20)
    assert is_whole_png(behind_head(*[part(b"tEXt", b"")] * 17))
    assert not is_whole_png(behind_head(*[part(b"tEXt", b"")] * 18))
    large = behind_head(part(b"teXt", bytes(1 << 22)))
    tracemalloc.start()
    assert is_whole_png(large)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
