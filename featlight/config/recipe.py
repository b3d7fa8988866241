"""How an image is made: octaves, learning rates, blur. Plain data, no torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Pair = tuple[float, float]
Gradient = Literal["raw", "rms"]
# A tile of 8192 px is the largest that Pillow reads without taking it for an attack, and that fits a page of an atlas
LARGEST_SIZE, MOST_STEPS, MOST_OCTAVES = 8192, 1_000_000, 100
NAMED_STARTS = ("noise", "noise-per-feature", "gray")  # of `init`; any other word is the path of an image


@dataclass(frozen=True)
class Octave:
    """One stretch of descent at one image size.

    Args:
        size: side of the square image, in pixels.
        steps: number of gradient steps.
        lr: learning rate at the first step and the value that it anneals to.
        sigma: standard deviation of the 3 x 3 Gaussian blur after each step, in pixels, annealed likewise;
            None for no blur.

    Raises:
        ValueError: a value is out of its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    size: int
    steps: int
    lr: Pair
    sigma: Pair | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", _row("lr", self.lr))
        if self.sigma is not None:
            object.__setattr__(self, "sigma", _row("sigma", self.sigma))
        if not 2 <= self.size <= LARGEST_SIZE:
            raise ValueError(f"size: {self.size} pixels given; an image needs at least 2, {LARGEST_SIZE} at most")
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
class Step:
    """One gradient step, its learning rate and blur settled."""

    size: int  # of the image, in pixels
    lr: float
    sigma: float | None  # of the blur after it, in pixels
    gradient: Gradient
    opens_octave: bool


@dataclass(frozen=True)
class Recipe:
    """The whole descent of one image.

    Args:
        octaves: in the order in which they run; the image is resized between them.
        gradient: `raw` descends the gradient as it is (the article's way); `rms` divides each image's gradient
            by its own root mean square, so that weakly connected features move as far as strong ones.

    Raises:
        ValueError: no octave, or an unknown gradient.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    octaves: tuple[Octave, ...]
    gradient: Gradient = "raw"

    def __post_init__(self) -> None:
        object.__setattr__(self, "octaves", tuple(self.octaves))
        if not self.octaves:
            raise ValueError("octaves: none given; a recipe needs at least one")
        if len(self.octaves) > MOST_OCTAVES:
            raise ValueError(f"octaves: {len(self.octaves)} given; at most {MOST_OCTAVES} are allowed")
        if self.gradient not in ("raw", "rms"):
            raise ValueError(f"gradient: {self.gradient!r} given; allowed: raw, rms")

    @property
    def total_steps(self) -> int:
        return sum(octave.steps for octave in self.octaves)

    @property
    def first_size(self) -> int:
        return self.octaves[0].size

    @property
    def final_size(self) -> int:
        return self.octaves[-1].size

    def steps(self) -> Iterator[Step]:
        """Every step in order, as the article anneals them."""
        for octave in self.octaves:
            for i in range(octave.steps):
                sigma = None if octave.sigma is None else anneal(octave.sigma, i, octave.steps)
                yield Step(octave.size, anneal(octave.lr, i, octave.steps), sigma, self.gradient, opens_octave=i == 0)


def anneal(pair: Pair, i: int, n: int) -> float:
    """The value at step i of n, on the straight line that starts at pair[0] and would reach pair[1] at step n.

    Source: `octave` in the article's listing.
    """
    return pair[0] * (n - i) / n + pair[1] * i / n
