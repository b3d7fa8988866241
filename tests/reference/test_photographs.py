"""Caricatures, accentuation and deep dreams in float64 beside literal loops."""

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torch.nn.functional import interpolate

import featlight
from featlight.cli.main import main
from featlight.errors import UsageError
from tests.literal import descent, layer_function
from tests.reference.test_directions import position_values
from tests.reference.test_objectives import assert_equal_and_moved, recipe_of, table


@pytest.fixture
def photograph():
    """A picture on disk, and its pixels (1, 3, 48, 60)."""
    pixels = torch.randint(0, 256, (48, 60, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save("photo.png")
    return pixels.permute(2, 0, 1)[None].float() / 255


def seen(pixels, size):
    return interpolate(pixels, (size, size), mode="bilinear", align_corners=False, antialias=True)


def caricature_loss(function, x, photograph, power):
    z = function(x)[0]  # (C, H, W)
    guide = function(seen(photograph.to(x.dtype), x.shape[-1]))[0].detach()
    loss = 0
    for m in range(z.shape[1]):
        for n in range(z.shape[2]):
            _, value = position_values(z[:, m : m + 1, n : n + 1], guide[:, m, n], power)
            loss = loss + (200.0 - value[0, 0])
    return loss


@pytest.mark.parametrize("power", [0, 2])
def test_a_caricature_follows_the_photograph_position_by_position(network_of, photograph, power):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = [(32, 2, (0.3, 0.2), (1.2, 0.6)), (40, 2, (0.2, 0.1), None)]
    result = featlight.visualize(
        network, ["1", "4"], caricature="photo.png", cosine_power=power, recipe=recipe_of(rows), precision="fp64",
        progress=False,
    )  # fmt: skip
    assert [planned.tile.name for planned in result.tiles] == ["1/caricature", "4/caricature"]
    assert [planned.label for planned in result.tiles] == ["1", "4"]
    for layer, image in zip(("1", "4"), result.images, strict=True):
        function = layer_function(network, layer)
        path = descent(lambda x, f=function: caricature_loss(f, x, photograph, power), rows)
        assert_equal_and_moved(image, path, by=0.01)


def test_an_accentuated_photograph_stays_near_itself(network_of, photograph):
    network = copy.deepcopy(network_of("hand_made")).double()
    size, n, lr, sigma = table(3.0)[0]
    words = {"recipe": recipe_of([(size, n, lr, sigma)]), "precision": "fp64", "progress": False, "init": "photo.png"}
    stays = featlight.visualize(network, "4", 2, stay=500, **words).images[0]
    free = featlight.visualize(network, "4", 2, **words).images[0]
    function, start = layer_function(network, "4"), seen(photograph, size).double()
    x = start
    for i in range(n):
        x = x.detach().requires_grad_(True)
        z = function(x)[0, 2]
        loss = torch.sum(200.0 - z) + 500 * z.numel() * ((x - start) ** 2).mean()
        (g,) = torch.autograd.grad(loss, x)
        x = x.detach() - (lr[0] * (n - i) / n + lr[1] * i / n) * g
        s = sigma[0] * (n - i) / n + sigma[1] * i / n
        x = torchvision.transforms.functional.gaussian_blur(x, 3, [s, s])
    assert (stays - x[0]).abs().max() < 1e-6 * x.std()
    assert (stays - free).abs().max() > 0.1 * x.std()


def test_a_dream_strengthens_all_that_is_there(network_of):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows = table(0.05)
    result = featlight.visualize(
        network, "4", region="all", metric="squares", recipe=recipe_of(rows), precision="fp64", progress=False
    )
    function = layer_function(network, "4")
    assert_equal_and_moved(result.images[0], descent(lambda x: -(function(x) ** 2).sum(), rows))


def test_a_run_goes_on_with_the_same_photograph_alone(network_of, photograph, capsys):
    words = ["--model", "tiny_inception", "--layer", "Conv2d_1a_5x5", "Mixed_3a", "--caricature", "photo.png", "--out"]
    words += ["run", "--batch-size", "1", "--set", "recipe.octaves=[{size: 32, steps: 2, lr: [0.03, 0.02]}]"]
    assert main(words) == 0
    assert Path("run/tiles/Mixed_3a/caricature.png").is_file()
    assert main(words) == 0
    assert "2 tiles: 0 made, 2 kept" in capsys.readouterr().out
    assert main(["verify", "--out", "run"]) == 0
    assert main(["--out", "run", "--render-only"]) == 0
    Image.new("RGB", (9, 9), "red").save("photo.png")
    assert main(words) == 2
    assert "holds another run (caricature: there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"caricature": "gone.png"}, "caricature: 'gone.png' given; a PNG, JPEG or WebP file is needed"),
        ({"caricature": "photo.png", "region": "all"}, "caricature: an image and region: all given"),
        ({"stay": 2.0}, "stay: 2 given, but images start from noise; add --init FILE"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(network_of, photograph, words, message):
    with pytest.raises(UsageError, match=message):
        featlight.visualize(network_of("hand_made"), "4", progress=False, **words)
    tile = featlight.Tile("a", [featlight.Term("4", direction="image")])
    with pytest.raises(UsageError, match="direction: image given, but no image"):
        featlight.visualize(network_of("hand_made"), tiles=[tile], progress=False)
