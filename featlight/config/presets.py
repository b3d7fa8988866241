"""The recipes that featlight ships, and the default layers of networks. No torch."""

from dataclasses import replace

from featlight.config.optimizer import Optimizer
from featlight.config.recipe import Octave, Recipe, Regularizers
from featlight.config.transform_settings import Crop, Jitter, Noise, Pad, ResizedCrop, Rotate, Scale

EMBEDDED = "tiny_inception"
LITE = "efficientnet_lite0"

ARTICLE = Recipe(
    (
        Octave(size=299, steps=100, lr=(0.4, 0.3), sigma=(2.4, 0.8)),
        Octave(size=340, steps=100, lr=(0.3, 0.2), sigma=(1.5, 0.4)),
        Octave(size=380, steps=100, lr=(0.2, 0.1), sigma=(1.1, 0.3)),
    )
)

# The default: the image tensor, optimized in its whitened spectrum.
NATURAL = Recipe(
    (
        Octave(size=128, steps=48, lr=(0.03, 0.02), sigma=(0.5, 0.4)),
        Octave(size=192, steps=48, lr=(0.02, 0.003), sigma=(0.4, 0.3)),
    ),
    range="sigmoid",
    color="decorrelated",
    optimizer=Optimizer("spectral"),
    transforms=(Jitter(8), Scale(0.9, 1.1), Rotate(-8, 8)),
    object_transforms=(Jitter(8), ResizedCrop(0.45, 1.0, view=0.75, boxes=4), Rotate(-15, 15)),
    redirected_relu=16,
)

# Natural pictures with the statistics of photographs that the network's batch norms have stored.
# Source: the regularizer of Yin et al. 2020, "Dreaming to distill" (DeepInversion), here for each image by itself.
PHOTOGRAPHIC = replace(NATURAL, regularizers=Regularizers(statistics=80.0, statistics_early=10.0))

# The method of lucid and lucent: Fourier coefficients, optimized by Adam.
# Source: lucid, `optvis/render.py` and `transform.py`.
LUCID = Recipe(
    (Octave(size=128, steps=512, lr=(0.05, 0.05)),),
    parameterization="fourier",
    range="sigmoid",
    color="decorrelated",
    optimizer=Optimizer("adam"),
    transforms=(Pad(12), Jitter(8), Scale(0.9, 1.1), Rotate(-10, 10), Jitter(4)),
    redirected_relu=16,
)

# Optimized phases with the magnitudes of photographs.
# Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks", and their Horama.
MACO = Recipe(
    (Octave(size=320, steps=128, lr=(0.5, 0.05)),),
    parameterization="maco",
    range="sigmoid",
    color="decorrelated",
    optimizer=Optimizer("nadam"),
    transforms=(Crop(boxes=4, side=(0.6, 0.3), spread=0.15, view=0.5), Noise(0.05, 0.05)),
)

# Gradients of the embedded network differ in size between features, so each is scaled to the same size.
TINY_INCEPTION = Recipe(
    (
        Octave(size=80, steps=24, lr=(0.08, 0.06), sigma=(1.2, 0.6)),
        Octave(size=112, steps=20, lr=(0.06, 0.04), sigma=(1.0, 0.5)),
        Octave(size=144, steps=12, lr=(0.03, 0.015), sigma=(0.8, 0.4)),
    ),
    gradient="rms",
)

RECIPES = {
    "article": ARTICLE,
    "natural": NATURAL,
    "photographic": PHOTOGRAPHIC,
    "lucid": LUCID,
    "maco": MACO,
    EMBEDDED: TINY_INCEPTION,
}


def recipe_name(recipe: Recipe) -> str | None:
    """Return the name of a recipe that featlight ships; None for any other."""
    return next((name for name, shipped in RECIPES.items() if shipped == recipe), None)


# For any other network the user must name a layer.
DEFAULT_LAYERS = {
    EMBEDDED: "Mixed_5a",
    LITE: "blocks.4.0",
    "inception_v3": "Mixed_6b",
    "googlenet": "inception4c",
    "resnet50": "layer3",
}
