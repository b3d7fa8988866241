"""What can be maximized: terms, tiles and their names. No torch."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator

from featlight.config.measures import MEASURES, WORDS, Measure, measure_of
from featlight.config.regions import REGIONS, Index, check_index
from featlight.config.user_text import one_of
from featlight.errors import one_line

RegionName = Annotated[str, BeforeValidator(one_of(REGIONS))]
TokenKind = Literal["patches", "class"]
Direction = tuple[float, ...] | str | None  # text is a measure's word: the run's settings hold the direction

CLASS = "@class"  # suffix of a layer's name: its class token
MOST_TILES = 1_000_000  # in a run; its plan has about 200 bytes per tile
MOST_TERMS = 1000  # in a tile
LARGEST_FEATURE = 10_000_000  # more than any layer has features


def check_direction_word(given: Any) -> Any:
    """Raise ValueError if text is not the word of a measure."""
    if isinstance(given, str) and given not in WORDS:
        raise ValueError(f"direction: {given!r} given; allowed: a vector, {', '.join(WORDS)}")
    return given


@dataclass(frozen=True)
class Term:
    """One weighted part of an objective: some neurons of one layer.

    Args:
        layer: dotted module name, as in `named_modules()`.
        feature: channel of the layer's output; None for all channels.
        weight: factor of this term's loss.
        region: `map` (all positions), `row`, `neuron`, or `prefix` (the first neurons in reading order).
        index: the row, the neuron's (row, column), or the prefix's last neuron in reading order, on the map of the
            first octave.
        tokens: tokens of a transformer layer: `patches` (the map of patch tokens) or `class` (the class token).
        direction: instead of a feature, a vector (tuple, array or tensor) with a number per channel, whose dot product
            with the output is maximized at each position; or `row` for row number `feature` of the run's `directions`;
            or `image` for the activations of the run's `caricature` image at each position.

    Raises:
        ValueError: the index does not fit the region, or the direction is invalid.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    layer: str
    feature: int | None = None
    weight: float = 1.0
    region: RegionName = "map"
    index: Index = None
    tokens: TokenKind = "patches"
    direction: Annotated[Direction, BeforeValidator(check_direction_word)] = None

    def __post_init__(self) -> None:
        if isinstance(self.index, list):
            object.__setattr__(self, "index", tuple(self.index))
        object.__setattr__(self, "direction", _direction(self.direction))
        check_layer(self.layer)
        self.measure.check(self)
        if self.feature is not None and not 0 <= self.feature < LARGEST_FEATURE:
            raise ValueError(f"feature: {self.feature} given; a number from 0 to {LARGEST_FEATURE - 1:,} is needed")
        if not math.isfinite(self.weight):
            raise ValueError(f"weight: {self.weight} given; a finite number is needed")
        if self.region not in list(REGIONS):
            raise ValueError(f"region: {self.region!r} given; allowed: {', '.join(REGIONS)}")
        if self.tokens not in get_args(TokenKind):
            raise ValueError(f"tokens: {self.tokens!r} given; allowed: {', '.join(get_args(TokenKind))}")
        check_index(self.region, self.index)

    def values(self) -> dict[str, Any]:
        """Return the fields by name, without default tokens and direction, which plans of old runs do not hold."""
        usual = {"tokens": "patches", "direction": None}
        return {key: value for key, value in vars(self).items() if key not in usual or value != usual[key]}

    @property
    def measure(self) -> Measure:
        """Return what the term reads: a feature, all features, a direction, or a caricature's image."""
        return measure_of(self)

    @property
    def output(self) -> str:
        """Return the name of the network output: the layer, or its class token."""
        return self.layer + CLASS if self.tokens == "class" else self.layer


def _direction(given: Any) -> Direction:
    """Convert a vector to a tuple and check it."""
    if given is None or isinstance(given, str):
        check_direction_word(given)
        return given
    values, what = given, type(given).__name__
    if not isinstance(given, list | tuple):
        from featlight.config.arrays import plain_array  # numpy: not for a plan's own lists

        try:
            array = plain_array(given)
        except Exception as error:  # arrays of other libraries raise anything
            raise ValueError(f"direction: a {what} given, which cannot be converted ({one_line(error, 160)})") from None
        values, what = array.tolist(), f"{what} of {array.dtype}, {array.shape},"
    numbers = list(map(_plain_number, values)) if isinstance(values, list | tuple) else []
    if not numbers or not all(map(_is_finite, numbers)):
        raise ValueError(f"direction: a {what} given; finite numbers are needed, one per feature of the layer")
    return tuple(map(float, numbers))


