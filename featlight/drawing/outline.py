"""Outlines around the regions of a picture where a map is high; the rest of the picture fades."""

from collections.abc import Sequence

from PIL import Image, ImageChops, ImageFilter

from featlight.drawing.sheet import INK
from featlight.drawing.square import PANEL
from featlight.drawing.text import RGB

# Colors of the outlines in order, by the names that captions use.
OUTLINES: dict[str, RGB] = {"yellow": (255, 214, 10), "blue": (30, 144, 255), "red": (255, 69, 58)}
SMOOTH = 3  # factor by which outlines are drawn larger, then reduced
Heat = Sequence[Sequence[float]]


def draw_heat(image: Image.Image, *heats: Heat, level: float = 0.5, fade: bool = True) -> Image.Image:
    """Outline the regions of an image where maps are high, and fade the rest.

    Args:
        image: picture to draw on.
        heats: maps over the whole picture, rows of numbers in [0, 1], of any (usually coarser) size; outlined in
            the colors of `OUTLINES`, in this order.
        level: value of a map at its outline.
        fade: whether to fade everything outside of the outlines.

    Returns:
        An RGB picture of the same size.

    Raises:
        ValueError: there are more maps than colors.
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
        for wide, ink in ((2.4 * width, INK), (width, color)):  # the dark edge is visible on bright pictures
            picture.paste(ink, mask=_outline(inside, wide).resize(image.size, Image.Resampling.BOX))
    return picture


def _inside(heat: Heat, level: float, size: tuple[int, int]) -> Image.Image:
    """Return a mask (mode L): 255 where the bicubically enlarged map is above the level, 0 elsewhere."""
    small = Image.new("F", (len(heat[0]), len(heat)))
    small.putdata([value - level for row in heat for value in row])
    return small.resize(size, Image.Resampling.BICUBIC).point(lambda value: value * 1e6 + 0.0).convert("L")


def _outline(inside: Image.Image, width: float) -> Image.Image:
    """Return the mask of a line around the region, `width` pixels of the picture wide, half inside and half outside."""
    reach = 2 * round(SMOOTH * width / 2) + 1
    return ImageChops.difference(
        inside.filter(ImageFilter.MaxFilter(reach)), inside.filter(ImageFilter.MinFilter(reach))
    )
