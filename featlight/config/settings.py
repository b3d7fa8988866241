"""The settings that determine an image's bits, apart from the tile itself: one frozen, validated table. No torch.

To add a setting, add a field with its help text to `Settings`. It becomes a config key, a flag, a key of variants, a
part of the fingerprint and of the command for a single tile, and an entry in the atlas, viewer, TensorBoard and card.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from featlight.config.image_shape import parse_in_channels, parse_shown
from featlight.config.losses import METRICS
from featlight.config.named_starts import NAMED_STARTS
from featlight.config.normalization import Named, Normalization, parse_normalization
from featlight.config.optimizer import Optimizer, python_name
from featlight.config.presets import EMBEDDED, LITE, NATURAL, RECIPES
from featlight.config.recipe import Octave, Recipe, merged
from featlight.config.regions import REGIONS
from featlight.config.tile import TokenKind
from featlight.config.transform_settings import TransformKind, plain_transform
from featlight.config.user_text import PathWord, one_of
from featlight.errors import unknown


def _on_off(given: Any) -> Any:
    return {True: "on", False: "off"}[given] if isinstance(given, bool) else given  # YAML 1.1 reads on as true


def _index(given: Any) -> Any:
    """Parse an index, given as text (`9,9`) or as a number or list."""
    if given is None:
        return None
    if isinstance(given, str) and given != "all":
        try:
            given = [int(part) for part in given.strip("[]() ").split(",")]
        except ValueError:
            given = None
        given = given[0] if given and len(given) == 1 else given
    fits = given == "all" or (isinstance(given, int) and not isinstance(given, bool) and given >= 0)
    pair = isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(i, int) and i >= 0 for i in given)
    if not fits and not pair:
        raise ValueError("allowed: a row, [row, column], a neuron's number, or all")
    return tuple(given) if pair else given


def _auto_or_count(given: Any) -> Any:
    if given == "auto":
        return given
    try:
        count = int(str(given))
    except ValueError:
        count = 0
    if not 1 <= count <= 4096:
        raise ValueError("allowed: auto, or a whole number from 1 to 4096")
    return count


def _auto_or_few(given: Any) -> Any:
    if given == "auto":
        return given
    if isinstance(given, bool) or not str(given).isdecimal() or int(str(given)) > 4096:
        raise ValueError("allowed: auto, or a whole number from 0 to 4096")
    return int(str(given))


def parse_recipe(given: Any) -> Any:
    """Return the recipe of a name, or a recipe table with its `base` filled in."""
    if isinstance(given, str):
        if given not in RECIPES:
            raise ValueError(unknown("recipe", given, RECIPES))
        return RECIPES[given]
    if isinstance(given, dict) and "base" in given:
        base = given["base"]
        if not isinstance(base, str) or base not in RECIPES:
            raise ValueError(f"base: {unknown('recipe', str(base), RECIPES)}")
        return merged(whole(RECIPES[base]), {key: value for key, value in given.items() if key != "base"})
    return given


AutoOrCount = Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_count)]
Channels = Literal["auto", "first", "last"]
PrefixTokens = Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_few)]
MetricName = Annotated[str, BeforeValidator(one_of(METRICS))]
AnyRegion = Annotated[str, BeforeValidator(one_of((*REGIONS, "all")))]
AnyIndex = Annotated[int | tuple[int, int] | Literal["all"] | None, BeforeValidator(_index)]


class Strict(BaseModel):
    """A table that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _shared(default: Any, description: str) -> Any:
    """Return the field of a setting that all variants of a run share."""
    return Field(default, description=description, json_schema_extra={"shared": True})


