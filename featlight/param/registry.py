"""Parameterizations by name."""

from featlight.config.recipe import Recipe
from featlight.param.fourier import Fourier
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