def _is_finite(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _plain_number(given: Any) -> Any:
    """Convert a scalar tensor or numpy number to a Python one; numpy's long double has no other conversion."""
    number = given.item() if getattr(given, "ndim", None) == 0 else given
    return float(number) if getattr(getattr(number, "dtype", None), "kind", "") == "f" else number


def check_layer(name: str) -> None:
    """Raise ValueError if a layer's name ends like that of a class token."""
    if name.endswith(CLASS):
        raise ValueError(
            f"layer: {name!r} given; a name that ends in {CLASS!r} is that of a class token: give "
            f"{name.removesuffix(CLASS)!r} with tokens: class, or rename the module"
        )


@dataclass(frozen=True)
class Tile:
    """One image to make: a name and the weighted sum of terms to maximize.

    Args:
        name: name of letters, digits, '.', '_' and '-'; `feature_tile` gives `layer/feature`.
        terms: terms of the sum, at least one.
        face: number of the picture, from 0, among several of one objective (`diversity`); None for a single picture.

    Raises:
        ValueError: there is no term, or the name cannot be a file name.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    terms: tuple[Term, ...]
    face: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))
        if not 1 <= len(self.terms) <= MOST_TERMS:
            count = len(self.terms) or "none"
            raise ValueError(f"terms: {count} given; a tile needs 1 to {MOST_TERMS}")
        parts = self.name.split("/")
        if len(parts) > 2 or not all(map(is_plain, parts)):
            raise ValueError(f"name: {self.name!r} given; {PLAIN}")

    @property
    def is_named(self) -> bool:
        """Whether the user chose the name; other names are made of layer and feature."""
        return "/" not in self.name

    @property
    def label(self) -> str:
        """Return the label in an atlas: `654`, `654 row 8`, `654 (9, 9)`, `654 to 12`, `all`, or the user's name.

        A class token has `654 class`, one of several pictures `654 face 2`.
        """
        return self.objective_label + ("" if self.face is None or self.is_named else f" face {self.face + 1}")

    @property
    def objective_label(self) -> str:
        """Return the label without the number of the picture."""
        if self.is_named:
            return self.name
        term = self.terms[0]
        word = term.measure.label(term) + (" class" if term.tokens == "class" else "")
        return word + REGIONS[term.region].label(term.index)

    @property
    def signature(self) -> tuple[tuple[str, str], ...]:
        """Return what tiles of one batch have in common: output and measure of each term."""
        return tuple((term.output, term.measure.name) for term in self.terms)

    def file(self, variant: str = "") -> str:
        """Return the path below the folder of tiles, without suffix."""
        name = f"named/{self.name}" if self.is_named else self.name
        return f"{variant}/{name}" if variant else name


def diverse_tiles(tile: Tile, count: int) -> list[Tile]:
    """Return the tiles of `count` diverse pictures of one objective; for one picture the tile itself."""
    if count == 1:
        return [tile]
    digits = len(str(count))
    return [Tile(f"{tile.name}-face{face + 1:0{digits}d}", tile.terms, face) for face in range(count)]


# Every path that `Tile.file` gives to a tile of `feature_tile` or `diverse_tiles`, or to a named tile
_WORD = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_SUFFIX = "|".join(region.suffix for region in REGIONS.values())
_MEASURE = "|".join(measure.stem for measure in MEASURES.values())
_STEM = rf"(?:{_MEASURE})(?:-class)?(?:{_SUFFIX})(?:-face\d+)?"
FILE_PATTERN = rf"(?:{_WORD}/)?(?:{_WORD}/{_STEM}|named/{_WORD})"


def feature_tile(
    layer: str,
    feature: int | None,
    region: RegionName = "map",
    index: Index = None,
    tokens: TokenKind = "patches",
    *,
    folder: str | None = None,
    direction: str | None = None,
) -> Tile:
    """Return the tile of one feature of a layer.

    Args:
        layer: dotted module name.
        feature: channel, or row of the directions; None for all features.
        region: neurons of the feature's map.
        index: position of the region.
        tokens: tokens of a transformer layer.
        folder: folder of the layer's tiles; None to derive it from the layer's name.
        direction: word of a measure, such as `row` for a row of the run's directions; None for a feature.
    """
    term = Term(layer, feature, 1.0, region, index, tokens, direction)
    stem = term.measure.file_stem(term) + ("-class" if tokens == "class" else "")
    return Tile(f"{folder or file_name(layer)}/{stem}{REGIONS[region].file_suffix(index)}", (term,))


# Names that Windows reserves for devices, with any suffix
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
_LONGEST = 200  # characters; most file systems allow 255, and suffixes are appended
PLAIN = "allowed: up to 200 letters, digits, '.', '_' and '-', and no reserved name such as `con` or `aux`"


def is_plain(word: str) -> bool:
    """Return whether a name has only letters, digits, '.', '_' and '-'."""
    return re.fullmatch(_WORD, word) is not None


def file_name(word: str) -> str:
    """Return a name unchanged if it is a valid file name on every system, else a safe and distinct one."""
    reserved = word.partition(".")[0].casefold() in _RESERVED or word.endswith(".")
    if is_plain(word) and not reserved and len(word) <= _LONGEST:
        return word
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", word)
    return f"{safe[: _LONGEST - 9]}-{_digest(word)}"


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode(errors="backslashreplace")).hexdigest()[:8]


def folder_names(layers: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a folder per layer, distinct also on case-insensitive file systems.

    Args:
        layers: names of layers, in the network's order.
        known: folders by layer that the run already has; these are kept.
    """
    taken = {folder.casefold() for folder in known.values()}
    names = dict(known)
    for layer in layers:
        if layer not in names:
            name = file_name(layer)
            names[layer] = f"{name}-{_digest(layer)}" if name.casefold() in taken else name
            taken.add(names[layer].casefold())
    return names
