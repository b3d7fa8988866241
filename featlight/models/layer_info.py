"""Descriptions of a network's layers: plain data without torch."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from featlight.config.tile import CLASS, TokenKind


@dataclass(frozen=True)
class Tokens:
    """The tokens of an output (N, T, C).

    Args:
        count: number of tokens of one image, T.
        prefix: number of class and register tokens before the patches.
        has_class: whether the first of these is a class token.
        chosen: tokens that the layer uses: the patches, on their grid, or the class token.
        suffix: number of register tokens after the patches.
    """

    count: int
    prefix: int
    has_class: bool
    chosen: TokenKind = "patches"
    suffix: int = 0


@dataclass(frozen=True)
class Layer:
    """The output of one module in one forward pass, or a part of that output.

    Args:
        name: name of the module, followed by the part and by CLASS for a class token.
        shape: shape without the batch: (C, H, W) or (C,) if the layer is usable, else the raw shape.
        calls: number of calls of the module.
        dimension: feature dimension of an output with more than two dimensions.
        refusal: reason why its features cannot be visualized; None if they can.
        kind: class of the module, such as "Conv2d".
        part: indices and keys of the part, if the module returns a structure.
        tokens: tokens of a transformer's output; None for maps and vectors.
        call: call of the module that the layer means, from 1; None for the last.
        batch: batch dimension of the output: 1 if tokens come first, (T, N, C).
    """

    name: str
    shape: tuple[int, ...]
    calls: int
    dimension: int = 1
    refusal: str | None = None
    kind: str = ""
    part: tuple[str, ...] = ()
    tokens: Tokens | None = None
    call: int | None = None
    batch: int = 0

    @property
    def call_number(self) -> int:
        """The call of the module that the layer means, from 1."""
        return self.calls if self.call is None else self.call

    @property
    def kind_label(self) -> str:
        """The class of the module, and the call if there are several."""
        which = "the last" if self.call is None else f"call {self.call}"
        return self.kind if self.calls == 1 else f"{self.kind}, {which} of {self.calls} calls"

    @property
    def module(self) -> str:
        """The name of the module."""
        name = self.name.removesuffix(CLASS) if self.tokens is not None else self.name
        return name.removesuffix(part_suffix(self.part))

    @property
    def value_count(self) -> int:
        """The number of values in the module's output for one image."""
        return prod(self.shape) if self.tokens is None else self.tokens.count * self.features

    @property
    def features(self) -> int:
        return self.shape[0]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width in neurons; a flat output is a map of 1 x 1."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)

    @property
    def map_label(self) -> str:
        """The size of the map and the other tokens, as in `14 x 14 + class + 4`."""
        if len(self.shape) != 3:
            return "flat"
        height, width = self.map_size
        if self.tokens is None:
            return f"{height} x {width}"
        registers = self.tokens.prefix - self.tokens.has_class + self.tokens.suffix
        others = [*(["class"] if self.tokens.has_class else []), *([str(registers)] if registers else [])]
        return " + ".join([f"{height} x {width}", *others])


def left_out(layers: Iterable[Layer], most: int = 3) -> list[str]:
    """Return lines that say how many layers cannot be visualized, and the first reasons; no lines for no layers.

    Args:
        layers: layers with a refusal.
        most: maximum number of reasons.
    """
    by_reason: dict[str, list[Layer]] = {}
    for layer in layers:
        by_reason.setdefault(re.sub("[0-9]+", "", layer.refusal or ""), []).append(layer)
    if not by_reason:
        return []
    count = sum(map(len, by_reason.values()))
    lines = [f"{count} layer{' is' if count == 1 else 's are'} left out:"]
    for group in list(by_reason.values())[:most]:
        others = f" (and {len(group) - 1} more for the like)" if len(group) > 1 else ""
        lines.append(f"  {group[0].name}{others}: {group[0].refusal}")
    more = len(by_reason) - most
    return [*lines, f"  ... and {more} other reason{'' if more == 1 else 's'}"] if more > 0 else lines


def part_suffix(part: Sequence[str]) -> str:
    """Return the end of a layer's name for a part of its module's output, as in `:hidden_states:3`."""
    return "".join(f":{key}" for key in part)


def table(layers: Sequence[Layer]) -> list[str]:
    """Return a header and a line for each layer with its name, features, map and kind.

    Args:
        layers: usable layers.
    """
    rows = [("layer", "features", "map", "kind")]
    rows += [(layer.name, str(layer.features), layer.map_label, layer.kind_label) for layer in layers]
    name, features, map, _ = (max(len(cell) for cell in column) for column in zip(*rows, strict=True))
    return [f"{row[0]:{name}}  {row[1]:>{features}}  {row[2]:>{map}}  {row[3]}".rstrip() for row in rows]