class Settings(Strict):
    """How images are made: as requested in a config, or resolved in a plan."""

    model: str = _shared(
        LITE,
        f"network: {LITE} (ImageNet), {EMBEDDED} (a small demo network), a classification network of "
        "torchvision.models, timm/<name>, hf/<repository or folder> (transformers), or package.module:callable",
    )
    weights: PathWord = _shared(
        "DEFAULT",
        "DEFAULT, a torchvision weights name, a checkpoint file (FILE:entry for one entry of it), or none (random "
        "weights, drawn from --seed)",
    )  # resolved: the SHA-256 of the network's state
    normalize: Annotated[Normalization | Named, BeforeValidator(parse_normalization)] = _shared(
        "auto",
        "preprocessing of the network's input: none (raw pixels), weights (the mean, std and input transform used in "
        "training), auto (weights if they are known and the recipe's range is bounded, else none), or a table {mean: "
        "[...], std: [...]} with a number per channel",
    )
    channels: Channels = _shared(
        "auto",
        "which dimension of a layer's output (N, ., ., .) holds the features: first, last, or auto (detected from the "
        "type of layer, or with a second image size); applies to all layers of the run",
    )
    in_channels: Annotated[Literal["auto"] | int, BeforeValidator(parse_in_channels)] = _shared(
        "auto",
        "channels of the network's input images: a number, or auto (detected from the first convolution, or by running "
        "the network)",
    )
    show_channels: Annotated[Literal["auto"] | tuple[int, ...], BeforeValidator(parse_shown)] = _shared(
        "auto",
        "channels to show in pictures, from 0: one (gray) or three (red, green, blue), for example 3,2,1; auto: "
        "the first three, or the first of one or two; float images keep all channels",
    )
    prefix_tokens: PrefixTokens = _shared(
        "auto",
        "number of tokens before the patch tokens, such as the class token: a number, or auto (detected from the "
        "network's maps, or with a second image size); applies to all layers of the run",
    )
    tokens: TokenKind = Field(
        "patches",
        description="tokens of a transformer layer: patches (the map of patch tokens) or class (the class token)",
    )
    directions: PathWord | None = _shared(
        None,
        "visualize directions in the layer's feature space instead of single features: a .npy, .npz or .safetensors "
        "file (FILE:name for one array of it) of shape (directions, features), float16 to float64; --features then "
        "selects rows",
    )  # resolved: the file's SHA-256, and the array's name
    objective: str | None = _shared(
        None, "name and version of a custom objective; only visualize(objective=...) in Python can set it"
    )
    cosine_power: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(
        0.0,
        description="exponent p: a direction's dot product at each position is multiplied by max(0.1, cosine)^p; 0 is "
        "the plain projection, larger values such as 2 or 4 demand a closer match of the direction",
    )
    caricature: PathWord | None = Field(
        None,
        description="image file; for each layer, draw one picture that exaggerates what the layer detects in it (the "
        "image's activations are the direction at each position)",
    )  # resolved: the SHA-256 of its pixels
    stay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0,
        description="penalty on the difference from the starting photograph (--init FILE): activation lost per neuron "
        "for a mean squared pixel difference of 1",
    )
    diversity: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="number of pictures per feature, optimized together so that their layer activations differ"
    )
    diversity_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        20.0,
        description="penalty on similarity between the pictures of a feature (--diversity): activation lost per neuron "
        "if they are identical",
    )
    metric: MetricName = Field("l1", description="distance to --target that is minimized: " + ", ".join(METRICS))
    target: Annotated[float, Field(allow_inf_nan=False)] = Field(
        200.0, description="activation to reach at every selected neuron, in the units of the layer's output"
    )
    region: AnyRegion = Field(
        "map",
        description="neurons to excite: "
        + "".join(f"{region.name} ({region.description}), " for region in REGIONS.values())
        + "or all (all features of the layer at once)",
    )
    index: AnyIndex = Field(
        None,
        description="position for --region: "
        + "".join(f"{region.needs} for {region.name}, " for region in REGIONS.values())
        + "counted from 0 on the map of the first octave; all: one tile per position",
    )
    recipe: Annotated[Recipe, BeforeValidator(parse_recipe)] = Field(
        NATURAL,
        description=f"how images are optimized: {', '.join(RECIPES)}; in a config file also a table, which may start "
        "from another recipe (base: natural) and change parts of it",
    )
    init: PathWord = Field(
        "noise",
        description="starting image: "
        + "".join(
            f"{name} ({start.description}), " if start.description else f"{name}, "
            for name, start in NAMED_STARTS.items()
        )
        + "or an image file",
    )  # resolved: the SHA-256 of an image's pixels
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        999,
        description="seed of the starting noise, the recipe's random transforms, --features sample:N, and random "
        "weights (--weights none)",
    )
    precision: Literal["fp32", "bf16", "fp64"] = _shared(
        "fp32", "fp32, bf16 (network in bfloat16, images in float32), or fp64 (everything in float64; for checks)"
    )
    batch_size: AutoOrCount = _shared("auto", "number of images optimized together, or auto")
    threads: AutoOrCount = _shared(
        "auto", "CPU threads per worker, or auto: one, or more if there are fewer chunks of tiles than cores"
    )
    compile: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_off)] = _shared(
        "auto", "compile the network with torch.compile: on, off, or auto (off)"
    )

    @model_validator(mode="before")
    @classmethod
    def _null_recipe(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("recipe", 0) is None:
            return {key: value for key, value in values.items() if key != "recipe"}
        return values

    @property
    def shows_photograph(self) -> bool:
        """Whether images derive from a user's picture: it is their start, or the image of a caricature."""
        return self.init not in NAMED_STARTS or self.caricature is not None

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings as JSON types; equal fingerprints give equal images.

        Settings that were added after the first version are left out at their default, so that old runs can continue.
        """
        return _plain(Settings, {key: getattr(self, key) for key in Settings.model_fields})


SHARED = tuple(key for key, field in Settings.model_fields.items() if field.json_schema_extra)
# The keys of each table's first version, which every fingerprint holds
_FIRST_FORM: dict[type[Any], tuple[str, ...]] = {
    Settings: (
        *("model", "weights", "normalize", "metric", "target", "region", "index", "recipe", "init", "seed"),
        *("precision", "batch_size", "threads", "compile"),
    ),
    Recipe: ("octaves", "gradient"),
    Octave: ("size", "steps", "lr", "sigma"),
}


def _plain(table: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    always, defaults = _FIRST_FORM.get(table, ()), defaults_of(table)
    return {key: plain(value) for key, value in values.items() if key in always or value != defaults[key]}


def whole(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as JSON types, with every key."""
    return {field.name: plain(getattr(recipe, field.name)) for field in fields(Recipe)}


def plain(value: Any) -> Any:
    """Return a value as JSON types; a dataclass without the fields that have their default."""
    if isinstance(value, Optimizer):
        return value.plain()
    if isinstance(value, TransformKind):
        return plain_transform(value)
    if isinstance(value, type):
        return python_name(value)
    if is_dataclass(value):
        return _plain(type(value), {field.name: getattr(value, field.name) for field in fields(value)})
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


def defaults_of(table: type[Any]) -> dict[str, Any]:
    """Return the default of each field of a pydantic model or dataclass; a marker for a required field."""
    if is_dataclass(table):
        made = {field.name: field.default_factory for field in fields(table) if field.default_factory is not MISSING}
        return {field.name: field.default for field in fields(table)} | {name: make() for name, make in made.items()}
    return {key: field.default for key, field in table.model_fields.items()}


def digest(fingerprint: Mapping[str, Any]) -> str:
    """Return the short hash of a fingerprint that every record carries."""
    return sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


class Variant(Settings):
    """The run's tiles made with some other settings; the rest is as in the run."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _as_in_the_run(cls, values: Any) -> Any:
        """Drop null values, which stand for the run's own; a null `index` is a value."""
        if not isinstance(values, dict):
            return values
        for key in SHARED:
            if values.get(key) is not None:
                raise ValueError(f"{key}: {values[key]!r} given; all variants share it: set it outside of variants")
        return {key: value for key, value in values.items() if value is not None or key == "index"}

    def applied_to(self, settings: Settings) -> Settings:
        """Return the settings with the variant's changes."""
        return settings.model_copy(update={key: getattr(self, key) for key in self.model_fields_set - {"name"}})
