"""Parameterizations by name, and their starting parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor

from featlight.config.image_shape import image_size
from featlight.config.named_starts import is_noise
from featlight.config.recipe import Recipe
from featlight.config.tile import Tile
from featlight.param.fourier import Fourier
from featlight.param.image import noise_seed, starting_images
from featlight.param.maco import Maco
from featlight.param.parameterization import Parameterization
from featlight.param.pixel import Pixel

KINDS: dict[str, type[Parameterization]] = {"pixel": Pixel, "fourier": Fourier, "maco": Maco}


def parameterization_of(recipe: Recipe, channels: int = 3) -> Parameterization:
    """Return a recipe's parameterization for images of a number of channels."""
    # the spectral optimizer decorrelates colors itself, from images in rgb; images of other than three channels have no
    # known color correlation
    color = "rgb" if recipe.optimizer.name == "spectral" or channels != 3 else recipe.color
    kind: type[Parameterization]
    kind = KINDS[recipe.parameterization] if isinstance(recipe.parameterization, str) else recipe.parameterization
    made = kind(recipe.range, color)
    made.channels = channels
    return made


def starting_parameters(
    parameterization: Parameterization, init: str | Tensor, size: tuple[int, int], seed: int, tiles: Sequence[Tile]
) -> Tensor:
    """Return the parameters of each tile's starting image.

    Args:
        parameterization: parameterization of the recipe; with a bounded range, it draws the noise.
        init: name, path or tensor that `starting_images` takes.
        size: height and width of the images, in pixels.
        seed: seed of the noise.
        tiles: tiles of the batch, N.

    Returns:
        (N, ...), on the CPU.

    Raises:
        UsageError: the starting image cannot be read, or the tensor has a wrong shape.
    """
    if not isinstance(init, str) or not is_noise(init) or parameterization.range == "unbounded":
        return parameterization.of(
            starting_images(init, image_size(*size), seed, list(tiles), parameterization.channels)
        )
    seeds = [noise_seed(init, seed, tile) for tile in tiles]
    drawn = {each: parameterization.noise(size, torch.Generator("cpu").manual_seed(each)) for each in set(seeds)}
    return torch.stack([drawn[each] for each in seeds])
