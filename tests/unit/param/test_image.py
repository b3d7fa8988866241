import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import ExifTags, Image, ImageOps
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TV

from featlight.config.named_starts import noise
from featlight.config.tile import Term, Tile, feature_tile
from featlight.errors import UsageError
from featlight.param.image import blur, own_seed, read_image, resize, starting_images, starts_from, to_bytes
from tests.pngs import GRAY, GRAY_ALPHA, PALETTE, RGB, RGBA, part, picture

TILES = [feature_tile("a", 0), feature_tile("a", 1), feature_tile("b", 0)]


def test_noise_is_the_articles():
    theirs = torch.rand((3, 9, 9), generator=torch.Generator().manual_seed(999)) / 10 + 0.5
    assert torch.equal(noise(9, 999), theirs)
    assert noise(64, 1).min() >= 0.5
    assert noise(64, 1).max() < 0.6


def test_noise_leaves_the_global_stream_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    starting_images("noise-per-feature", 8, 1, TILES)
    assert torch.equal(before, torch.random.get_rng_state())


def test_one_seed_for_all_or_one_for_each():
    same = starting_images("noise", 8, 7, TILES)
    assert torch.equal(same[0], same[2])
    own = starting_images("noise-per-feature", 8, 7, TILES)
    assert not torch.equal(own[0], own[1])
    assert not torch.equal(own[0], own[2])
    assert torch.equal(own[1], starting_images("noise-per-feature", 8, 7, TILES[1:])[0])  # whatever its neighbours
    assert own_seed(7, TILES[0]) != own_seed(8, TILES[0])
    assert own_seed(7, Tile("x", (Term("a", 0),))) != own_seed(7, Tile("y", (Term("a", 0),)))


def test_gray_is_half():
    assert torch.equal(starting_images("gray", 4, 0, TILES), torch.full((3, 3, 4, 4), 0.5))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_photograph_is_resized_with_antialiasing(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(pixels).save(path)
    ours = starting_images(str(path), 16, 0, TILES[:1])[0]
    theirs = torchvision.transforms.functional.resize(read_image(path), [16, 16], antialias=True)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_what_is_no_photograph_is_refused(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (4, 4)).save(tmp_path / "image.bmp")
    for name in ("text.png", "image.bmp", "missing.png", "nois"):
        with pytest.raises(UsageError, match="noise, noise-per-feature, gray, or a PNG, JPEG or WebP file"):
            starting_images(name, 8, 0, TILES)
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UsageError, match="exceeds limit"):
        starting_images("bomb.png", 8, 0, TILES)


def pixels_of(content, name="start.png"):
    Path(name).write_bytes(content)
    return read_image(Path(name))


def clear(*values):
    """The colour that means nothing."""
    return part(b"tRNS", struct.pack(f">{len(values)}H", *values))


RED_AND_GREEN = part(b"PLTE", bytes([255, 0, 0, 0, 255, 0]))
RAMP = [[0, 1000, 32768, 65535]]
SCALED = torch.tensor(RAMP) / 65535


@pytest.mark.parametrize(
    ("content", "expected", "off"),
    [
        (picture(RAMP, GRAY, depth=16), SCALED.expand(3, 1, 4), 1e-6),
        (
            picture(np.stack([RAMP, RAMP, np.zeros((1, 4))], -1), RGB, depth=16),
            torch.stack([SCALED, SCALED, 0 * SCALED]),
            1 / 255,
        ),
        (picture(np.stack([RAMP, [[65535] * 4]], -1), GRAY_ALPHA, depth=16), SCALED.expand(3, 1, 4), 1 / 255),
        (picture([[0, 128, 255]], GRAY), torch.tensor([[0, 128, 255]]).expand(3, 1, 3) / 255, 0),
    ],
    ids=["gray", "colours", "gray and alpha", "eight bits"],
)
def test_sixteen_bits_are_scaled(content, expected, off):
    ours = pixels_of(content)
    assert ours.dtype == torch.float32
    assert (ours - expected).abs().max() <= off


@pytest.mark.parametrize(
    ("content", "hidden"),
    [
        (picture([[[255, 0, 0, 255], [0, 255, 0, 0]]], RGBA), [False, True]),
        (picture([[[255, 255], [0, 0]]], GRAY_ALPHA), [False, True]),
        (
            picture([[0, 1]], PALETTE, RED_AND_GREEN, part(b"tRNS", b"\xff\0")),
            [False, True],
        ),
        (picture([[0, 1]], PALETTE, RED_AND_GREEN, part(b"tRNS", b"\0")), [True, False]),
        (picture([[7, 200]], GRAY, clear(200)), [False, True]),
        (picture([[7, 40_000]], GRAY, clear(40_000), depth=16), [False, True]),
        (picture([[[1, 2, 3], [9, 9, 9]]], RGB, clear(9, 9, 9)), [False, True]),
        (
            picture([[[1, 2, 3], [40_000] * 3]], RGB, clear(40_000, 40_000, 40_000), depth=16),
            [False, True],
        ),
    ],
    ids=["colours", "gray", "palette", "short palette", "a gray", "a 16-bit gray", "a colour", "a 16-bit colour"],
)
def test_what_is_transparent_is_gray_whatever_is_hidden_there(content, hidden):
    ours = pixels_of(content)
    assert [(ours[:, 0, x] == 0.5).all().item() for x in range(2)] == hidden


