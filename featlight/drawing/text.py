"""Text in pictures, set in the font that ships with Pillow, so that pictures are the same on every machine.

The font (Aileron) has one weight and few glyphs beyond ASCII. Emphasis comes from size, color and a thin stroke; other
scripts are transcribed to the available glyphs.
"""

import unicodedata
from bisect import bisect_right
from functools import lru_cache

from PIL import ImageDraw, ImageFont, features

RGB = tuple[int, int, int]

OUTLINES = features.check("freetype2")
GLYPHS = frozenset(map(chr, range(32, 127))) | frozenset("©«°±´·»‘’“”…‹›™" if OUTLINES else "")  # noqa: RUF001
ELLIPSIS = "…" if OUTLINES else "..."
RECENT = 4096  # cached words and lines; the words of labels recur often
SPELLINGS = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{MIDDLE DOT}": "·" if OUTLINES else "-",
        "\N{BULLET}": "·" if OUTLINES else "-",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "\N{HYPHEN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{RIGHTWARDS ARROW}": "->",
        "\N{LEFTWARDS ARROW}": "<-",
        "\N{LESS-THAN OR EQUAL TO}": "<=",
        "\N{GREATER-THAN OR EQUAL TO}": ">=",
        "\N{MICRO SIGN}": "u",
        "\N{FRACTION SLASH}": "/",
        "\N{LATIN SMALL LETTER SHARP S}": "ss",
        "\N{HORIZONTAL ELLIPSIS}": ELLIPSIS,
    }
)


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the embedded font at an em size in pixels; without FreeType, Pillow's bitmap font of one size."""
    return ImageFont.load_default(size if OUTLINES else None)


def leading(size: int) -> int:
    """Return the distance between the tops of two lines of text, in pixels."""
    return round(1.34 * size)


@lru_cache(maxsize=RECENT)
def plain(text: str) -> str:
    """Return text on one line in the font's glyphs: accents dropped, Greek letters named, `?` for the rest."""
    return "".join(_spell(c) for c in " ".join(text.split()).translate(SPELLINGS))


def _spell(character: str) -> str:
    if character in GLYPHS:
        return character
    name = unicodedata.name(character, "").split(" WITH ")[0]
    if name.startswith("GREEK ") and " LETTER " in name:
        word = name.rsplit(" ", 1)[1].lower()
        return word if "SMALL" in name else word.capitalize()
    if name.startswith("LATIN ") and " LETTER " in name:
        word = name.rsplit(" ", 1)[1]
        return word.lower() if "SMALL" in name else word
    parts = unicodedata.normalize("NFKD", character)
    if parts == character:
        return "" if unicodedata.combining(character) else "?"
    return "".join(_spell(c) for c in parts.translate(SPELLINGS))


def measure(text: str, size: int) -> float:
    """Return the width of a line of plain text, in pixels."""
    return sum(_length(word, size) for word in text.split(" ")) + text.count(" ") * _space(size)


@lru_cache(maxsize=RECENT)
def _length(word: str, size: int) -> float:
    return font(size).getlength(word)


def shorten(text: str, size: int, width: float) -> str:
    """Return text cut to `width` pixels; cut text ends in an ellipsis."""
    text = plain(text)
    if measure(text, size) <= width:
        return text
    kept = _prefix(text, size, width - measure(ELLIPSIS, size))
    return text[:kept].rstrip(" ,;:·-") + ELLIPSIS


def wrap(text: str, size: int, width: float, lines: int) -> list[str]:
    """Break text into lines, at spaces if possible. Text that does not fit ends in an ellipsis.

    Args:
        text: text to set; a middle dot stays with the word before it.
        size: font size, in pixels.
        width: width of the column, in pixels.
        lines: maximum number of lines.

    Returns:
        The lines; an empty list for empty text.
    """
    # " ·" stays with the word before it, and is dropped at the end of a line
    words = [word.replace("\0", " ") for word in plain(text).replace(" ·", "\0·").split()]
    wrapped: list[str] = []
    while words:
        fitting = 0
        while fitting < len(words) and measure(" ".join(words[: fitting + 1]), size) <= width:
            fitting += 1
        if len(wrapped) == lines - 1 and fitting < len(words):
            return [*wrapped, shorten(" ".join(words), size, width)]
        if fitting == 0:
            cut = _break(words[0], _prefix(words[0], size, width))
            words[:1] = [words[0][:cut], words[0][cut:]]
            fitting = 1
        wrapped.append(" ".join(words[:fitting]).removesuffix(" ·"))
        words = words[fitting:]
    return wrapped


def _break(word: str, longest: int) -> int:
    """Return where to cut a long word: after a punctuation mark in the second half of what fits, or at the end."""
    sign = max(word.rfind(sign, 0, longest) for sign in "._-/:+,") + 1
    return sign if sign > longest // 2 else max(1, longest)


def _prefix(text: str, size: int, width: float) -> int:
    """Return how many of the first characters fit."""
    return bisect_right(range(1, len(text) + 1), width, key=lambda n: measure(text[:n], size))


def write(
    draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, color: RGB, *, strong: bool = False
) -> None:
    """Draw one line of text with its top left corner at (x, y), in pixels."""
    stroke = size / 56 if strong and OUTLINES else 0
    for word in plain(text).split(" "):
        draw.text((x, y), word, fill=color, font=font(size), stroke_width=stroke)
        x += _length(word, size) + _space(size)


def _space(size: int) -> float:
    # the font's own space is too narrow at small sizes
    return 0.29 * size
