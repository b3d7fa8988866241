"""The images that a network takes: the number of channels and the sizes, found by running it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from featlight.config.image_shape import LARGEST_SIZE, ImageSize, both_sides, image_size, pixels_of
from featlight.config.named_starts import noise
from featlight.errors import one_line
from featlight.models.hooks import forward_hooks
from featlight.param.image import MeanAndStd, normalized

COMMON_CHANNELS = (1, 4, 2, *range(5, 17))
COMMON_SIZES = (224, 256, 384, 299, 32, 64, 28, 96, 128, 192, 448, 512, 518, 336)
FURTHER = 64  # pixels by which a second image size is larger, to see which dimensions change with the size
MOST_TRIED = 32  # sizes; each costs a run of the network, though mostly a short one
SIZE_ATTRIBUTES = ("img_size", "image_size", "input_size")  # attributes in which networks keep their input size


class FixedInputSize(NamedTuple):
    """The input size of a network that does not take all sizes.

    Args:
        size: size that the network takes.
        free: names of the layers that run at every size, because they come before the first that does not.
    """

    size: ImageSize
    free: frozenset[str] = frozenset()


class Inputs(NamedTuple):
    """The images that a network takes.

    Args:
        channels: number of channels.
        views: input size by image size, for the image sizes that the network does not take.
    """

    channels: int = 3
    views: Mapping[ImageSize, FixedInputSize] = {}


class _Attempt(NamedTuple):
    failure: str | None
    ended: frozenset[str]  # names of modules


_Try = Callable[[ImageSize, int], _Attempt]  # from size and number of channels


def probe_images(
    size: ImageSize, device: torch.device, dtype: torch.dtype, channels: int, pixels: MeanAndStd | None
) -> Tensor:
    """Return two equal noise images, normalized, (2, C, H, W)."""
    return normalized(noise(size, 0, channels).expand(2, -1, -1, -1).to(device, dtype), pixels)


def inputs_of(
    network: nn.Module,
    sizes: Sequence[ImageSize],
    device: torch.device,
    dtype: torch.dtype,
    in_channels: int | Literal["auto"] = "auto",
    *,
    views_differ: bool = False,
    pixels: MeanAndStd | None = None,
) -> Inputs:
    """Return the images that a network takes, for each image size by itself.

    A network that fails at an image size, and takes another size but not all larger ones, gets its images resized to
    the size that it takes. A network that fails only at small sizes gets them as they are, and fails.

    Args:
        network: result of `frozen_copy`.
        sizes: sizes of the images in pixels.
        device: device of the network.
        dtype: precision of the network.
        in_channels: number of channels; `auto` for three if these run, else the number that the first convolution
            takes or with which the network runs furthest.
        views_differ: whether transforms may change the size of the images.
        pixels: mean and std that images are normalized with.
    """

    @cache
    def attempt(size: ImageSize, channels: int) -> _Attempt:
        return _run(network, probe_images(size, device, dtype, channels, pixels))

    channels = _channels(network, min(sizes, key=pixels_of), attempt) if in_channels == "auto" else in_channels
    views = {size: _view(network, size, lambda other: attempt(other, channels), views_differ) for size in sizes}
    return Inputs(channels, {size: view for size, view in views.items() if view is not None})


def _run(network: nn.Module, images: Tensor) -> _Attempt:
    ended: set[str] = set()

    def recorder(name: str) -> Callable[..., None]:
        return lambda *_: ended.add(name)

    failure = None
    hooks = [(module, recorder(name)) for name, module in network.named_modules(remove_duplicate=False)]
    with forward_hooks(hooks), torch.no_grad():
        try:
            network(images.clone())
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:  # a network may raise anything at images that it does not take
            failure = one_line(f"{type(error).__name__}: {error}", 1000)
    return _Attempt(failure, frozenset(ended))


def _channels(network: nn.Module, size: ImageSize, attempt: _Try) -> int:
    first = attempt(size, 3)
    if first.failure is None:
        return 3
    convolutions: list[int] = [module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    best, furthest = 3, len(first.ended)
    for channels in dict.fromkeys([*convolutions[:1], *COMMON_CHANNELS, *convolutions]):
        result = attempt(size, channels)
        if result.failure is None:
            return int(channels)
        if len(result.ended) > furthest or (channels in convolutions[:1] and len(result.ended) == furthest):
            best, furthest = channels, len(result.ended)
    return best


def _view(
    network: nn.Module, size: ImageSize, attempt: Callable[[ImageSize], _Attempt], views_differ: bool
) -> FixedInputSize | None:
    """Return the input size for an image size; None if the network takes the image size itself."""
    taken: ImageSize | None = size
    fits = attempt(size).failure is None
    if fits and (not views_differ or attempt(_larger(size, FURTHER)).failure is None):
        return None
    if not fits:
        tried = _candidates(network, size, attempt(size).failure or "")
        taken = next((other for other in tried if attempt(other).failure is None), None)
    if taken is None:
        return None
    height, width = both_sides(taken)
    others = [attempt(_larger(taken, more)) for more in (FURTHER, 2)] + [attempt(image_size(2 * height, 2 * width))]
    if all(other.failure is None for other in others):
        return None
    return FixedInputSize(
        taken, frozenset.intersection(*(other.ended for other in others if other.failure is not None))
    )


def _larger(size: ImageSize, more: int) -> ImageSize:
    height, width = both_sides(size)
    return image_size(height + more, width + more)


def _candidates(network: nn.Module, size: ImageSize, failure: str) -> list[ImageSize]:
    """Return different sizes that a network may take after it failed at one, the likeliest first."""
    numbers = list(dict.fromkeys(map(int, re.findall(r"[0-9]{1,7}", failure))))
    raw = [number for number in numbers if number >= 16]
    sizes = dict.fromkeys([*_declared(network), *_scaled(size, numbers), *raw, *COMMON_SIZES])
    valid = (other for other in sizes if all(2 <= side <= LARGEST_SIZE for side in both_sides(other)))
    return [other for other in valid if pixels_of(other) <= 1024**2 and other != size][:MOST_TRIED]


def _declared(network: nn.Module) -> Iterator[ImageSize]:
    """Yield the sizes in the attributes of a network and its parts."""
    for module in network.modules():
        tables: list[Any] = [vars(module)]
        for name in ("pretrained_cfg", "default_cfg", "config"):
            table = vars(module).get(name)
            tables.append(table if isinstance(table, Mapping) else getattr(table, "__dict__", {}))
        for table, name in product(tables, SIZE_ATTRIBUTES):
            value = table.get(name)
            sides = [value] if isinstance(value, int) else value if isinstance(value, list | tuple) else []
            if sides and all(isinstance(side, int) and side > 1 for side in sides[-2:]):
                yield image_size(sides[-2:][0], sides[-1])


def _scaled(size: ImageSize, numbers: Sequence[int]) -> Iterator[int]:
    """Yield sides with the required number of features or tokens, if an error message names it and the actual one."""
    side = (pixels_of(size)) ** 0.5
    for actual, required in product(numbers[:8], repeat=2):
        for prefix in (0, 1):  # a class token has no place in the image
            if actual != required and actual > prefix and required > prefix:
                scaled = side * ((required - prefix) / (actual - prefix)) ** 0.5
                if 8 <= scaled <= 1024 and abs(scaled - round(scaled)) < 0.02:
                    yield round(scaled)
