"""Judges ways to make pictures, on the network that they are made on and on two that have never met them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.pictures import measures, networks

CLASSES = "classifier"  # the layer of class pictures
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # scikit-image's

Make = Callable[[str, Sequence[int]], tuple[Tensor, float]]  # a layer and features to images, and seconds of each
Numbers = dict[str, Any]


@dataclass
class Judged:
    """What ways to make pictures reached, in the order in which they were judged: numbers and pictures, by way."""

    numbers: dict[str, dict[str, Numbers]] = field(default_factory=dict)  # of `features` and `classes`
    pictures: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # (N, 3, H, W), as shown


@dataclass(frozen=True)
class Judge:
    """What pictures are made on, and shown to.

    Args:
        network: on which they are made.
        layer: of it, whose features are asked for.
        others: networks by name, with the size in pixels that each takes.
    """

    network: nn.Module
    layer: str
    others: dict[str, tuple[nn.Module, int]]

    def look(self, judged: Judged, name: str, make: Make, features: Sequence[int], classes: Sequence[int]) -> None:
        """Make pictures in one way, and add what they reach to what is known."""
        numbers, pictures = judged.numbers.setdefault(name, {}), judged.pictures.setdefault(name, {})
        if features:
            numbers["features"], pictures["features"] = self.of_features(make, features)
        if classes:
            numbers["classes"], pictures["classes"] = self.of_classes(make, classes)

    def of_features(self, make: Make, features: Sequence[int]) -> tuple[Numbers, Tensor]:
        """Numbers of one picture for each feature, and the pictures."""
        images, seconds = make(self.layer, features)
        images = measures.shown(images)
        activation = partial(networks.activations, self.network, self.layer, features=features)
        still, moved = activation(images), measures.moved_activation(activation, images)
        numbers = {
            "numbers": list(features),
            "activations": still.tolist(),
            "activation": float(still.mean()),
            "robustness": float(moved.sum() / still.sum()),
            **likeness(images),
            "seconds": seconds,
        }
        return numbers, images

    def of_classes(self, make: Make, classes: Sequence[int]) -> tuple[Numbers, Tensor]:
        """Numbers of one picture for each class, and the pictures."""
        images, seconds = make(CLASSES, classes)
        images = measures.shown(images)
        found = {
            name: measures.ranks(networks.logits(network, images, size), classes)
            for name, (network, size) in self.others.items()
        }
        numbers = {
            "numbers": list(classes),
            "ranks": {name: places.tolist() for name, places in found.items()},
            **measures.transfer(found),
            **likeness(images),
            "seconds": seconds,
        }
        return numbers, images


def likeness(images: Tensor) -> dict[str, float]:
    """Means over images of what is known of photographs."""
    return {
        "clipped": float(measures.clipped_share(images).mean()),
        "slope": float(measures.spectrum_slope(images).mean()),
        "color": float(measures.color_share(images).mean()),
    }


def photographs() -> dict[str, dict[str, float]]:
    """The same of the central squares of some photographs, by name; none where scikit-image is not installed."""
    try:
        from skimage import data
    except ImportError:
        print("photographs: scikit-image is not installed; they are left out")
        return {}
    found = {}
    for name in PHOTOGRAPHS:
        pixels = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None] / 255  # (1, 3, H, W)
        side = min(pixels.shape[2:])
        top, left = ((n - side) // 2 for n in pixels.shape[2:])
        found[name] = likeness(pixels[:, :, top : top + side, left : left + side])
    return found
