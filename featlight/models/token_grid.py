"""The tokens of a transformer: the grid of the patches on the image, and the number of tokens before and after it.

Grid and number of other tokens follow from the network's maps, such as that of its patch embedding, or from the number
of tokens at several image sizes. Class and register tokens do not depend on the image before the first attention, which
shows whether they come before or after the patches. A number that the network declares decides if nothing else does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import nn

GridSize = tuple[int, int]
MOST_PREFIX = 64  # tokens before the patches, if several image sizes or the network determine it
MOST_UNDECLARED = 8  # the same for one image size: with more, a smaller map may leave anything
DECLARING = ("num_prefix_tokens", "num_cls_token", "num_cls_tokens")
CLASS_TOKENS = r"(cls|class)_token\d*|class_embedding"  # parameters of timm, transformers and torchvision

REORDERING = {"Hiera", "HieraModel"}  # classes whose tokens come window by window, not row by row


class TokenGrid(NamedTuple):
    """The grid of a layer's tokens at some image sizes."""

    prefix: int  # number of tokens before the patches
    sizes: tuple[GridSize, ...]  # height and width in patches, at each image size
    suffix: int = 0  # number of tokens after the patches


class FixedTokens(NamedTuple):
    """The number of tokens that do not depend on the image, before the first attention."""

    first: int  # at the start
    last: int  # at the end


def grid_of(
    counts: Sequence[int],
    maps: Sequence[Mapping[str, GridSize]],
    images: Sequence[GridSize],
    declared: int | None = None,
    given: int | None = None,
    fixed: FixedTokens | None = None,
) -> TokenGrid | None:
    """Return the grid of a layer's tokens; None if it is unknown.

    Args:
        counts: number of the layer's tokens, at each image size.
        maps: sizes of the network's maps by layer name, at each image size.
        images: height and width of the images in pixels.
        declared: number of tokens before the patches that the network declares; None if it declares none.
        given: number of tokens before the patches that the user gave; None if the user gave none.
        fixed: tokens that do not depend on the image; None if there are none, or none are known.
    """
    if given is None and set(counts) == {1}:
        return TokenGrid(0, tuple((1, 1) for _ in counts))
    fits = set(_on_maps(counts, maps))  # with all other tokens as prefix
    if fixed is not None and any(fit.prefix == sum(fixed) for fit in fits):
        declared = sum(fixed)
    if given is not None:
        least = sum(fixed) if fixed is not None and fixed.first == given else given
        fits = {fit for fit in fits if fit.prefix == least} or {fit for fit in fits if fit.prefix > given}
    elif len(counts) == 1:
        fits = {fit for fit in fits if fit.prefix <= MOST_UNDECLARED or fit.prefix == declared}
    chosen = _only(fits, declared)
    if chosen is None and not fits:
        known = declared if given is None else given
        chosen = _on_images(counts, images, known if fixed is None else sum(fixed))
    return None if chosen is None else _placed(chosen, declared, given, fixed)


def _placed(grid: TokenGrid, declared: int | None, given: int | None, fixed: FixedTokens | None) -> TokenGrid | None:
    """Return a grid with its other tokens before or after it; None if their place is unknown."""
    others = grid.prefix
    if fixed is not None and sum(fixed) == others:
        return TokenGrid(fixed.first, grid.sizes, fixed.last) if given in (None, fixed.first) else None
    if given is not None:
        return TokenGrid(given, grid.sizes, others - given)
    return grid if others in (0, declared) else None


def _only(fits: set[TokenGrid], declared: int | None) -> TokenGrid | None:
    agreeing = {fit for fit in fits if fit.prefix == declared} or fits
    return agreeing.pop() if len(agreeing) == 1 else None


def _on_maps(counts: Sequence[int], maps: Sequence[Mapping[str, GridSize]]) -> Iterator[TokenGrid]:
    """Yield each map as a grid if the number of tokens beyond it is the same at every image size."""
    for name, first in maps[0].items():
        if all(name in each for each in maps):
            sizes = tuple(each[name] for each in maps)
            left = {count - height * width for count, (height, width) in zip(counts, sizes, strict=True)}
            if len(left) == 1 and 0 <= min(left) <= MOST_PREFIX and first[0] * first[1] > 1:
                yield TokenGrid(left.pop(), sizes)


def _on_images(counts: Sequence[int], images: Sequence[GridSize], prefix: int | None) -> TokenGrid | None:
    """Return the grid of square patches that fits the tokens at several image sizes, or a known prefix."""
    fits = set()
    for side in range(1, min(map(min, images)) + 1):
        sizes = tuple((height // side, width // side) for height, width in images)
        left = {count - height * width for count, (height, width) in zip(counts, sizes, strict=True)}
        if len(left) == 1 and (prefix in left if prefix is not None else 0 <= min(left) <= MOST_PREFIX):
            fits.add(TokenGrid(left.pop(), sizes))
    return fits.pop() if len(fits) == 1 and (prefix is not None or len(set(counts)) > 1) else None


def declared_prefix(network: nn.Module, module: str) -> int | None:
    """Return the number of tokens before the patches that a module or one around it declares; None if none does."""
    place = module
    while True:
        holder = network.get_submodule(place)
        declared = next((getattr(holder, name, None) for name in DECLARING if hasattr(holder, name)), None)
        if isinstance(declared, int):
            return declared
        registers = getattr(getattr(holder, "config", None), "num_register_tokens", None)
        if isinstance(registers, int):
            return 1 + registers
        if not place:
            return None
        place = place.rpartition(".")[0]


def reorders(network: nn.Module) -> bool:
    """Return whether the network's tokens have another order than the patches in the image."""
    return any(type(module).__name__ in REORDERING for module in network.modules())


def has_class_token(network: nn.Module) -> bool:
    """Return whether the network has a class token, which comes before all other tokens."""
    return any(re.fullmatch(CLASS_TOKENS, name.rpartition(".")[2]) for name, _ in network.named_parameters())
