import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import ExifTags, Image, ImageOps

from featlight.config.tile import Term, Tile, feature_tile
from featlight.errors import UsageError
from featlight.param.image import blur, noise, own_seed, read_image, resize, starting_images, to_bytes
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
