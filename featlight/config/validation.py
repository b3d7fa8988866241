"""Make a config from a file and flags; an error is one line with the nearest valid name."""

from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from featlight.config.named_starts import NAMED_STARTS, is_noise
from featlight.config.normalization import Normalization
from featlight.config.presets import NATURAL
from featlight.config.recipe import Octave, Recipe, Regularizers
from featlight.config.regions import REGIONS
from featlight.config.schema import Config, Examples, Figure
from featlight.config.settings import Settings, Variant, parse_recipe, whole
from featlight.config.tile import PLAIN, Term, Tile, file_name
from featlight.config.user_text import check_words
from featlight.config.yaml import TEXT, Loader, TwiceError, check_text
from featlight.errors import UsageError, one_line, unknown


def _names(table: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(table))


# The keys of each table, to suggest the nearest one for a misspelled key
_TABLES: dict[str, tuple[str, ...]] = {
    "": tuple(Config.model_fields),
    "recipe": ("base", *_names(Recipe)),
    "octaves": _names(Octave),
    "regularizers": _names(Regularizers),
    "tiles": _names(Tile),
    "terms": _names(Term),
    "variants": tuple(Variant.model_fields),
    "figure": tuple(Figure.model_fields),
    "examples": tuple(Examples.model_fields),
}


