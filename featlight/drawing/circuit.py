"""A picture of a circuit: a tile at the left, and columns of the earlier features that it is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image, ImageDraw

from featlight.drawing.sheet import GRAY, INK, PAPER, Cell, Heading, Sheet, TextLine, draw_sheet, place_foot, place_head
from featlight.drawing.square import HAIRLINE, square_tile
from featlight.drawing.text import RGB, leading, shorten, wrap

EXCITES: RGB = (205, 52, 40)
INHIBITS: RGB = (38, 104, 196)
SIDES = (288, 168, 120)  # px, sides of the tiles of each column; the last holds for all further columns
GAP = 16  # px between two tiles of a column
LINK = 84  # px between two columns
BESIDE, NOTE = 12, 108  # px, distance and width of the numbers beside a tile
BAR, KERNEL = 7, 44  # px, height of a bar, side of a kernel
TEXT = 20  # px; the picture stays legible when it is scaled to 1200 px
MARGIN = 40
SMOOTH = 2  # links are drawn larger by this factor, then reduced


@dataclass(frozen=True)
class CircuitNode:
    """A feature in a circuit.

    Args:
        cell: tile of the feature with its label.
        attribution: attribution of the feature to the one at its left; None for the first.
        kernel: rows of the expanded kernel; None if there is none.
        parts: earlier features that it is made of, from top to bottom.
    """

    cell: Cell
    attribution: float | None = None
    kernel: Sequence[Sequence[float]] | None = None
    parts: Sequence["CircuitNode"] = ()

    @property
    def color(self) -> RGB:
        return EXCITES if (self.attribution or 0) > 0 else INHIBITS


@dataclass(frozen=True)
class PlacedNode:
    """A feature at its place in the picture, in pixels.

    Args:
        node: the feature.
        x: left side of the tile.
        y: top side of the tile.
        side: side of the tile.
        share: size of the attribution, relative to the largest among the parts of the same feature.
        parts: the placed parts.
    """

    node: CircuitNode
    x: int
    y: int
    side: int
    share: float
    parts: Sequence["PlacedNode"]

    @property
    def middle(self) -> int:
        return self.y + self.side // 2

    def walk(self) -> Iterator["PlacedNode"]:
        """Yield the feature and all of its parts, from left to right and from top to bottom."""
        yield self
        for part in self.parts:
            yield from part.walk()


def place_circuit(node: CircuitNode, top: int, depth: int = 0, share: float = 1.0) -> PlacedNode:
    """Place a feature and its parts. No two tiles overlap, and each tile stands at the middle of its parts.

    Args:
        node: feature to place.
        top: upper end of its rows, in pixels.
        depth: column of the feature.
        share: size of its attribution, relative to the largest of its siblings.
    """
    side, height = _side(depth), _height(node, depth)
    largest = max((abs(part.attribution or 0) for part in node.parts), default=0) or 1.0
    y = top + (height - sum(_height(part, depth + 1) for part in node.parts)) // 2
    parts = []
    for part in node.parts:
        parts.append(place_circuit(part, y, depth + 1, abs(part.attribution or 0) / largest))
        y += _height(part, depth + 1)
    middle = (parts[0].middle + parts[-1].middle) // 2 if parts else top + (height - GAP) // 2
    return PlacedNode(node, _left(depth), middle - side // 2, side, share, parts)


def _side(depth: int) -> int:
    return SIDES[min(depth, len(SIDES) - 1)]


def _left(depth: int) -> int:
    """Return the left side of a column's tiles, in pixels."""
    return MARGIN + sum(_width(column) + LINK for column in range(depth))


def _width(depth: int) -> int:
    return _side(depth) + (BESIDE + NOTE if depth else 0)


def _height(node: CircuitNode, depth: int) -> int:
    """Return the height of a feature's rows, in pixels, with the gap below."""
    label = ceil(1.4 * leading(TEXT)) if depth == 0 else 0  # below the first tile
    return max(_side(depth) + label + GAP, sum(_height(part, depth + 1) for part in node.parts))


