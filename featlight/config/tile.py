"""What can be maximised, in words: terms, tiles and their names. Plain data, no torch."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

Region = Literal["map", "row", "neuron", "prefix"]
Metric = Literal["l1", "l2", "linf", "linf-rows", "squares"]
Index = int | tuple[int, int] | None
TokenKind = Literal["patches", "class"]
Kept = Literal["row", "image"]  # a direction that the run's settings hold
Direction = tuple[float, ...] | Kept | None
Choice = Literal["feature", "all", "direction", "image"]  # what a term looks at in each position of its layer

CLASS = "@class"  # after a layer's name: of its tokens, the one that stands for the whole image
REGIONS = get_args(Region)
METRICS = get_args(Metric)
MOST_TILES = 1_000_000  # of a run, whose plan holds some 200 bytes of each
MOST_TERMS = 1000  # of a tile
LARGEST_FEATURE, LARGEST_INDEX = 10_000_000, 100_000_000  # no layer has as many features, no map as many neurons


@dataclass(frozen=True)
class Term:
    """One part of an objective: neurons of one layer, and how much they weigh.

    Args:
        layer: dotted module name, as `named_modules()` gives it.
        feature: channel of the layer's output; None for all of them at once.
        weight: factor of this term's loss.
        region: `map` (all positions), `row`, `neuron`, or `prefix` (the first neurons in reading order).
        index: the row, the neuron's (row, column), or the prefix's last neuron in reading order; positions are
            those of the first octave's map.
        tokens: of a layer that gives tokens, `patches` (a map of them) or `class` (the one for the whole image).
        direction: instead of a feature, a vector (an array or tensor too) with a number for each of them: what counts
            at each position is the dot product with it; or `row`: that vector of the run's `directions` which
            `feature` is the number of; or `image`: at each position what the run's `caricature` gives there.

    Raises:
        ValueError: the index does not fit the region, or the direction is none.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    layer: str
    feature: int | None = None
    weight: float = 1.0
    region: Region = "map"
    index: Index = None
    tokens: TokenKind = "patches"
    direction: Direction = None

    def __post_init__(self) -> None:
        if isinstance(self.index, list):
            object.__setattr__(self, "index", tuple(self.index))
        object.__setattr__(self, "direction", _direction(self.direction))
        if (self.direction is not None) and (self.direction == "row") != (self.feature is not None):
            raise ValueError("direction: a vector, or image, takes no feature; row takes the row's number as feature")
        if self.feature is not None and not 0 <= self.feature < LARGEST_FEATURE:
            raise ValueError(
                f"feature: {self.feature} given; features count from 0, to {LARGEST_FEATURE - 1:,} at most"
            )
        if not math.isfinite(self.weight):
            raise ValueError(f"weight: {self.weight} given; a finite number is needed")
        if self.region not in REGIONS:
            raise ValueError(f"region: {self.region!r} given; allowed: {', '.join(REGIONS)}")
        if self.tokens not in get_args(TokenKind):
            raise ValueError(f"tokens: {self.tokens!r} given; allowed: {', '.join(get_args(TokenKind))}")
        check_index(self.region, self.index)

    def values(self) -> dict[str, Any]:
        """By name; without tokens and direction where these are as usual, as in runs that knew of none."""
        usual = {"tokens": "patches", "direction": None}
        return {key: value for key, value in vars(self).items() if key not in usual or value != usual[key]}

    @property
    def choice(self) -> Choice:
        """Whether it looks at a feature, at all of them, or along a direction."""
        if self.direction is not None:
            return "image" if self.direction == "image" else "direction"
        return "all" if self.feature is None else "feature"

    @property
    def output(self) -> str:
        """The name of what it looks at among a network's outputs: the layer's, or its class token's."""
        return self.layer + CLASS if self.tokens == "class" else self.layer


def _direction(given: Any) -> Direction:
    """A vector as a tuple, however it was given."""
    if given is None or isinstance(given, str):
        if given not in (None, *get_args(Kept)):
            raise ValueError(f"direction: {given!r} given; a vector, row or image is allowed")
        return given  # type: ignore[return-value]
    values = given.tolist() if hasattr(given, "tolist") else list(given)
    if not values or not all(isinstance(each, int | float) and math.isfinite(each) for each in values):
        raise ValueError("direction: a row of finite numbers is needed, one for each feature of the layer")
    return tuple(map(float, values))


def check_index(region: str, index: Any) -> None:
    """Raise ValueError where the index is not of the kind that the region needs."""
    wanted = {"map": "none", "row": "a row", "neuron": "[row, column]", "prefix": "a neuron's number"}[region]
    fits = {
        "map": index is None,
        "row": _is_count(index),
        "neuron": isinstance(index, tuple) and len(index) == 2 and all(_is_count(i) for i in index),
        "prefix": _is_count(index),
    }[region]
    if not fits:
        given = list(index) if isinstance(index, tuple) else index
        raise ValueError(f"index: {given!r} given; region {region} takes {wanted}, counted from 0")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_INDEX


