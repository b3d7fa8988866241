"""The settings of random transforms. No torch.

    transforms: [{jitter: 8}, {scale: [0.9, 1.1]}, {rotate: [-8, 8]}]

Each image has its own random parameters at each step; they depend only on the seed, the tile and the step.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from featlight.config.optimizer import python_name
from featlight.errors import unknown


@dataclass(frozen=True)
class Pad:
    """Pad the image with gray.

    Args:
        pixels: width of the padding on every side.
    """

    pixels: float
    name: ClassVar = "pad"

    def __post_init__(self) -> None:
        _check(self.name, self.pixels, 0, 4096)


@dataclass(frozen=True)
class Jitter:
    """Shift the image by a uniform random offset along each axis.

    Args:
        pixels: largest offset in each direction.
    """

    pixels: float
    name: ClassVar = "jitter"

    def __post_init__(self) -> None:
        _check(self.name, self.pixels, 0, 4096)


@dataclass(frozen=True)
class Scale:
    """Scale the image by a random factor, log-uniform.

    Args:
        low: smallest factor.
        high: largest factor.
    """

    low: float
    high: float
    name: ClassVar = "scale"

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, 0.01, 100)


@dataclass(frozen=True)
class Rotate:
    """Rotate the image about its center by a uniform random angle.

    Args:
        low: smallest angle in degrees; counterclockwise is positive.
        high: largest angle in degrees.
    """

    low: float
    high: float
    name: ClassVar = "rotate"

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, -360, 360)


@dataclass(frozen=True)
class Crop:
    """Crop square boxes around the image's center and resize each; the loss is the mean over them.

    Args:
        boxes: number of boxes per image.
        side: side of a box as a fraction of the image's side, at the first and the last step.
        spread: standard deviation of the box centers, as a fraction of the image's side.
        view: side of a resized box, as a fraction of the image's side.
    """

    boxes: int
    side: tuple[float, float]
    spread: float = 0.15
    view: float = 1.0
    name: ClassVar = "crop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", tuple(self.side))
        _check_boxes(self.name, self.boxes)
        if len(self.side) != 2 or not all(0.01 <= share <= 1 for share in self.side):
            raise ValueError(f"transforms: crop: side: {list(self.side)} given; two shares from 0.01 to 1 are needed")
        _check("crop: spread", self.spread, 0, 10)
        _check("crop: view", self.view, 0.01, 4)


@dataclass(frozen=True)
class ResizedCrop:
    """Crop square boxes with log-uniform sides and uniform positions, and resize each; the loss is the mean over them.

    Like torchvision's RandomResizedCrop.

    Args:
        low: smallest side of a box, as a fraction of the image's side.
        high: largest side of a box, as a fraction of the image's side.
        view: side of a resized box, as a fraction of the image's side.
        boxes: number of boxes per image.
    """

    low: float
    high: float
    view: float = 1.0
    boxes: int = 1
    name: ClassVar = "resized_crop"

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, 0.01, 1)
        _check(f"{self.name}: view", self.view, 0.01, 4)
        _check_boxes(self.name, self.boxes)


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise to every transformed image.

    Args:
        start: standard deviation at the first step, in pixel units.
        end: standard deviation at the last step.
    """

    start: float
    end: float
    name: ClassVar = "noise"

    def __post_init__(self) -> None:
        _check(self.name, self.start, 0, 10)
        _check(self.name, self.end, 0, 10)


