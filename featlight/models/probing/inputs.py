"""Which images a network takes: how many channels, and which sizes where not all will do. Found by running it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from featlight.config.inputs.sizes import ImageSize, both_sides, image_size, pixels_of
from featlight.config.recipe import LARGEST_SIZE
from featlight.models.hooks import forward_hooks
from featlight.param.image import MeanAndStd, noise, normalized

COMMON_CHANNELS = (1, 4, 2, *range(5, 17))
COMMON_SIZES = (224, 256, 384, 299, 32, 64, 28, 96, 128, 192, 448, 512, 518, 336)
FURTHER = 64  # px that a size is larger which is tried beside one, to see what moves with it
MOST_TRIED = 32  # sizes; each is a run of the network, though mostly a short one
SAYING = ("img_size", "image_size", "input_size")  # attributes in which networks keep the size that they are made for


class FixedInputSize(NamedTuple):
    """At which size a network is to see images of another size, or of that very size: it refuses others.

    Args:
        size: that it takes.
        free: names of the layers that run at every size all the same, as those before the first that does not.
    """

    size: ImageSize
    free: frozenset[str] = frozenset()


class Inputs(NamedTuple):
    """What a network takes.

    Args:
        channels: of its images.
        views: by size of the images; none where every size will do.
    """

    channels: int = 3
    views: Mapping[ImageSize, FixedInputSize] = {}


class _Run(NamedTuple):
    failure: str | None
    ended: frozenset[str]  # names of modules


Try = Callable[[ImageSize, int], _Run]  # from size and number of channels


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
    """What a network takes, of images of the sizes of a recipe, each size by itself.

    A network that fails at such a size, and takes another one, but not every size above that, is shown its images at
    the size that it takes. What fails at small sizes alone is left to fail.

    Args:
        network: as `frozen_copy` gives it.
        sizes: of the images, in pixels.
        device: of the network.
        dtype: of the network.
        in_channels: the user's word; `auto`: three where they run, else as many as the first convolution takes, or as
            run furthest.
        views_differ: whether transforms may show images at another size than theirs.
        pixels: mean and std that images are normalized with.
    """

    @cache
    def attempt(size: ImageSize, channels: int) -> _Run:
        images = noise(size, 0, channels).expand(2, -1, -1, -1).to(device, dtype)
        return _run(network, normalized(images, pixels))

    channels = _channels(network, min(sizes, key=pixels_of), attempt) if in_channels == "auto" else in_channels
    found = {size: _view(network, size, lambda each: attempt(each, channels), views_differ) for size in sizes}
    return Inputs(channels, {size: view for size, view in found.items() if view is not None})


def _run(network: nn.Module, images: torch.Tensor) -> _Run:
    ended: set[str] = set()
    names = [(module, name) for name, module in network.named_modules(remove_duplicate=False)]

    def note(name: str) -> Callable[..., None]:
        return lambda *_: ended.add(name)

    failure = None
    with forward_hooks([(module, note(name)) for module, name in names]), torch.no_grad():
        try:
            network(images.clone())
        except (Exception, SystemExit) as error:  # a network may raise anything at images that it does not take
            failure = " ".join(f"{type(error).__name__}: {error}".split())[:1000]
    return _Run(failure, frozenset(ended))


def _channels(network: nn.Module, size: ImageSize, attempt: Try) -> int:
    first = attempt(size, 3)
    if first.failure is None:
        return 3
    convolutions: list[int] = [module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    best, furthest = 3, len(first.ended)
    for channels in dict.fromkeys([*convolutions[:1], *COMMON_CHANNELS, *convolutions]):
        found = attempt(size, channels)
        if found.failure is None:
            return int(channels)
        if len(found.ended) > furthest or (channels in convolutions[:1] and len(found.ended) == furthest):
            best, furthest = channels, len(found.ended)
    return best


def _view(
    network: nn.Module, size: ImageSize, attempt: Callable[[ImageSize], _Run], views_differ: bool
) -> FixedInputSize | None:
    taken: ImageSize | None = size
    fits = attempt(size).failure is None
    if fits and (not views_differ or attempt(_larger(size, FURTHER)).failure is None):
        return None
    if not fits:
        tried = _candidates(network, size, attempt(size).failure or "")
        taken = next((each for each in tried if attempt(each).failure is None), None)
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


def _candidates(network: nn.Module, size: ImageSize, failure: str) -> Iterator[ImageSize]:
    """Sizes that a network may take which has failed at one, the likeliest first, each once."""
    numbers = list(dict.fromkeys(map(int, re.findall(r"[0-9]{1,7}", failure))))
    raw = [number for number in numbers if number >= 16]
    every = dict.fromkeys([*_said(network), *_scaled(size, numbers), *raw, *COMMON_SIZES])
    fit = (each for each in every if all(2 <= side <= LARGEST_SIZE for side in both_sides(each)))
    yield from [each for each in fit if pixels_of(each) <= 1024**2 and each != size][:MOST_TRIED]


def _said(network: nn.Module) -> Iterator[ImageSize]:
    """Sizes in the attributes of a network and its parts."""
    for module in network.modules():
        tables: list[Any] = [vars(module)]
        for name in ("pretrained_cfg", "default_cfg", "config"):
            table = vars(module).get(name)
            tables.append(table if isinstance(table, Mapping) else getattr(table, "__dict__", {}))
        for table, name in product(tables, SAYING):
            given = table.get(name)
            sides = [given] if isinstance(given, int) else given if isinstance(given, list | tuple) else []
            if sides and all(isinstance(side, int) and side > 1 for side in sides[-2:]):
                yield image_size(sides[-2:][0], sides[-1])


def _scaled(size: ImageSize, numbers: Sequence[int]) -> Iterator[int]:
    """Sides at which so many features or tokens as came would be so many as are needed, from a message's numbers."""
    side = (pixels_of(size)) ** 0.5
    for came, needed in product(numbers[:8], repeat=2):
        for prefix in (0, 1):  # a class token is no place
            if came != needed and came > prefix and needed > prefix:
                scaled = side * ((needed - prefix) / (came - prefix)) ** 0.5
                if 8 <= scaled <= 1024 and abs(scaled - round(scaled)) < 0.02:
                    yield round(scaled)
