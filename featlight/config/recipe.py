"""Recipes: what is optimized, through which transforms, and the schedule of steps. No torch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer

from featlight.config.image_shape import LARGEST_SIZE, ImageSize, both_sides, parse_size, size_words
from featlight.config.optimizer import Optimizer, parse_optimizer
from featlight.config.transform_settings import Transform, parse_transform, plain_transform

Pair = tuple[float, float]
Gradient = Literal["raw", "rms"]
ParameterizationName = Literal["pixel", "fourier", "maco"]
Range = Literal["unbounded", "sigmoid"]
Color = Literal["rgb", "decorrelated"]
MOST_STEPS, MOST_OCTAVES = 1_000_000, 100


@dataclass(frozen=True)
class Octave:
    """A number of steps at one image size.

    Args:
        size: image size in pixels: the side of a square, or height and width.
        steps: number of gradient steps.
        lr: learning rate at the first step and the value to which it is annealed.
        sigma: standard deviation of the 3 x 3 Gaussian blur after each step, in pixels, at the first step and the value
            to which it is annealed; None for no blur.

    Raises:
        ValueError: a value is out of range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    size: Annotated[ImageSize, BeforeValidator(parse_size)]
    steps: int
    lr: Pair
    sigma: Pair | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", parse_size(self.size))
        object.__setattr__(self, "lr", _row("lr", self.lr))
        if self.sigma is not None:
            object.__setattr__(self, "sigma", _row("sigma", self.sigma))
        if not all(2 <= side <= LARGEST_SIZE for side in both_sides(self.size)):
            raise ValueError(
                f"size: {size_words(self.size)} pixels given; an image needs at least 2, {LARGEST_SIZE} at most"
            )
        if not 1 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps: {self.steps} given; an octave needs at least 1, and takes {MOST_STEPS:,} at most")
        if len(self.lr) != 2 or not all(0 <= lr < math.inf for lr in self.lr):
            raise ValueError(f"lr: {list(self.lr)} given; two numbers, both 0 or more, are needed")
        if self.sigma is not None and not (len(self.sigma) == 2 and all(0 < s < math.inf for s in self.sigma)):
            raise ValueError(f"sigma: {list(self.sigma)} given; two numbers above 0, or null, are needed")


def _row(key: str, given: Any) -> tuple[float, ...]:
    try:
        return tuple(given)
    except TypeError:
        raise ValueError(f"{key}: {given!r} given; two numbers are needed, the first and the last") from None