def draw_circuit(root: CircuitNode, layers: Sequence[str], *, title: str, subtitle: str, footer: str) -> Image.Image:
    """Draw a circuit as an RGB picture.

    Args:
        root: feature at the left.
        layers: names of the columns, from the feature's own layer to the earliest.
        title: large text at the top left.
        subtitle: smaller text below the title.
        footer: text at the bottom, below the legend of marks.
    """
    inner = max(520, _left(len(layers) - 1) + _width(len(layers) - 1) - MARGIN)
    lines, top = place_head(Heading(title, "", subtitle, footer), MARGIN, inner, TEXT, larger=1.6)
    for depth, layer in enumerate(layers):
        lines.append(TextLine(_left(depth), top, shorten(layer, TEXT, _width(depth)), TEXT, GRAY))
    top += round(1.5 * leading(TEXT))
    placed = place_circuit(root, top)
    nodes = list(placed.walk())
    for each in nodes:
        lines += _words(each)
    below = top + _height(root, 0) - GAP
    foot, bottom = place_foot([each.node.cell for each in nodes], footer, MARGIN, below, inner, TEXT)
    size = (inner + 2 * MARGIN, bottom + MARGIN)
    picture = draw_sheet(Sheet([], 1, TEXT, 0, 0, TEXT, TEXT, 0, 1, [*lines, *foot], *size))
    _draw_links(picture, nodes)
    for each in nodes:
        _draw_node(picture, each)
    return picture


def _words(placed: PlacedNode) -> list[TextLine]:
    """Place a feature's label, and its attribution in the color of its sign."""
    node = placed.node
    if node.attribution is None:
        y = placed.y + placed.side + round(0.3 * TEXT)
        return [TextLine(placed.x, y, line, TEXT, INK) for line in wrap(node.cell.label, TEXT, placed.side, 1)]
    x, y = _note(placed)
    label = shorten(node.cell.label, TEXT, NOTE)
    number = f"{node.attribution:+.3g}"
    return [TextLine(x, y, label, TEXT, INK), TextLine(x, y + leading(TEXT), number, TEXT, node.color)]


def _note(placed: PlacedNode) -> tuple[int, int]:
    """Return the top left corner of the numbers beside a tile."""
    height = 2 * leading(TEXT) + BAR + round(0.4 * TEXT) + KERNEL
    return placed.x + placed.side + BESIDE, placed.y + max(0, placed.side - height) // 2


def _draw_node(picture: Image.Image, placed: PlacedNode) -> None:
    """Draw a tile, and beside it the bar of its attribution and its kernel."""
    node = placed.node
    with node.cell.opened() as tile:
        picture.paste(square_tile(tile, node.cell.kind, placed.side), (placed.x, placed.y))
    if node.attribution is None:
        return
    x, y = _note(placed)
    y += 2 * leading(TEXT) + round(0.1 * TEXT)
    bar = (x, y, x + max(2, round(placed.share * NOTE)) - 1, y + BAR - 1)
    ImageDraw.Draw(picture).rectangle(bar, fill=node.color)
    if node.kernel is not None:
        picture.paste(draw_kernel(node.kernel), (x, y + BAR + round(0.3 * TEXT)))


def draw_kernel(kernel: Sequence[Sequence[float]]) -> Image.Image:
    """Draw a kernel: red where the earlier feature excites, blue where it inhibits, white at 0, framed."""
    values = np.array(kernel)  # (h, w)
    strength = values / max(np.abs(values).max(), np.finfo(float).tiny)
    full = np.where(strength[..., None] > 0, EXCITES, INHIBITS)  # (h, w, 3)
    pixels = np.array(PAPER) + np.abs(strength)[..., None] * (full - np.array(PAPER))
    cell = max(1, KERNEL // max(values.shape))
    large = np.rint(pixels).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    framed = Image.new("RGB", (large.shape[1] + 2, large.shape[0] + 2), HAIRLINE)
    framed.paste(Image.fromarray(large), (1, 1))
    return framed


def _draw_links(picture: Image.Image, nodes: Sequence[PlacedNode]) -> None:
    """Draw a curve from each feature to each of its parts, wider for a larger attribution."""
    for color in (INHIBITS, EXCITES):
        mask = Image.new("L", (picture.width * SMOOTH, picture.height * SMOOTH))
        draw = ImageDraw.Draw(mask)
        for parent in nodes:
            start = parent.x + parent.side + (0 if parent.node.attribution is None else BESIDE + NOTE) + 6
            for part in parent.parts:
                if part.node.color == color:
                    curve = _curve(start, parent.middle, part.x - 6, part.middle)
                    points = [(SMOOTH * x, SMOOTH * y) for x, y in curve]
                    draw.line(points, fill=190, width=round(SMOOTH * (1.5 + 5 * part.share)), joint="curve")
        picture.paste(color, mask=mask.reduce(SMOOTH))


def _curve(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    """Return points of an S-shaped curve that starts and ends horizontally."""
    steps = np.linspace(0, 1, 33)
    smooth = steps**2 * (3 - 2 * steps)
    return [(float(x0 + (x1 - x0) * t), float(y0 + (y1 - y0) * s)) for t, s in zip(steps, smooth, strict=True)]