@dataclass(frozen=True)
class Tile:
    """One image to make: a name and the weighted sum of terms that it maximises.

    Args:
        name: letters, digits, '.', '_' and '-' (a tile made by `feature_tile` has `layer/feature`).
        terms: one or more.
        face: of several pictures of one objective, which one, from 0; None where there is one alone.

    Raises:
        ValueError: no term, or a name that cannot be a file's.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    terms: tuple[Term, ...]
    face: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))
        if not 1 <= len(self.terms) <= MOST_TERMS:
            count = len(self.terms) or "none"
            raise ValueError(f"terms: {count} given; a tile needs at least one, and takes {MOST_TERMS} at most")
        parts = self.name.split("/")
        if len(parts) > 2 or not all(map(is_plain, parts)):
            raise ValueError(f"name: {self.name!r} given; {PLAIN}")

    @property
    def is_named(self) -> bool:
        """Whether the user named it, rather than its layer and feature."""
        return "/" not in self.name

    @property
    def label(self) -> str:
        """What stands under it in an atlas: `654`, `654 row 8`, `654 (9, 9)`, `654 to 12`, `all`, or its name.

        Of a class token it is `654 class`, of one of several faces `654 face 2`.
        """
        return self.objective_label + ("" if self.face is None or self.is_named else f" face {self.face + 1}")

    @property
    def objective_label(self) -> str:
        """The same without its face."""
        if self.is_named:
            return self.name
        term = self.terms[0]
        unnumbered = {"all": "all", "image": term.layer}.get(term.choice, "direction")
        word = unnumbered if term.feature is None else str(term.feature)
        word += " class" if term.tokens == "class" else ""
        match term.region, term.index:
            case "row", row:
                return f"{word} row {row}"
            case "neuron", (row, column):
                return f"{word} ({row}, {column})"
            case "prefix", last:
                return f"{word} to {last}"
        return word

    @property
    def signature(self) -> tuple[tuple[str, Choice], ...]:
        """What tiles of one batch must share: each term's output, and what it looks at there."""
        return tuple((term.output, term.choice) for term in self.terms)

    def file(self, variant: str = "") -> str:
        """Its path without suffix, below the folder of tiles."""
        name = f"named/{self.name}" if self.is_named else self.name
        return f"{variant}/{name}" if variant else name


def faces_of(tile: Tile, count: int) -> list[Tile]:
    """Several pictures of what a tile maximises, which are to differ; itself where one is asked for."""
    if count == 1:
        return [tile]
    digits = len(str(count))
    return [Tile(f"{tile.name}-face{face + 1:0{digits}d}", tile.terms, face) for face in range(count)]


# Every path that `Tile.file` gives to a tile of `feature_tile` or `faces_of`, or to a named tile
_WORD = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
_STEM = r"(?:caricature|all|\d{5,})(?:-class)?(?:-row\d+|-n\d+x\d+|-p\d{5,})?(?:-face\d+)?"
FILE_PATTERN = rf"(?:{_WORD}/)?(?:{_WORD}/{_STEM}|named/{_WORD})"


def feature_tile(
    layer: str,
    feature: int | None,
    region: Region = "map",
    index: Index = None,
    tokens: TokenKind = "patches",
    *,
    folder: str | None = None,
    direction: Kept | None = None,
) -> Tile:
    """The tile of one feature (None: of all features at once) of a layer.

    Args:
        layer: dotted module name.
        feature: channel.
        region: neurons of its map.
        index: which of them.
        tokens: of a layer that gives tokens, which.
        folder: of the layer's tiles; None for the layer's own name as far as it goes.
        direction: `row` where the number is that of a direction, `image` for a caricature.
    """
    stem = "caricature" if direction == "image" else "all" if feature is None else f"{feature:05d}"
    stem += "-class" if tokens == "class" else ""
    match region, index:
        case "row", row:
            stem += f"-row{row}"
        case "neuron", (row, column):
            stem += f"-n{row}x{column}"
        case "prefix", int(last):
            stem += f"-p{last:05d}"
    term = Term(layer, feature, 1.0, region, index, tokens, direction)
    return Tile(f"{folder or file_name(layer)}/{stem}", (term,))


# Names that Windows keeps for devices, with any suffix
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
_LONGEST = 200  # characters; most file systems take 255, and suffixes and temporary names come on top
PLAIN = "letters, digits, '.', '_' and '-' are allowed, up to 200 and none that a system reserves, as `con` and `aux`"


def is_plain(word: str) -> bool:
    """Whether it is made of nothing but letters, digits, '.', '_' and '-'."""
    return re.fullmatch(_WORD, word) is not None


def file_name(word: str) -> str:
    """The word itself where it can be a file's name on every system, else a safe and distinct stand-in."""
    reserved = word.partition(".")[0].casefold() in _RESERVED or word.endswith(".")
    if is_plain(word) and not reserved and len(word) <= _LONGEST:
        return word
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", word)
    return f"{safe[: _LONGEST - 9]}-{_digest(word)}"


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode(errors="backslashreplace")).hexdigest()[:8]


def folder_names(layers: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """A folder for each layer, distinct also where a file system does not tell upper from lower case.

    Args:
        layers: of a network, in its order.
        known: folders that a run has given to layers already, which stay.
    """
    taken = {folder.casefold() for folder in known.values()}
    names = dict(known)
    for layer in layers:
        if layer not in names:
            name = file_name(layer)
            names[layer] = f"{name}-{_digest(layer)}" if name.casefold() in taken else name
            taken.add(names[layer].casefold())
    return names
