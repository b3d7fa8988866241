"""The starting images that have a name; any other value of `init` is the path of an image. No import of torch.

A starting image is a function here and its line of `NAMED_STARTS`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from featlight.config.image_shape import ImageSize, both_sides

if TYPE_CHECKING:
    from torch import Tensor


def noise(size: ImageSize, seed: int, channels: int = 3) -> "Tensor":
    """Draw uniform noise in [0.5, 0.6), in float32 on the CPU for every device and precision.

    Args:
        size: size of the image, in pixels.
        seed: seed of the noise.
        channels: number of channels of the image.

    Returns:
        (channels, H, W), float32.
    """
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.rand((channels, *both_sides(size)), generator=generator, dtype=torch.float32, device="cpu") / 10 + 0.5


def gray(size: ImageSize, _seed: int, channels: int = 3) -> "Tensor":
    """Return the middle between black and white, of the shape and data type of `noise`."""
    import torch

    return torch.full((channels, *both_sides(size)), 0.5, dtype=torch.float32, device="cpu")


class NamedStart(NamedTuple):
    """A starting image.

    Args:
        image: function from the size, the seed and the number of channels to an image.
        description: description in --help.
        is_noise: whether it differs by seed; the recipe's parameterization draws it instead if the range is bounded.
        is_per_feature: whether each feature has a seed of its own.
    """

    image: Callable[[ImageSize, int, int], "Tensor"]
    description: str = ""
    is_noise: bool = False
    is_per_feature: bool = False


NAMED_STARTS = {
    "noise": NamedStart(noise, "equal for all features", is_noise=True),
    "noise-per-feature": NamedStart(noise, is_noise=True, is_per_feature=True),
    "gray": NamedStart(gray, "0.5"),
}


def is_noise(init: object) -> bool:
    """Return whether a value of `init` names a noise."""
    return isinstance(init, str) and init in NAMED_STARTS and NAMED_STARTS[init].is_noise


def has_own_start(init: str, face: int | None) -> bool:
    """Return whether a tile's noise has a seed of its own, as for the faces of a feature."""
    return face is not None or (init in NAMED_STARTS and NAMED_STARTS[init].is_per_feature)