def read(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML config file.

    Raises:
        UsageError: the file does not exist, or is not a YAML table.
    """
    try:
        text = _text(path)
        check_text(text)
        values = yaml.load(text, Loader)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from None
    except TwiceError as error:
        raise UsageError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {one_line(error)}") from None
    except (ValueError, OverflowError) as error:  # a limit exceeded, or an invalid date
        raise UsageError(f"{path}: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a {type(values).__name__} given; lines of `key: value` are needed")
    for key in values:
        if not isinstance(key, str):
            raise UsageError(f"{path}: no key {key!r}; a key is text, as in `model`")
    return values


def _text(path: Path) -> str:
    """Return the text of a file or pipe, at most one character more than the limit."""
    with path.open(encoding="utf-8") as file:
        return file.read(TEXT + 1)


def assign(values: dict[str, Any], assignment: str) -> None:
    """Set a key inside a table, as in `--set recipe.optimizer.exponent=0.9`.

    Args:
        values: values by key, changed in place; the name of a recipe is replaced by its table.
        assignment: keys joined by dots, with numbers for list items, then `=` and a YAML value.

    Raises:
        UsageError: the assignment has another form, or the key does not exist.
    """
    path, equals, text = assignment.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set: {assignment!r} given; KEY=VALUE is needed, as in recipe.optimizer.exponent=0.9")
    try:
        value = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {path}: not YAML: {one_line(error)}") from None
    if keys[0] not in Config.model_fields:
        raise UsageError(f"--set {path}: {unknown('key', keys[0], Config.model_fields)}")
    if keys[0] == "recipe" and len(keys) > 1:
        values["recipe"] = _recipe_table(values.get("recipe"))
    place: Any = values
    for key, inner in zip(keys, [*keys[1:], None], strict=True):
        index: Any = int(key) if isinstance(place, list) and key.isdecimal() and int(key) < len(place) else key
        if isinstance(place, list) and index is key:
            raise UsageError(
                f"--set {path}: {key!r} given; a number from 0 to {len(place) - 1} selects an item of the list"
            )
        if inner is None:
            if keys == ["recipe", "optimizer", "name"]:
                place.clear()  # drop the constants of the previous rule
            place[index] = value
            return
        if isinstance(place, dict) and not isinstance(place.get(index), dict | list):
            place[index] = {} if place.get(index) is None else {"name": place[index]}
        place = place[index]


def _recipe_table(recipe: Any) -> Any:
    """Return a recipe as a mutable table of JSON types."""
    try:
        parsed = parse_recipe(NATURAL if recipe is None else recipe)
    except ValueError as error:
        raise UsageError(f"recipe: {error}") from None
    return whole(parsed) if isinstance(parsed, Recipe) else deepcopy(parsed)


def check(values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> Config:
    """Validate values and return the config.

    Args:
        values: values by key.
        sources: origin of each key, for messages (`--seed`, `my.yaml: seed`).

    Raises:
        UsageError: a value is invalid; the message gives its key, the value and what is allowed.
    """
    sources = sources or {}
    for key, value in values.items():
        try:
            check_words({key: value})
        except ValueError as error:
            raise UsageError(f"{sources.get(key, key[:60])}: {error}") from None
    try:
        config = Config.model_validate(dict(values))
    except ValidationError as error:
        # a misspelled key also leaves a required key missing: report the misspelled one
        first = min(error.errors(), key=lambda details: details["type"] not in _UNKNOWN_KEY)
        raise UsageError(_one_line(first, sources)) from None
    _check_whole(config, sources)
    return config


def _check_whole(config: Config, sources: Mapping[str, str]) -> None:
    """Check combinations of keys."""

    def refuse(key: str, message: str) -> None:
        raise UsageError(f"{sources.get(key, key)}: {message}")

    for key in ("layer", "tiles", "variants"):
        if getattr(config, key) is not None and not getattr(config, key):
            refuse(key, "none given; at least one is needed")
    if config.tiles is not None:
        if config.layer is not None:
            refuse("tiles", "named tiles and `layer` given; remove one of them")
        for key, default in (("features", "all"), ("region", "map"), ("index", None), ("tokens", "patches")):
            if getattr(config, key) != default:
                refuse(key, "given with named tiles; remove it, or set it in their terms")
    for key, names in (
        ("tiles", [tile.name for tile in config.tiles or ()]),
        ("variants", [variant.name for variant in config.variants or ()]),
    ):
        for name, times in Counter(names).items():
            if times > 1:
                refuse(key, f"the name {name!r} is given twice; names must differ")
            if name != file_name(name):
                refuse(key, f"name {name!r} given; {PLAIN}")
            alike = [other for other in names if other != name and other.casefold() == name.casefold()]
            if alike:
                refuse(key, f"the names {name!r} and {alike[0]!r} given; they must differ in more than case")
    if config.directions is not None and config.layer is not None and len(config.layer) > 1:
        refuse("directions", f"given for {len(config.layer)} layers; directions belong to one: give one --layer")
    if any(tile.face is not None for tile in config.tiles or ()):
        refuse("tiles", "a face given; use `diversity` for several pictures of each tile")
    measures = [term.measure for tile in config.tiles or () for term in tile.terms]
    along = config.directions is not None or any(measure.has_direction for measure in measures)
    if any(settings.recipe.keeps_alpha for settings in config.settings.values()):
        for tile in config.tiles or ():
            if tile.name.casefold().endswith(".alpha"):
                refuse("tiles", f"name {tile.name!r} given; maco saves transparency under such names: choose another")
    kind = None if config.figure is None else config.figure.kind
    for needy, key in (("octaves", "keep_octaves"), ("activity", "keep_maps"), ("circuit", "circuits")):
        if kind == needy and not getattr(config, key):
            refuse("figure", f"kind {kind} given; it needs {key}: true")
    for key in ("tiles", "layers"):
        if kind != "circuit" and getattr(config.figure, key, None) is not None:
            refuse("figure", f"{key} given for kind {kind}; {key} belong to kind circuit: remove them")
    features = {(term.layer, term.feature) for tile in config.tiles or () for term in tile.terms}
    if kind == "activity" and not 1 <= len(features) <= 3:
        refuse("figure", f"kind activity given for {len(features)} features; it needs named tiles of one to three")
    for tile in config.tiles or ():
        alone = [replace(term, weight=1.0) for term in tile.terms]
        weights = [
            sum(term.weight for term, other in zip(tile.terms, alone, strict=True) if other == each) for each in alone
        ]
        if not any(weights):
            refuse("tiles", f"{tile.name!r} given; the weights of its terms sum to 0: change them")
    for (one, ours), (other, theirs) in combinations(config.settings.items(), 2):
        if ours == theirs:
            refuse("variants", f"{one!r} and {other!r} given; they make the same pictures: change or remove one")
    for settings in config.settings.values():
        if not is_noise(settings.init) and settings.init != "a tensor":  # which is checked when it is read
            for refusal in equal_faces(settings, settings.init):
                refuse("diversity", refusal)
        normalize, region, index = settings.normalize, settings.region, settings.index
        if isinstance(normalize, Normalization) and normalize.is_of_bytes:
            refuse(
                "normalize",
                f"{normalize.in_words()} given; pixels range from 0 to 1: divide values for 0 to 255 by 255",
            )
        chosen = REGIONS.get(region, REGIONS["map"])  # `all` selects the whole map of all features
        fits = chosen.is_index(index) or (index == "all" and not chosen.is_index(None))
        if config.directions is not None and region == "all":
            refuse("region", f"all given with directions; allowed: {', '.join(REGIONS)}")
        if settings.caricature is not None and config.tiles is None and (config.directions or region == "all"):
            other = "directions" if config.directions else "region: all"
            refuse("caricature", f"an image and {other} given; remove one of them")
        if any(measure.needs_image for measure in measures) and settings.caricature is None:
            refuse("tiles", "direction: image given, but no image; add --caricature FILE")
        if settings.stay and settings.init in NAMED_STARTS:
            refuse(
                "stay",
                f"{settings.stay:g} given, but images start from {settings.init}; add --init FILE with a photograph",
            )
        if settings.cosine_power and not along and settings.caricature is None:
            refuse("cosine_power", f"{settings.cosine_power:g} given, but no directions; add --directions FILE")
        if config.tiles is None and not fits:
            refuse("index", f"{index!r} given; region {region} needs {chosen.needs}")


def equal_faces(settings: Settings, start: str) -> Iterator[str]:
    """Yield an error line if all pictures of a feature start from one image and no transform is random."""
    looks = (*settings.recipe.transforms, *(settings.recipe.object_transforms or ()))
    if settings.diversity > 1 and not any(look.is_random for look in looks):
        yield (
            f"{settings.diversity} given, but the pictures of a feature would be equal: all start from one image "
            f"({start}) and no transform is random; use --init noise, or add a jitter to the recipe"
        )


_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def _one_line(error: Any, sources: Mapping[str, str]) -> str:
    """Return one of pydantic's errors as a line: key, value, what is allowed."""
    key, *inner = error["loc"]
    unknown_key = error["type"] in _UNKNOWN_KEY
    # the other parts are pydantic's names for the members of a union
    place = [key, *(part for part in inner if isinstance(part, int) or part in _INNER or key == "layer")]
    if unknown_key and place[-1] != error["loc"][-1]:
        place.append(error["loc"][-1])
    path = sources.get(key, key) + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place[1:])
    if unknown_key:
        tables = [part for part in place[:-1] if isinstance(part, str)]
        table = tables[-1] if tables else ""
        source, _, _ = path.rpartition(".") if len(place) > 1 else path.rpartition(": ")
        return (f"{source}: " if source else "") + unknown("key", str(place[-1]), _TABLES.get(table, ()))
    shown = _shown(error["input"])
    match error["type"]:
        case "value_error":
            message = str(error["ctx"]["error"]).removeprefix(f"{place[-1]}: ")
            return f"{path}.{message}" if message.split(":")[0] in _INNER else f"{path}: {_with_given(message, shown)}"
        case "literal_error":
            return (
                f"{path}: {shown} given; allowed: {error['ctx']['expected'].replace(' or ', ', ').replace(chr(39), '')}"
            )
        case "missing":
            return f"{path}: missing"
        case "tuple_type" if place[-1] in ("lr", "sigma"):
            return f"{path}: {shown} given; two numbers are needed, for first and last step, as in [{shown}, {shown}]"
        case "tuple_type" | "list_type":
            return f"{path}: {shown} given; a list in brackets is needed"
    return f"{path}: {shown} given; it {error['msg'].removeprefix('Input ')}"


def _shown(given: Any) -> str:
    try:
        text = repr(given)
    except ValueError:  # Python refuses to print numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


_INNER = {key for table, keys in _TABLES.items() if table for key in keys}


def _with_given(message: str, shown: str) -> str:
    return message if "given" in message or message.startswith("no ") else f"{shown} given; {message}"
