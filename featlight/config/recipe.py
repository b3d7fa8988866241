"""How an image is made: what is optimised, how it is looked at, and the descent. Plain data, no torch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, PlainSerializer

from featlight.config.inputs.sizes import ImageSize, both_sides, parse_size, size_words
from featlight.config.optimizer import Optimizer, parse_optimizer
from featlight.config.transform_settings import Transform, parse_transform, plain_transform

Pair = tuple[float, float]
Gradient = Literal["raw", "rms"]
ParameterizationName = Literal["pixel", "fourier", "maco"]
Range = Literal["unbounded", "sigmoid"]
Color = Literal["rgb", "decorrelated"]
# A tile of 8192 px is the largest that Pillow reads without taking it for an attack, and that fits a page of an atlas
LARGEST_SIZE, MOST_STEPS, MOST_OCTAVES = 8192, 1_000_000, 100
NAMED_STARTS = ("noise", "noise-per-feature", "gray")  # of `init`; any other word is the path of an image


@dataclass(frozen=True)
class Octave:
    """One stretch of descent at one image size.

    Args:
        size: of the image, in pixels: the side of a square, or height and width.
        steps: number of gradient steps.
        lr: learning rate at the first step and the value that it anneals to.
        sigma: standard deviation of the 3 x 3 Gaussian blur after each step, in pixels, annealed likewise;
            None for no blur.

    Raises:
        ValueError: a value is out of its range.
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
    """What an image pays for besides its objective, each the weight of a term of its loss.

    Args:
        tv: total variation, the mean absolute difference between neighbouring pixels.
        l1: the mean distance of the pixels to gray (0.5).
        l2: their mean squared distance to gray.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    tv: float = 0.0
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tv", "l1", "l2"):
            weight = getattr(self, name)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise ValueError(f"regularizers: {name}: {weight!r} given; a number is needed")

    def __bool__(self) -> bool:
        return any((self.tv, self.l1, self.l2))


@dataclass(frozen=True)
class Step:
    """One gradient step, its learning rate and blur settled."""

    number: int  # among all of the recipe's, from 0
    size: tuple[int, int]  # height and width of the image, in pixels
    lr: float
    sigma: float | None  # of the blur after it, in pixels
    gradient: Gradient
    opens_octave: bool
    redirected: bool  # whether a ReLU that lets no gradient through lets that pass which would push it up
    lifted: bool  # likewise a GELU or SiLU below its minimum


OptimizerField = Annotated[
    Optimizer, BeforeValidator(parse_optimizer), PlainSerializer(lambda optimizer: optimizer.plain())
]
TransformField = Annotated[Transform, BeforeValidator(parse_transform), PlainSerializer(plain_transform)]


@dataclass(frozen=True)
class Recipe:
    """The whole descent of one image.

    Args:
        octaves: in the order in which they run; the image is resized between them.
        gradient: `raw` descends the gradient as it is (the article's way); `rms` divides each image's gradient
            by its own root mean square, so that weakly connected features move as far as strong ones.
        parameterization: what is optimised: `pixel` (the image tensor itself), `fourier` (its scaled Fourier
            coefficients), or `maco` (phases alone; magnitudes are those of photographs); or, from Python alone, a
            subclass of `featlight.param.parameterization.Parameterization`.
        range: of the image: `unbounded` (the article's, clipped when it is shown), or `sigmoid` (always in [0, 1]; what
            is optimised is in logit units).
        color: `rgb`, or `decorrelated`: along the colours in which photographs vary independently; images of other
            than three channels are held channel by channel all the same.
        optimizer: the rule of descent and its constants, or its name.
        transforms: what each step looks at instead of the image as it is.
        object_transforms: the same for features without a place in the image, such as classes, whose maps have one
            position: where the object is, is open; None for `transforms`.
        regularizers: what an image pays for besides its objective.
        redirected_relu: for how many steps a ReLU that lets no gradient through lets that pass which pushes it up; a
            GELU or SiLU does for as long as it rests below its minimum, unless this is 0.

    Raises:
        ValueError: no octave, an unknown word, or parts that do not go together.
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
        """Whether each image comes with its transparency."""
        return self.parameterization == "maco"

    @property
    def views_differ(self) -> bool:
        """Whether a step may look at its images at another size than theirs."""
        keeping = ("jitter", "scale", "rotate", "noise")
        return any(each.name not in keeping for each in (*self.transforms, *(self.object_transforms or ())))

    @property
    def first_size(self) -> ImageSize:
        return self.octaves[0].size

    @property
    def final_size(self) -> ImageSize:
        return self.octaves[-1].size

    def steps(self) -> Iterator[Step]:
        """Every step in order, as the article anneals them."""
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
    """What parts of a recipe do not go together, and why."""
    spectral = recipe.optimizer.name == "spectral"
    if spectral and recipe.parameterization != "pixel":
        yield (
            f"optimizer: spectral given with parameterization {recipe.parameterization}; "
            "it steps on an image tensor, so it needs pixel"
        )
    if spectral and recipe.gradient == "rms":
        yield "gradient: rms given with optimizer spectral, which brings each image's step to one size; raw is allowed"
    if recipe.parameterization == "maco":
        if any(octave.sigma is not None for octave in recipe.octaves):
            yield "sigma: a blur given with parameterization maco, whose magnitudes never change; null is allowed"
        if recipe.range != "sigmoid":
            yield "range: unbounded given with parameterization maco, whose images are standardised; sigmoid is allowed"
    for key in ("transforms", "object_transforms"):
        yield from _crop_refusals(key, getattr(recipe, key) or ())


def _crop_refusals(key: str, transforms: Sequence[Transform]) -> Iterator[str]:
    names = [transform.name for transform in transforms if transform.name != "noise"]
    if sum(name in ("crop", "resized_crop") for name in names) > 1:
        yield f"{key}: more than one of crop and resized_crop given; an image is cropped once"
    elif "crop" in names[:-1]:
        yield f"{key}: crop stands after all others but noise"


def anneal(pair: Pair, i: int, n: int) -> float:
    """The value at step i of n, on the straight line that starts at pair[0] and would reach pair[1] at step n.

    Source: `octave` in the article's listing.
    """
    return pair[0] * (n - i) / n + pair[1] * i / n


def merged(base: Any, changes: dict[str, Any]) -> Any:
    """A table with some parts changed; a part that is a table itself is changed in parts, unless it gets a new name."""
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
