"""What the recipe `natural` is made of, one piece taken away at a time."""

from collections.abc import Iterator
from dataclasses import replace

from featlight.config.optimizer import Optimizer
from featlight.config.recipe import Octave, Recipe


def without_a_piece(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe without each of its pieces, by what is done instead; a piece that it does not have is left out."""
    return {name: changed for name, changed in _changed(recipe) if changed != recipe}


def _changed(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    yield "adam for spectral", replace(recipe, optimizer=Optimizer("adam"))
    for constant, words in _CONSTANTS.items():
        if constant in dict(recipe.optimizer.constants):
            changed = {**dict(recipe.optimizer.constants), constant: 0.0}
            yield words, replace(recipe, optimizer=Optimizer(recipe.optimizer.name, **changed))
    yield "unbounded for sigmoid", replace(recipe, range="unbounded")
    yield "no transforms", replace(recipe, transforms=(), object_transforms=())
    yield "objects seen as textures are", replace(recipe, object_transforms=None)
    yield "one octave", replace(recipe, octaves=[one_octave(recipe)])
    yield "no blur", replace(recipe, octaves=[replace(octave, sigma=None) for octave in recipe.octaves])
    yield "no redirected ReLU", replace(recipe, redirected_relu=0)


_CONSTANTS = {
    "exponent": "no falloff",
    "contrast": "no bound of contrast",
    "bound": "no bound of pixels",
    "pull": "no pull to gray",
}


def one_octave(recipe: Recipe) -> Octave:
    """All steps at the final size, annealed from the recipe's first values to its last."""
    first, last = recipe.octaves[0], recipe.octaves[-1]
    sigma = (first.sigma[0], last.sigma[1]) if first.sigma and last.sigma else None
    return Octave(last.size, recipe.total_steps, (first.lr[0], last.lr[1]), sigma)
