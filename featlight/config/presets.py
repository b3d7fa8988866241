"""What featlight ships by name: recipes, and what suits which network. Plain data, no torch."""

from featlight.config.recipe import Octave, Recipe

EMBEDDED = "tiny_inception"

ARTICLE = Recipe(
    (
        Octave(size=299, steps=100, lr=(0.4, 0.3), sigma=(2.4, 0.8)),
        Octave(size=340, steps=100, lr=(0.3, 0.2), sigma=(1.5, 0.4)),
        Octave(size=380, steps=100, lr=(0.2, 0.1), sigma=(1.1, 0.3)),
    )
)

# The embedded network's gradients differ in size from feature to feature, so each is brought to one size.
TINY_INCEPTION = Recipe(
    (
        Octave(size=80, steps=24, lr=(0.08, 0.06), sigma=(1.2, 0.6)),
        Octave(size=112, steps=20, lr=(0.06, 0.04), sigma=(1.0, 0.5)),
        Octave(size=144, steps=12, lr=(0.03, 0.015), sigma=(0.8, 0.4)),
    ),
    gradient="rms",
)

# What featlight knows of a network before it loads it. Others name a layer, and run the article's recipe.
DEFAULT_LAYERS = {
    EMBEDDED: "Mixed_5a",
    "inception_v3": "Mixed_6b",
    "googlenet": "inception4c",
    "resnet50": "layer3",
}
RECIPES = {EMBEDDED: TINY_INCEPTION}


def default_recipe(model: str) -> Recipe:
    """The recipe that featlight ships for a network: its own, or the article's."""
    return RECIPES.get(model, ARTICLE)
