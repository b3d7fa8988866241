"""Where descents start, as parameters of the images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from featlight.config.inputs.sizes import image_size
from featlight.config.tile import Tile
from featlight.param.image import noise_seed, starting_images
from featlight.param.parameterization import Parameterization


def starting_parameters(
    parameterization: Parameterization, init: str | Tensor, size: tuple[int, int], seed: int, tiles: Sequence[Tile]
) -> Tensor:
    """Parameters of the images that the descent of each tile starts from.

    Args:
        parameterization: of the recipe; where its range is bounded, it has a noise of its own.
        init: as `starting_images` takes it.
        size: height and width of the images, in pixels.
        seed: of the noise.
        tiles: N of them.

    Returns:
        (N, ...), on the CPU.

    Raises:
        UsageError: the starting image cannot be read, or the tensor has another shape.
    """
    if not isinstance(init, str) or not init.startswith("noise") or parameterization.range == "unbounded":
        return parameterization.of(
            starting_images(init, image_size(*size), seed, list(tiles), parameterization.channels)
        )
    seeds = [noise_seed(init, seed, tile) for tile in tiles]
    drawn = {each: parameterization.noise(size, torch.Generator("cpu").manual_seed(each)) for each in set(seeds)}
    return torch.stack([drawn[each] for each in seeds])
