"""Outlines around places in a picture: where a map is high keeps its colours, the rest fades."""

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageFilter

from featlight.drawing.sheet import INK
from featlight.drawing.square import PANEL
from featlight.drawing.text import RGB

# Of the outlines, in their order, by the names that a caption can call them.
OUTLINES: dict[str, RGB] = {"yellow": (255, 214, 10), "blue": (30, 144, 255), "red": (255, 69, 58)}


SMOOTH = 3  # outlines are drawn so many times larger, then reduced


Heat = Sequence[Sequence[float]]


def draw_heat(image: Image.Image, *heats: Heat, level: float = 0.5, fade: bool = True) -> Image.Image:
    """Show where in an image maps are high: those places keep their colours inside an outline, the rest fades.

    Args:
        image: the picture.
        heats: maps over the whole picture, rows of numbers in [0, 1], each of its own size (usually coarser); the
            outlines have the colours of `OUTLINES`, in this order.
        level: the outline is where a map crosses it; above it the picture is left as it is.
        fade: whether what is outside of all outlines fades.

    Returns:
        The picture, RGB, of the same size.

    Raises:
        ValueError: there are more maps than colours.
    """
    image = image.convert("RGB")
    if len(heats) > len(OUTLINES):
        raise ValueError(f"heats: {len(heats)} given; at most {len(OUTLINES)} can be told apart")
    large = (SMOOTH * image.width, SMOOTH * image.height)
    insides = [_inside(heat, level, large) for heat in heats]
    picture = image.copy()
    if fade:
        lit = Image.new("L", large)
        for inside in insides:
            lit = ImageChops.lighter(lit, inside)
        faded = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, PANEL), 0.55)
        picture = Image.composite(image, faded, lit.resize(image.size, Image.Resampling.BOX))
    width = max(1.0, max(image.size) / 170)
    for inside, color in zip(insides, OUTLINES.values(), strict=False):
        for wide, ink in ((2.4 * width, INK), (width, color)):  # a dark edge parts the line from bright pictures
            picture.paste(ink, mask=_outline(inside, wide).resize(image.size, Image.Resampling.BOX))
    return picture


def _inside(heat: Heat, level: float, size: tuple[int, int]) -> Image.Image:
    """Where the map, smoothly enlarged, is above the level: L, 255 there and 0 elsewhere."""
    small = Image.new("F", (len(heat[0]), len(heat)))
    small.putdata([value - level for row in heat for value in row])
    return small.resize(size, Image.Resampling.BICUBIC).point(lambda value: value * 1e6 + 0.0).convert("L")


def _outline(inside: Image.Image, width: float) -> Image.Image:
    """A line around the inside, `width` pixels of the picture wide, half within and half without."""
    reach = 2 * round(SMOOTH * width / 2) + 1
    return ImageChops.difference(
        inside.filter(ImageFilter.MaxFilter(reach)), inside.filter(ImageFilter.MinFilter(reach))
    )
