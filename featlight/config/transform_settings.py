"""The settings of random transforms. No torch.

    transforms: [{jitter: 8}, {scale: [0.9, 1.1]}, {rotate: [-8, 8]}]

Each image has its own random parameters at each step; they depend only on the seed, the tile and the step.
"""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from featlight.config.optimizer import python_name
from featlight.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor


class TransformKind(ABC):
    """A transform: a frozen dataclass of numbers with a name, and its place in `Transform`."""

    name: ClassVar[str]  # in a recipe
    needs: ClassVar[str] = ""  # its values, in an error line
    keeps_size: ClassVar[bool] = True  # whether a view has the size of its image
    is_crop: ClassVar[bool] = False

    @property
    @abstractmethod
    def is_random(self) -> bool:
        """Whether two equal images may be transformed differently."""

    @property
    @abstractmethod
    def values(self) -> Any:
        """The values in a recipe: a number, list or table from which `parse_transform` makes the transform."""

    @abstractmethod
    def in_words(self) -> str:
        """Return the transform as text: "scale 0.9 to 1.1"."""


class AffineTransform(TransformKind):
    """A transform by a random affine map. One sampling applies all of them."""

    columns: ClassVar[int] = 1  # random numbers per view

    @abstractmethod
    def matrix(self, draws: "Tensor", size: tuple[float, float]) -> "Tensor":
        """Return the matrix of the transform, from positions in the view to positions in the image.

        Args:
            draws: (N, columns), in [0, 1).
            size: height and width of the image, in pixels.

        Returns:
            (N, 3, 3), in coordinates from -1 to 1.
        """


@dataclass(frozen=True)
class RangeTransform(AffineTransform):
    """An affine transform by one random number between two ends."""

    low: float
    high: float

    @property
    def is_random(self) -> bool:
        return self.low < self.high

    @property
    def values(self) -> Any:
        return [self.low, self.high]


@dataclass(frozen=True)
class Pad(TransformKind):
    """Pad the image with gray.

    Args:
        pixels: width of the padding on every side.
    """

    pixels: float
    name: ClassVar = "pad"
    keeps_size: ClassVar = False
    needs: ClassVar = "a number of pixels is needed"

    def __post_init__(self) -> None:
        _check(self.name, self.pixels, 0, 4096)

    @property
    def is_random(self) -> bool:
        return False

    @property
    def values(self) -> Any:
        return self.pixels

    def in_words(self) -> str:
        return f"{self.name} {self.pixels:g} px"


@dataclass(frozen=True)
class Jitter(AffineTransform):
    """Shift the image by a uniform random offset along each axis.

    Args:
        pixels: largest offset in each direction.
    """

    pixels: float
    name: ClassVar = "jitter"
    needs: ClassVar = "a number of pixels is needed"
    columns: ClassVar = 2

    def __post_init__(self) -> None:
        _check(self.name, self.pixels, 0, 4096)

    @property
    def is_random(self) -> bool:
        return self.pixels > 0

    @property
    def values(self) -> Any:
        return self.pixels

    def in_words(self) -> str:
        return f"{self.name} {self.pixels:g} px"

    def matrix(self, draws: "Tensor", size: tuple[float, float]) -> "Tensor":
        import torch

        x, y = ((2 * draws[:, axis] - 1) * 2 * self.pixels / side for axis, side in ((0, size[1]), (1, size[0])))
        one, zero = torch.ones_like(x), torch.zeros_like(x)
        return matrix_of([[one, zero, x], [zero, one, y], [zero, zero, one]])


@dataclass(frozen=True)
class Scale(RangeTransform):
    """Scale the image by a random factor, log-uniform.

    Args:
        low: smallest factor.
        high: largest factor.
    """

    name: ClassVar = "scale"
    needs: ClassVar = "the smallest and the largest factor are needed, as in [0.9, 1.1]"

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, 0.01, 100)

    def in_words(self) -> str:
        return f"scale {self.low:g} to {self.high:g}"

    def matrix(self, draws: "Tensor", _size: tuple[float, float]) -> "Tensor":
        import torch

        shrunk = torch.exp(-(math.log(self.low) + draws[:, 0] * math.log(self.high / self.low)))
        one, zero = torch.ones_like(shrunk), torch.zeros_like(shrunk)
        return matrix_of([[shrunk, zero, zero], [zero, shrunk, zero], [zero, zero, one]])


@dataclass(frozen=True)
class Rotate(RangeTransform):
    """Rotate the image about its center by a uniform random angle.

    Args:
        low: smallest angle in degrees; counterclockwise is positive.
        high: largest angle in degrees.
    """

    name: ClassVar = "rotate"
    needs: ClassVar = "the smallest and the largest angle in degrees are needed, as in [-8, 8]"

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, -360, 360)

    def in_words(self) -> str:
        return f"rotate {self.low:g} to {self.high:g} degrees"

    def matrix(self, draws: "Tensor", size: tuple[float, float]) -> "Tensor":
        import torch

        angle = torch.deg2rad(self.low + (self.high - self.low) * draws[:, 0])
        cos, sin, ratio = torch.cos(angle), torch.sin(angle), size[0] / size[1]
        one, zero = torch.ones_like(angle), torch.zeros_like(angle)
        return matrix_of([[cos, -sin * ratio, zero], [sin / ratio, cos, zero], [zero, zero, one]])