@dataclass(frozen=True)
class Lambda:
    """A user's function, from Python only, applied after all other transforms but noise.

    Args:
        function: function from the transformed versions (N, C, H, W) of one image, in pixel units, and optionally the
            number of the step, to (N, C, H', W'), such as a torchvision transform. The global random generators are
            seeded by image and step before each call.
    """

    function: Callable[..., Any]
    name: ClassVar = "own"

    @property
    def word(self) -> str:
        """Return the function's name."""
        return python_name(self.function)

    @property
    def takes_step(self) -> bool:
        """Whether the function has a second argument that is required or named `step`."""
        try:
            named = inspect.signature(getattr(self.function, "forward", self.function)).parameters.values()
        except (TypeError, ValueError):  # a builtin
            return False
        places = [each for each in named if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        return len(places) > 1 and (places[1].default is places[1].empty or places[1].name == "step")


Transform = Pad | Jitter | Scale | Rotate | Crop | ResizedCrop | Noise | Lambda
KINDS: dict[str, type[Transform]] = {
    kind.name: kind for kind in (Pad, Jitter, Scale, Rotate, Crop, ResizedCrop, Noise, Lambda)
}


def parse_transform(given: Any) -> Any:
    """Parse a table such as `{jitter: 8}`.

    Raises:
        ValueError: the transform does not exist, or its values do not fit.
    """
    if callable(given):
        return Lambda(given)
    if not isinstance(given, Mapping):
        return given
    if len(given) != 1:
        raise ValueError(f"transforms: {given!r} given; each needs one name and its values, as in jitter: 8")
    ((name, values),) = given.items()
    if name == Lambda.name:
        raise ValueError(f"transforms: own: {values!r} given; only Python accepts a function (Recipe(transforms=...))")
    if name not in KINDS:
        raise ValueError(f"transforms: {unknown('transform', str(name), KINDS)}")
    kind: Any = KINDS[name]
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    try:
        if isinstance(values, Mapping):
            return kind(**values)
        if kind is Noise and not listed:
            return Noise(values, values)
        return kind(*values) if listed else kind(values)
    except TypeError:
        raise ValueError(f"transforms: {name}: {values!r} given; {_NEEDS[name]}") from None


_NEEDS = {
    "pad": "a number of pixels is needed",
    "jitter": "a number of pixels is needed",
    "scale": "the smallest and the largest factor are needed, as in [0.9, 1.1]",
    "rotate": "the smallest and the largest angle in degrees are needed, as in [-8, 8]",
    "crop": "a table is needed, as in {boxes: 4, side: [0.5, 0.2], spread: 0.15, view: 0.5}",
    "resized_crop": "a table is needed, as in {low: 0.45, high: 1, view: 0.75, boxes: 2}",
    "noise": "a standard deviation is needed, or one for the first and one for the last step",
}


def draws(transform: Transform) -> bool:
    """Return whether the transform is random, so that two equal images may be transformed differently."""
    match transform:
        case Jitter(pixels):
            return pixels > 0
        case Scale(low, high) | Rotate(low, high):
            return low < high
        case ResizedCrop(low):
            return low < 1
        case Crop(_, side, spread):
            return spread > 0 and min(side) < 1
        case Noise(start, end):
            return max(start, end) > 0
    return isinstance(transform, Lambda)


def plain_transform(transform: Transform) -> dict[str, Any]:
    """Return the table that `parse_transform` reads back."""
    match transform:
        case Pad(pixels) | Jitter(pixels):
            values: Any = pixels
        case Scale(low, high) | Rotate(low, high):
            values = [low, high]
        case Noise(start, end):
            values = [start, end]
        case Crop(boxes, side, spread, view):
            values = {"boxes": boxes, "side": list(side), "spread": spread, "view": view}
        case ResizedCrop(low, high, view, boxes):
            values = {"low": low, "high": high, "view": view, "boxes": boxes}
        case Lambda():
            values = transform.word
    return {transform.name: values}


def transform_in_words(transform: Transform) -> str:
    """Return a transform as text: "scale 0.9 to 1.1"."""
    match transform:
        case Pad(pixels) | Jitter(pixels):
            return f"{transform.name} {pixels:g} px"
        case Scale(low, high):
            return f"scale {low:g} to {high:g}"
        case Rotate(low, high):
            return f"rotate {low:g} to {high:g} degrees"
        case Noise(start, end):
            return f"noise {start:g} to {end:g}"
        case Lambda():
            return transform.word
        case Crop(boxes, side, _, _):
            return f"crop {boxes} boxes of {side[0]:g} to {side[1]:g}"
        case ResizedCrop(low, high, _, boxes):
            return f"resized crop {boxes} boxes of {low:g} to {high:g}"


def _check(name: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high:
        raise ValueError(f"transforms: {name}: {value!r} given; a number from {low} to {high} is needed")


def _check_boxes(name: str, boxes: Any) -> None:
    if isinstance(boxes, bool) or not isinstance(boxes, int) or not 1 <= boxes <= 256:
        raise ValueError(f"transforms: {name}: boxes: {boxes!r} given; 1 to 256 are allowed")


def _check_range(name: str, smallest: Any, largest: Any, low: float, high: float) -> None:
    _check(name, smallest, low, high)
    _check(name, largest, low, high)
    if smallest > largest:
        raise ValueError(f"transforms: {name}: {[smallest, largest]} given; the smaller number comes first")
