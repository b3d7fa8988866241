"""How the tokens of a transformer lie on the image: how many stand before its patches, and the patches' grid.

Both follow from the network itself: its own maps, of its patch embedding say, or how the number of tokens moves with
the image's size. A number that the network declares only decides between what these allow.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import nn

GridSize = tuple[int, int]
MOST_PREFIX = 64  # tokens before the patches, where several sizes or the network itself tell
MOST_UNDECLARED = 8  # where one size alone tells: what is left beyond a smaller map may be anything
DECLARING = ("num_prefix_tokens", "num_cls_token", "num_cls_tokens")
CLASS_TOKENS = r"(cls|class)_token\d*|class_embedding"  # parameters of timm, transformers and torchvision

REORDERING = {"Hiera", "HieraModel"}  # kinds whose tokens stand window by window, not in reading order


class TokenGrid(NamedTuple):
    """The tokens of a layer at some sizes of image."""

    prefix: int  # how many stand before the patches
    sizes: tuple[GridSize, ...]  # height and width of the patches, at each size


def grid_of(
    counts: Sequence[int],
    maps: Sequence[Mapping[str, GridSize]],
    images: Sequence[GridSize],
    declared: int | None = None,
    told: int | None = None,
) -> TokenGrid | None:
    """The grid of a layer's tokens; None where it is not known.

    Args:
        counts: how many tokens it gives, at each size of image.
        maps: of other layers of the network, by name, at each size.
        images: height and width, in pixels.
        declared: how many tokens stand before the patches, as the network says.
        told: as the user says.
    """
    if told is None and set(counts) == {1}:
        return TokenGrid(0, tuple((1, 1) for _ in counts))
    fits = set(_on_maps(counts, maps))
    if told is not None:
        fits = {fit for fit in fits if fit.prefix == told}
    elif len(counts) == 1:
        fits = {fit for fit in fits if fit.prefix <= MOST_UNDECLARED or fit.prefix == declared}
    chosen = _only(fits, declared)
    return _on_images(counts, images, declared if told is None else told) if chosen is None and not fits else chosen


def _only(fits: set[TokenGrid], declared: int | None) -> TokenGrid | None:
    agreeing = {fit for fit in fits if fit.prefix == declared} or fits
    return agreeing.pop() if len(agreeing) == 1 else None


def _on_maps(counts: Sequence[int], maps: Sequence[Mapping[str, GridSize]]) -> Iterator[TokenGrid]:
    """What is left of the tokens beyond each map, where that is the same at every size."""
    for name, first in maps[0].items():
        if all(name in each for each in maps):
            sizes = tuple(each[name] for each in maps)
            left = {count - height * width for count, (height, width) in zip(counts, sizes, strict=True)}
            if len(left) == 1 and 0 <= min(left) <= MOST_PREFIX and first[0] * first[1] > 1:
                yield TokenGrid(left.pop(), sizes)


def _on_images(counts: Sequence[int], images: Sequence[GridSize], prefix: int | None) -> TokenGrid | None:
    """Square patches of the image: told by several sizes, or by the number of tokens before them."""
    fits = set()
    for side in range(1, min(map(min, images)) + 1):
        sizes = tuple((height // side, width // side) for height, width in images)
        left = {count - height * width for count, (height, width) in zip(counts, sizes, strict=True)}
        if len(left) == 1 and (prefix in left if prefix is not None else 0 <= min(left) <= MOST_PREFIX):
            fits.add(TokenGrid(left.pop(), sizes))
    return fits.pop() if len(fits) == 1 and (prefix is not None or len(set(counts)) > 1) else None


def declared_prefix(network: nn.Module, module: str) -> int | None:
    """How many tokens stand before the patches, as the module or one that holds it says; None where none says it."""
    place = module
    while True:
        holder = network.get_submodule(place)
        found = next((getattr(holder, name, None) for name in DECLARING if hasattr(holder, name)), None)
        if isinstance(found, int):
            return found
        registers = getattr(getattr(holder, "config", None), "num_register_tokens", None)
        if isinstance(registers, int):
            return 1 + registers
        if not place:
            return None
        place = place.rpartition(".")[0]


def reorders(network: nn.Module) -> bool:
    """Whether the network's tokens stand in another order than their places in the image."""
    return any(type(module).__name__ in REORDERING for module in network.modules())


def has_class_token(network: nn.Module) -> bool:
    """Whether the network has a parameter of that name; it stands before all other tokens."""
    return any(re.fullmatch(CLASS_TOKENS, name.rpartition(".")[2]) for name, _ in network.named_parameters())