@dataclass(frozen=True)
class Crop(TransformKind):
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
    keeps_size: ClassVar = False
    is_crop: ClassVar = True
    needs: ClassVar = "a table is needed, as in {boxes: 4, side: [0.5, 0.2], spread: 0.15, view: 0.5}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", tuple(self.side))
        _check_boxes(self.name, self.boxes)
        if len(self.side) != 2 or not all(0.01 <= share <= 1 for share in self.side):
            raise ValueError(f"transforms: crop: side: {list(self.side)} given; two shares from 0.01 to 1 are needed")
        _check("crop: spread", self.spread, 0, 10)
        _check("crop: view", self.view, 0.01, 4)

    @property
    def is_random(self) -> bool:
        return self.spread > 0 and min(self.side) < 1

    @property
    def values(self) -> Any:
        return {"boxes": self.boxes, "side": list(self.side), "spread": self.spread, "view": self.view}

    def in_words(self) -> str:
        return f"crop {self.boxes} boxes of {self.side[0]:g} to {self.side[1]:g}"


@dataclass(frozen=True)
class ResizedCrop(AffineTransform):
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
    keeps_size: ClassVar = False
    is_crop: ClassVar = True
    needs: ClassVar = "a table is needed, as in {low: 0.45, high: 1, view: 0.75, boxes: 2}"
    columns: ClassVar = 3

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, 0.01, 1)
        _check(f"{self.name}: view", self.view, 0.01, 4)
        _check_boxes(self.name, self.boxes)

    @property
    def is_random(self) -> bool:
        return self.low < 1

    @property
    def values(self) -> Any:
        return {"low": self.low, "high": self.high, "view": self.view, "boxes": self.boxes}

    def in_words(self) -> str:
        return f"resized crop {self.boxes} boxes of {self.low:g} to {self.high:g}"

    def matrix(self, draws: "Tensor", _size: tuple[float, float]) -> "Tensor":
        import torch

        side = torch.exp(math.log(self.low) + draws[:, 0] * math.log(self.high / self.low))
        x, y = ((1 - side) * (2 * draws[:, 1 + axis] - 1) for axis in (0, 1))
        return square(side, x, y)


@dataclass(frozen=True)
class Noise(TransformKind):
    """Add Gaussian noise to every transformed image.

    Args:
        start: standard deviation at the first step, in pixel units.
        end: standard deviation at the last step.
    """

    start: float
    end: float
    name: ClassVar = "noise"
    needs: ClassVar = "a standard deviation is needed, or one for the first and one for the last step"

    def __post_init__(self) -> None:
        _check(self.name, self.start, 0, 10)
        _check(self.name, self.end, 0, 10)

    @property
    def is_random(self) -> bool:
        return max(self.start, self.end) > 0

    @property
    def values(self) -> Any:
        return [self.start, self.end]

    def in_words(self) -> str:
        return f"noise {self.start:g} to {self.end:g}"


@dataclass(frozen=True)
class Lambda(TransformKind):
    """A user's function, from Python only, applied after all other transforms but noise.

    Args:
        function: function from the transformed versions (N, C, H, W) of one image, in pixel units, and optionally the
            number of the step, to (N, C, H', W'), such as a torchvision transform. The global random generators are
            seeded by image and step before each call.
    """

    function: Callable[..., Any]
    name: ClassVar = "own"
    keeps_size: ClassVar = False

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

    @property
    def is_random(self) -> bool:
        return True

    @property
    def values(self) -> Any:
        return self.word

    def in_words(self) -> str:
        return self.word


Transform = Pad | Jitter | Scale | Rotate | Crop | ResizedCrop | Noise | Lambda
KINDS: dict[str, type[Transform]] = {kind.name: kind for kind in get_args(Transform)}


def parse_transform(given: Any) -> Any:
    """Parse a table such as `{jitter: 8}`.

    Raises:
        ValueError: the transform does not exist, or its values do not fit.
    """
    if callable(given):
        return Lambda(given)
    if isinstance(given, TransformKind):
        return given
    if not isinstance(given, Mapping):
        raise ValueError(
            f"transforms: {str(given)[:60]!r} given; each is a table as in jitter: 8, or from Python a function"
        )
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
        raise ValueError(f"transforms: {name}: {values!r} given; {kind.needs}") from None


def square(side: "Tensor", x: "Tensor", y: "Tensor") -> "Tensor":
    """Return the matrices (N, 3, 3) of square crops: sides relative to the image, centers from -1 to 1, all (N,)."""
    import torch

    zero, one = torch.zeros_like(side), torch.ones_like(side)
    return matrix_of([[side, zero, x], [zero, side, y], [zero, zero, one]])


def matrix_of(rows: "Sequence[Sequence[Tensor]]") -> "Tensor":
    """Return matrices (N, 3, 3) from their entries, (N,) each."""
    import torch

    return torch.stack([torch.stack(list(row), -1) for row in rows], 1)


def plain_transform(transform: TransformKind) -> dict[str, Any]:
    """Return the table that `parse_transform` reads back."""
    return {transform.name: transform.values}


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
