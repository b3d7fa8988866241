"""Combinations that cannot do what they are for are refused, before any step."""

import dataclasses

import pytest
import torch
from torch import nn

import featlight
from featlight.cli.main import main
from featlight.config.validation import check
from featlight.errors import UsageError

OCTAVES = [featlight.Octave(16, 1, (0.1, 0.1))]
STILL = featlight.Recipe(OCTAVES)
FIXED = featlight.Recipe(OCTAVES, transforms=[featlight.Jitter(0), featlight.Rotate(5, 5), featlight.Noise(0, 0)])
MOVED = dataclasses.replace(STILL, transforms=[featlight.Jitter(1)])


def images(**words):
    torch.manual_seed(0)
    return featlight.visualize(nn.Sequential(nn.Conv2d(3, 4, 3)), "0", progress=False, **words).images


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"diversity": 3, "init": "gray", "recipe": STILL}, r"diversity: 3 given, but .* one image \(gray\)"),
        ({"diversity": 3, "init": "gray", "recipe": FIXED}, "diversity: 3 given"),
        ({"diversity": 2, "init": torch.rand(3, 16, 16), "recipe": STILL}, "diversity: 2 given"),
        ({"features": [2, 2], "interpolate": 3, "recipe": STILL}, "interpolate: 3 given"),
        ({"tiles": [featlight.Tile("none", [featlight.Term("0", 1, weight=0.0)])]}, "tiles: 'none' given; the weig"),
        (
            {"tiles": [featlight.Tile("none", [featlight.Term("0", 1), featlight.Term("0", 1, weight=-1.0)])]},
            "tiles: 'none' given; the weights of its terms sum to 0",
        ),
    ],
)
def test_what_could_not_be_seen_is_refused(words, line):
    if "tiles" in words:
        words |= {"recipe": STILL}
        with pytest.raises(UsageError, match=line):
            featlight.visualize(nn.Sequential(nn.Conv2d(3, 4, 3)), progress=False, **words)
        return
    with pytest.raises(UsageError, match=line):
        images(**{"features": [0], **words})


@pytest.mark.parametrize(
    "words",
    [
        {"init": "noise", "recipe": STILL},
        {"init": "gray", "recipe": MOVED},
        {"init": torch.rand(2, 3, 16, 16), "recipe": STILL},
    ],
)
def test_pictures_that_start_or_are_seen_apart_differ(words):
    one, other = images(features=[0], diversity=2, **words)
    assert not torch.equal(one, other)


def test_variants_that_are_one_are_refused(capsys):
    variants = [{"name": "a", "seed": 3}, {"name": "b", "seed": 4}, {"name": "c", "seed": 3}]
    with pytest.raises(UsageError, match="variants: 'a' and 'c' given; they make the same pictures"):
        check({"variants": variants})
    check({"variants": variants[:2]})
    assert main(["--diversity", "2", "--init", "gray", "--recipe", "article", "--features", "0"]) == 2
    assert "--diversity: 2 given" in capsys.readouterr().err
