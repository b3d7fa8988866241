"""What a network has to offer, in words. Plain data, no torch."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from featlight.config.tile import CLASS, TokenKind


@dataclass(frozen=True)
class Tokens:
    """Which tokens of an output (N, T, C) are meant.

    Args:
        count: T, of one image.
        prefix: how many stand before the patches: class and register tokens.
        has_class: whether the first of these is a class token.
        chosen: the patches, on their grid, or the class token.
    """

    count: int
    prefix: int
    has_class: bool
    chosen: TokenKind = "patches"


@dataclass(frozen=True)
class Layer:
    """What one module gives in one forward pass, or a part of that."""

    name: str
    shape: tuple[int, ...]  # without the batch: (C, H, W) or (C,) where usable, else what it is
    calls: int
    dimension: int = 1  # of an output that is more than (N, C), where the feature stands
    refusal: str | None = None  # why no feature of it can be visualized
    kind: str = ""  # the module's class, as in "Conv2d"
    part: tuple[str, ...] = ()  # indices and keys that lead to it in a structure that the module gives
    tokens: Tokens | None = None
    call: int | None = None  # which of its calls is meant, from 1; None for the last
    batch: int = 0  # where the images stand in its output: tokens first, (T, N, C), have them second

    @property
    def meant_call(self) -> int:
        """Which of its calls is meant, from 1."""
        return self.calls if self.call is None else self.call

    @property
    def kind_words(self) -> str:
        """Its kind, and which call is meant where its module is called several times."""
        which = "the last" if self.call is None else f"call {self.call}"
        return self.kind if self.calls == 1 else f"{self.kind}, {which} of {self.calls} calls"

    @property
    def module(self) -> str:
        """The name of the module that gives it."""
        name = self.name.removesuffix(CLASS) if self.tokens is not None else self.name
        return name.removesuffix(part_words(self.part))

    @property
    def numbers(self) -> int:
        """How many its module gives of one image."""
        return prod(self.shape) if self.tokens is None else self.tokens.count * self.features

    @property
    def features(self) -> int:
        return self.shape[0]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width in neurons; a flat output is a map of 1 x 1."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)

    @property
    def map_words(self) -> str:
        """Its map, and the tokens besides, as in `14 x 14 + class + 4`."""
        if len(self.shape) != 3:
            return "flat"
        height, width = self.map_size
        if self.tokens is None:
            return f"{height} x {width}"
        others = self.tokens.prefix - self.tokens.has_class
        besides = [*(["class"] if self.tokens.has_class else []), *([str(others)] if others else [])]
        return " + ".join([f"{height} x {width}", *besides])


def left_out(layers: Iterable[Layer], most: int = 3) -> list[str]:
    """Lines for people: how many layers cannot be visualized, and the first reasons; none where there are none.

    Args:
        layers: each with its refusal.
        most: reasons that are said.
    """
    alike: dict[str, list[Layer]] = {}
    for layer in layers:
        alike.setdefault(re.sub("[0-9]+", "", layer.refusal or ""), []).append(layer)
    if not alike:
        return []
    count = sum(map(len, alike.values()))
    lines = [f"{count} layer{' is' if count == 1 else 's are'} left out:"]
    for each in list(alike.values())[:most]:
        others = f" (and {len(each) - 1} more for the like)" if len(each) > 1 else ""
        lines.append(f"  {each[0].name}{others}: {each[0].refusal}")
    more = len(alike) - most
    return [*lines, f"  ... and {more} other reason{'' if more == 1 else 's'}"] if more > 0 else lines


def part_words(part: Sequence[str]) -> str:
    """What stands after a module's name for a part of what it gives, as in `:hidden_states:3`."""
    return "".join(f":{key}" for key in part)


def table(layers: Sequence[Layer]) -> list[str]:
    """Lines for people: a header, and for each layer its name, features, map and kind.

    Args:
        layers: usable ones.
    """
    rows = [("layer", "features", "map", "kind")]
    for layer in layers:
        rows.append((layer.name, str(layer.features), layer.map_words, layer.kind_words))
    name, features, map, _ = (max(len(word) for word in column) for column in zip(*rows, strict=True))
    return [f"{row[0]:{name}}  {row[1]:>{features}}  {row[2]:>{map}}  {row[3]}".rstrip() for row in rows]