def test_half_transparent_is_half_gray():
    ours = pixels_of(picture([[[255, 0, 51, 51]]], RGBA))
    assert torch.allclose(ours[:, 0, 0], torch.tensor([0.2 + 0.4, 0.4, 0.04 + 0.4]), atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", range(9))
def test_a_photograph_stands_upright(suffix, orientation):
    """As Pillow's own hand turns it; an orientation that is none turns nothing."""
    corner = Image.new("RGB", (32, 16), "white")
    corner.paste("black", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    corner.save(f"photo.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(f"photo.{suffix}") as image:
        theirs = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    ours = read_image(Path(f"photo.{suffix}"))
    assert ours.shape == ((3, 32, 16) if orientation >= 5 else (3, 16, 32))
    assert torch.equal((ours * 255).round().byte().permute(1, 2, 0), torch.from_numpy(theirs.copy()))


def test_a_pipe_and_a_folder_are_no_photographs():
    os.mkfifo("pipe.png")
    Path("folder.png").mkdir()
    for name in ("pipe.png", "folder.png", "/dev/zero"):
        with pytest.raises(UsageError, match="is allowed"):
            read_image(Path(name))


def test_a_tensor_starts_all_tiles_or_each_its_own():
    one, each = torch.rand(3, 8, 8), torch.rand(3, 3, 8, 8)
    assert torch.equal(starting_images(one, 8, 0, TILES)[2], one)
    assert torch.equal(starting_images(each, 8, 0, TILES), each)
    with pytest.raises(UsageError, match=r"\(3, S, S\) or \(3, 3, S, S\)"):
        starting_images(torch.rand(2, 3, 8, 8), 8, 0, TILES)


PIXELS = np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)
CHW = torch.from_numpy(PIXELS).permute(2, 0, 1)
FLOATS = CHW.float() / 255
with torch.inference_mode():
    INFERRED = FLOATS.clone()
GRAY16 = PIXELS[..., 0].astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("given", "off"),
    [
        *[(each, 0.0) for each in (CHW, PIXELS, CHW.numpy(), tv_tensors.Image(CHW), Image.fromarray(PIXELS), FLOATS)],
        *[(each, 0.0) for each in (PIXELS[::-1][::-1], np.asfortranarray(PIXELS), PIXELS[None], FLOATS[None])],
        *[(each, 0.0) for each in (FLOATS.to_sparse(), FLOATS.to_mkldnn(), torch._neg_view(-FLOATS), INFERRED)],
        *[(each, 0.0) for each in (nn.Parameter(FLOATS.clone()), FLOATS.numpy(), FLOATS.tolist())],
        *[
            (each, 1e-7)
            for each in (PIXELS.astype(np.uint16) * 257, PIXELS.astype(">u2") * np.uint16(257), PIXELS / 255)
        ],
        *[(each, 1e-7) for each in (FLOATS.double(), (PIXELS / 255).astype(np.longdouble))],
        *[(FLOATS.to(kind), off) for kind, off in ((torch.half, 1e-3), (torch.bfloat16, 4e-3))],
        (FLOATS.to(torch.float8_e4m3fn), 0.07),
    ],
)
def test_an_array_has_the_units_of_its_type(given, off):
    theirs = TV.to_dtype(TV.to_image(PIXELS), torch.float32, scale=True)
    ours = starts_from(given, 2, 3, bounded=True)
    assert ours.shape == theirs.shape
    assert (ours.dtype, ours.device.type, ours.requires_grad) == (torch.float32, "cpu", False)
    assert torch.allclose(ours, theirs, atol=off + 1e-7, rtol=0)
    ours += 1  # a copy, which autograd may hold
    assert not ours.is_inference()
    assert torch.allclose(starts_from(given, 2, 3, bounded=True), theirs, atol=off + 1e-7, rtol=0)


def test_true_is_white_and_several_images_are_a_start_each():
    assert torch.equal(starts_from(CHW > 127, 1, 3, bounded=True), (CHW > 127).float())
    several = torch.stack([FLOATS, 1 - FLOATS])
    for given in (several, [PIXELS, 255 - PIXELS], [FLOATS, 1 - FLOATS], np.stack([PIXELS, 255 - PIXELS])):
        assert torch.allclose(starts_from(given, 2, 3, bounded=True), several, atol=1e-7)


MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16")


@pytest.mark.parametrize("mode", [*MODES, "I;16B", "I;16L", "F"])
def test_a_picture_of_any_mode_shows_what_pillow_shows(mode):
    if mode == "F":
        picture, levels = Image.fromarray(PIXELS[..., 0] / np.float32(255)), PIXELS[..., 0] / 255
    elif mode.startswith("I"):
        kind = {"I": "<i4", "I;16B": ">u2"}.get(mode, "<u2")
        picture = Image.frombytes(mode, (12, 16), GRAY16.astype(kind).tobytes())
        levels = GRAY16 / 65535
    else:
        picture = Image.fromarray(PIXELS)
        picture = picture.convert("LA").convert("La") if mode == "La" else _converted(picture, mode)
        shown = picture.convert("LA") if mode == "La" else picture
        levels = np.asarray(shown.convert("RGB"), np.float64) / 255
    expected = np.broadcast_to(levels[..., None], (16, 12, 3)) if levels.ndim == 2 else levels
    found = starts_from(picture, 1, 3, bounded=True)
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() < 1e-6
    gray = starts_from(picture, 1, 1, bounded=True)
    luma = expected @ (0.299, 0.587, 0.114)
    assert np.abs(gray[0].numpy() - luma).max() < 1e-6


def _converted(picture, mode):
    if mode in ("LAB", "PA"):
        return picture.convert("P").convert("PA") if mode == "PA" else Image.frombytes(mode, (12, 16), PIXELS.tobytes())
    return picture.convert("RGBA").convert(mode) if mode == "RGBa" else picture.convert(mode)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (FLOATS * 255, r"values from 0 to 25\d given; .* pass uint8 for 0 to 255"),
        ((FLOATS - 0.45) / 0.22, "values from -2.*undo a normalization"),
        (2 * FLOATS - 1, "values from -1 to "),
        (FLOATS * float("nan"), "values from nan"),
        (FLOATS + float("inf"), "values from inf"),
        (CHW.long(), "int64 given, whose white is not known; uint8"),
        (CHW.tolist(), "int64 given"),
        (CHW.char(), "int8 given"),
        (FLOATS + 0j, "complex64 given"),
        (FLOATS.to("meta"), "a Tensor given"),
        ({"pixels": 0}, "a dict given; noise, .* an image file, or an array of pixels"),
        ([[0.5], [0.5, 0.5]], "a list given"),
        (np.array(["white"]), "numbers are needed"),
        ([FLOATS, FLOATS[:, 1:]], "a list needs images of one shape"),
        ([], r"a tensor of \(0,\) given; \(3, S, S\) or \(2, 3, S, S\) is needed"),
        (torch.empty(0, 3, 8, 8), "a tensor of"),
        (torch.empty(3, 0, 8), "a tensor of"),
        (np.concatenate([PIXELS, PIXELS[..., :1]], 2), r"a tensor of \(16, 12, 4\) given"),
        (0.5, r"a tensor of \(\) given"),
        (
            Image.frombytes("I", (12, 16), PIXELS.astype("<i4")[..., 0].tobytes()).point(lambda x: x * 4096),
            "values from",
        ),
    ],
)
def test_an_array_without_pixel_units_is_refused(given, line):
    with pytest.raises(UsageError, match=line):
        starts_from(given, 2, 3, bounded=True)


