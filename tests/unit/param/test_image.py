import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from featlight.config.tile import Term, Tile, feature_tile
from featlight.errors import UsageError
from featlight.param.image import blur, noise, own_seed, read_image, resize, starting_images, to_bytes

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