@dataclass(frozen=True)
class Regularizers:
    """Weights of penalties that are added to the loss.

    Args:
        tv: weight of the total variation: the mean absolute difference of neighboring pixels.
        l1: weight of the pixels' mean distance to gray (0.5).
        l2: weight of the pixels' mean squared distance to gray.
        statistics: weight of the distance to the statistics of photographs that the network's batch norms have stored:
            activation lost per neuron for a distance of 1.
        statistics_early: weight, within this distance, of the norms whose map is at least a quarter of the image's
            side; the other norms weigh 1.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    tv: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    statistics: float = 0.0
    statistics_early: float = 10.0

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ValueError(f"regularizers: {name}: {weight!r} given; a number is needed")
            if name.startswith("statistics") and weight < 0:
                raise ValueError(f"regularizers: {name}: {weight!r} given; 0 or more is needed")

    @property
    def of_pixels(self) -> bool:
        """Whether the pixels themselves are penalized."""
        return any((self.tv, self.l1, self.l2))


@dataclass(frozen=True)
class Step:
    """One gradient step with its annealed learning rate and blur."""

    number: int  # counted from 0 over all octaves
    size: tuple[int, int]  # height and width of the image, in pixels
    lr: float
    sigma: float | None  # of the blur after the step, in pixels
    gradient: Gradient
    opens_octave: bool
    redirected: bool  # whether inactive ReLUs pass the gradients that would activate them
    lifted: bool  # whether GELUs and SiLUs below their minimum pass the gradients that would raise them


OptimizerField = Annotated[
    Optimizer, BeforeValidator(parse_optimizer), PlainSerializer(lambda optimizer: optimizer.plain())
]
TransformField = Annotated[Transform, BeforeValidator(parse_transform), PlainSerializer(plain_transform)]


@dataclass(frozen=True)
class Recipe:
    """The whole optimization of one image.

    Args:
        octaves: octaves in the order in which they run; the image is resized between them.
        gradient: `raw` for the gradient as it is (as in the article), or `rms` to divide each image's gradient by its
            root mean square, so that weak features move as far as strong ones.
        parameterization: the optimized variable: `pixel` (the image tensor), `fourier` (scaled Fourier coefficients),
            or `maco` (phases, with the magnitudes of photographs); from Python also a subclass of
            `featlight.param.parameterization.Parameterization`.
        range: range of pixel values: `unbounded` (as in the article, clipped for display), or `sigmoid` (always in
            [0, 1]; the optimized variable is in logit units).
        color: `rgb`, or `decorrelated` for axes along which the colors of photographs vary independently; only for
            images of three channels, others are optimized channel by channel.
        optimizer: update rule with its constants, or its name.
        transforms: random transforms of the image before each step.
        object_transforms: transforms for features without a position in the image, such as classes, whose maps have
            a single position; None for `transforms`.
        regularizers: weights of penalties on the image.
        redirected_relu: number of first steps in which inactive ReLUs pass the gradients that would activate them;
            unless it is 0, GELUs and SiLUs below their minimum do so in all steps.

    Raises:
        ValueError: there is no octave, a value is unknown, or two values contradict each other.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    octaves: tuple[Octave, ...]
    gradient: Gradient = "raw"
    parameterization: ParameterizationName | type[Any] = "pixel"
    range: Range = "unbounded"
    color: Color = "rgb"
    optimizer: OptimizerField = field(default_factory=Optimizer)
    transforms: tuple[TransformField, ...] = ()
    object_transforms: tuple[TransformField, ...] | None = None
    regularizers: Regularizers = field(default_factory=Regularizers)
    redirected_relu: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "octaves", tuple(self.octaves))
        for key in ("transforms", "object_transforms"):
            given = getattr(self, key)
            if not isinstance(given, list | tuple) and (given is not None or key == "transforms"):
                raise ValueError(f"{key}: a {type(given).__name__} given; a list is needed, such as [Jitter(8)]")
        object.__setattr__(self, "transforms", tuple(parse_transform(each) for each in self.transforms))
        if self.object_transforms is not None:
            whole = tuple(parse_transform(each) for each in self.object_transforms)
            object.__setattr__(self, "object_transforms", whole)
        object.__setattr__(self, "optimizer", parse_optimizer(self.optimizer))
        if not self.octaves:
            raise ValueError("octaves: none given; a recipe needs at least one")
        if len(self.octaves) > MOST_OCTAVES:
            raise ValueError(f"octaves: {len(self.octaves)} given; at most {MOST_OCTAVES} are allowed")
        for name, allowed in _WORDS.items():
            own = name == "parameterization" and isinstance(self.parameterization, type)
            if getattr(self, name) not in allowed and not own:
                raise ValueError(f"{name}: {getattr(self, name)!r} given; allowed: {', '.join(allowed)}")
        given = self.redirected_relu
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= MOST_STEPS:
            raise ValueError(f"redirected_relu: {given!r} given; a number of steps, 0 or more, is needed")
        for refusal in _refusals(self):
            raise ValueError(refusal)

    @property
    def total_steps(self) -> int:
        return sum(octave.steps for octave in self.octaves)

    @property
    def keeps_alpha(self) -> bool:
        """Whether each image has a transparency map."""
        return self.parameterization == "maco"

    @property
    def views_differ(self) -> bool:
        """Whether a step may look at its images at another size than theirs."""
        return any(not each.keeps_size for each in (*self.transforms, *(self.object_transforms or ())))

    @property
    def first_size(self) -> ImageSize:
        return self.octaves[0].size

    @property
    def final_size(self) -> ImageSize:
        return self.octaves[-1].size

    def steps(self) -> Iterator[Step]:
        """Yield every step in order, annealed as in the article."""
        number = 0
        for octave in self.octaves:
            for i in range(octave.steps):
                sigma = None if octave.sigma is None else anneal(octave.sigma, i, octave.steps)
                yield Step(
                    number,
                    both_sides(octave.size),
                    anneal(octave.lr, i, octave.steps),
                    sigma,
                    self.gradient,
                    opens_octave=i == 0,
                    redirected=number < self.redirected_relu,
                    lifted=self.redirected_relu > 0,
                )
                number += 1


_WORDS = {
    "gradient": get_args(Gradient),
    "parameterization": get_args(ParameterizationName),
    "range": get_args(Range),
    "color": get_args(Color),
}


def _refusals(recipe: Recipe) -> Iterator[str]:
    """Yield an error line for each pair of values that contradict each other."""
    spectral = recipe.optimizer.name == "spectral"
    if spectral and recipe.parameterization != "pixel":
        yield (
            f"optimizer: spectral given with parameterization {recipe.parameterization}; "
            "it optimizes an image tensor: set parameterization to pixel"
        )
    if spectral and recipe.gradient == "rms":
        yield "gradient: rms given with optimizer spectral, which normalizes each step by itself; raw is allowed"
    if recipe.parameterization == "maco":
        if any(octave.sigma is not None for octave in recipe.octaves):
            yield "sigma: a blur given with parameterization maco, whose magnitudes are fixed; null is allowed"
        if recipe.range != "sigmoid":
            yield "range: unbounded given with parameterization maco, whose images are standardized; sigmoid is allowed"
    for key in ("transforms", "object_transforms"):
        yield from _crop_refusals(key, getattr(recipe, key) or ())


def _crop_refusals(key: str, transforms: Sequence[Transform]) -> Iterator[str]:
    names = [transform.name for transform in transforms if transform.name != "noise"]
    if sum(transform.is_crop for transform in transforms) > 1:
        yield f"{key}: more than one of crop and resized_crop given; an image is cropped once"
    elif "crop" in names[:-1]:
        yield f"{key}: crop given before other transforms; it must be the last, except for noise"


def anneal(pair: Pair, i: int, n: int) -> float:
    """Return the value at step i of n on the line from pair[0] at step 0 to pair[1] at step n.

    Source: `octave` in the article's listing.
    """
    return pair[0] * (n - i) / n + pair[1] * i / n


def merged(base: Any, changes: dict[str, Any]) -> Any:
    """Return a table with changes; an inner table is merged too, unless the change gives it another `name`."""
    if not isinstance(base, dict):
        return changes
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        renamed = (
            isinstance(value, dict) and isinstance(old, dict) and value.get("name", old.get("name")) != old.get("name")
        )
        result[key] = merged(old, value) if isinstance(value, dict) and not renamed else value
    return result