def test_what_an_unbounded_recipe_has_made_may_start_another():
    wide = 4 * FLOATS - 1.5
    assert torch.equal(starts_from(wide, 1, 3, bounded=False), wide)
    with pytest.raises(UsageError, match="values from"):
        starts_from(FLOATS * 255, 1, 3, bounded=False)


def test_blur_is_torchvisions_and_reflects():
    images = torch.rand(2, 3, 9, 9)
    weights = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * 0.7**2))
    weights = weights / weights.sum()
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    rows = sum(w * padded[..., i : i + 9] for i, w in enumerate(weights))
    theirs = sum(w * rows[..., i : i + 9, :] for i, w in enumerate(weights))
    assert torch.allclose(blur(images, 0.7), theirs, atol=1e-6)


def test_resize_leaves_the_right_size_alone():
    images = torch.rand(1, 3, 9, 9)
    assert resize(images, 9) is images
    assert resize(images, 12).shape == (1, 3, 12, 12)


def test_what_is_shown_is_clipped_and_rounded():
    values = torch.tensor([-1.0, 0.0, 0.5 / 255 + 1e-4, 1.0, 9.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_bytes(values)[0, 0, :, 0].tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("mode", ["I", "I;16"])
def test_a_picture_of_many_bits_with_few_levels_is_refused_and_the_advice_works(mode):
    levels = np.arange(200, dtype="<i4" if mode == "I" else "<u2").reshape(10, 20)
    picture = Image.frombytes(mode, (20, 10), levels.tobytes())
    with pytest.raises(
        UsageError, match=f"init: a picture of mode {mode} with values from 0 to 199 given, where white"
    ):
        starts_from(picture, 1, 3, bounded=True)
    found = starts_from(np.asarray(picture).astype("uint8"), 1, 3, bounded=True)
    assert torch.equal(found[0], torch.from_numpy(levels / 255).float())
