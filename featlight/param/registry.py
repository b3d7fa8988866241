"""Parameterizations by name."""

from featlight.config.recipe import Recipe
from featlight.param.fourier import Fourier
from featlight.param.maco import Maco
from featlight.param.parameterization import Parameterization
from featlight.param.pixel import Pixel

KINDS: dict[str, type[Parameterization]] = {"pixel": Pixel, "fourier": Fourier, "maco": Maco}


def parameterization_of(recipe: Recipe, channels: int = 3) -> Parameterization:
    """What a recipe optimises, for images of so many channels."""
    # the spectral step works along independent colours by itself, on an image tensor in rgb; what colours photographs
    # have says nothing of images of other channels
    color = "rgb" if recipe.optimizer.name == "spectral" or channels != 3 else recipe.color
    kind: type[Parameterization]
    kind = KINDS[recipe.parameterization] if isinstance(recipe.parameterization, str) else recipe.parameterization
    made = kind(recipe.range, color)
    made.channels = channels
    return made
