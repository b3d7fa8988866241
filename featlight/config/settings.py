"""All that the bits of an image depend on, besides the tile itself: one frozen table, typed and checked. No torch.

A new setting is a field here, with its help. It is then a config key, a flag, a key of variants, a part of the
fingerprint, of a tile's own command and of what atlas, viewer, TensorBoard and data set card say.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from featlight.config.inputs.channels import parse_in_channels, parse_shown
from featlight.config.normalization import Named, Normalization, parse_normalization
from featlight.config.optimizer import Optimizer, python_name
from featlight.config.presets import EMBEDDED, LITE, NATURAL, RECIPES
from featlight.config.recipe import NAMED_STARTS, Octave, Recipe, merged
from featlight.config.tile import METRICS, Metric, TokenKind
from featlight.config.transform_settings import KINDS, plain_transform
from featlight.config.user_paths import PathWord
from featlight.errors import unknown


def _on_off(given: Any) -> Any:
    return {True: "on", False: "off"}[given] if isinstance(given, bool) else given  # YAML 1.1 reads on as true


def _index(given: Any) -> Any:
    """A flag's words (`9,9`) and a file's values alike."""
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
        raise ValueError("a row, [row, column], a neuron's number, or all is allowed")
    return tuple(given) if pair else given


def _auto_or_count(given: Any) -> Any:
    if given == "auto":
        return given
    try:
        count = int(str(given))
    except ValueError:
        count = 0
    if not 1 <= count <= 4096:
        raise ValueError("auto, or a whole number from 1 to 4096, is allowed")
    return count


def _auto_or_few(given: Any) -> Any:
    if given == "auto":
        return given
    if isinstance(given, bool) or not str(given).isdecimal() or int(str(given)) > 4096:
        raise ValueError("auto, or a whole number from 0 to 4096, is allowed")
    return int(str(given))


def parse_recipe(given: Any) -> Any:
    """A recipe's name, or a table that may begin with another recipe and change a part of it."""
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
AnyRegion = Literal["map", "row", "neuron", "prefix", "all"]
AnyIndex = Annotated[int | tuple[int, int] | Literal["all"] | None, BeforeValidator(_index)]


class Strict(BaseModel):
    """A table that takes no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _shared(default: Any, description: str) -> Any:
    """A setting that all variants of a run share, as its network is loaded once."""
    return Field(default, description=description, json_schema_extra={"shared": True})


class Settings(Strict):
    """How images are made. As asked for in a config; as settled in a plan, with nothing left to chance."""

    model: str = _shared(
        LITE,
        f"{LITE} (of ImageNet), {EMBEDDED} (a toy), a classification network of torchvision.models, timm/<name>, "
        "hf/<repository or folder> (of transformers), or package.module:callable",
    )
    weights: PathWord = _shared(
        "DEFAULT",
        "DEFAULT, a torchvision weights name, a file (FILE:entry for one in it), or none (random, drawn under the "
        "seed)",
    )  # settled: the SHA-256 of the network's state
    normalize: Annotated[Normalization | Named, BeforeValidator(parse_normalization)] = _shared(
        "auto",
        "none: raw pixels; weights: the mean, std and input transform that the weights were trained with; auto: "
        "weights, or none where they are not known or the recipe's range is unbounded; or a table, {mean: [...], std: "
        "[...]}, of a number for each channel",
    )
    channels: Channels = _shared(
        "auto",
        "which dimension of a layer's output (N, ., ., .) is the feature: auto (as its kind, or another size of "
        "image, tells), or first or last, for all layers of a run",
    )
    in_channels: Annotated[Literal["auto"] | int, BeforeValidator(parse_in_channels)] = _shared(
        "auto",
        "channels of the images that the network takes: auto (as its first convolution, or as it runs), or a number",
    )
    show_channels: Annotated[Literal["auto"] | tuple[int, ...], BeforeValidator(parse_shown)] = _shared(
        "auto",
        "channels that pictures show, from 0: one as gray, or three as red, green and blue, as in 3,2,1; auto: the "
        "first three, of fewer the first; float images hold all",
    )
    prefix_tokens: PrefixTokens = _shared(
        "auto",
        "how many of a layer's tokens stand before the patches: auto (as the network's maps, or another size of image, "
        "tell), or a number, for all layers of a run",
    )
    tokens: TokenKind = Field(
        "patches",
        description="of a layer that gives tokens, patches (a map of them) or class (the token for the whole image)",
    )
    directions: PathWord | None = _shared(
        None,
        "directions in the layer's space of features, instead of these: a .npy, .npz or .safetensors file, or "
        "FILE:name for an array in it, (directions, features) of float16 to float64; `features` then chooses its rows",
    )  # settled: the file's SHA-256, and the array's name
    objective: str | None = _shared(
        None, "from Python alone: name and version of an objective of one's own, instead of features"
    )
    cosine_power: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(
        0.0,
        description="a direction's dot product at each position times max(0.1, cosine) to this power: 0 is the plain "
        "projection, 2 and 4 ask for the very direction",
    )
    caricature: PathWord | None = Field(
        None,
        description="an image: each layer's picture then shows what the layer sees in it; its own activations are the "
        "direction at each position",
    )  # settled: the SHA-256 of its pixels
    stay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0,
        description="how much an image that starts as a photograph (init) pays for leaving it: activation of every "
        "neuron for a mean squared difference of 1 of its pixels",
    )
    diversity: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="pictures of each feature, optimised together so that they differ in the features of its layer"
    )
    diversity_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        20.0,
        description="what pictures of a feature pay that are wholly alike, as activation of every neuron",
    )
    metric: Metric = Field("l1", description="distance to the target that is minimised: " + ", ".join(METRICS))
    target: Annotated[float, Field(allow_inf_nan=False)] = Field(
        200.0, description="activation that every chosen neuron is drawn to, in the layer's own units"
    )
    region: AnyRegion = Field(
        "map", description="neurons of the feature's map: map, row, neuron, prefix; all: all features at once"
    )
    index: AnyIndex = Field(
        None,
        description="the row, row,column, or the prefix's last neuron in reading order, "
        "on the first octave's map; all: a tile for each",
    )
    recipe: Annotated[Recipe, BeforeValidator(parse_recipe)] = Field(
        NATURAL,
        description=f"how images are made: {', '.join(RECIPES)}; in a file also a table of octaves and more, which may "
        "begin with `base: natural` and change a part",
    )
    init: PathWord = Field(
        "noise", description="starting image: noise, noise-per-feature, gray (0.5), or the path of an image"
    )  # settled: of an image, the SHA-256 of its pixels
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        999, description="seed of the starting noise and of random weights"
    )
    precision: Literal["fp32", "bf16", "fp64"] = _shared(
        "fp32", "fp32, bf16 (the network only; images stay float32), or fp64 (everything; for checking)"
    )
    batch_size: AutoOrCount = _shared("auto", "images optimised together, a number or auto")
    threads: AutoOrCount = _shared(
        "auto", "CPU threads of each worker, a number, or auto: one, or the cores that few chunks leave"
    )
    compile: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_off)] = _shared(
        "auto", "torch.compile the network: auto, on or off"
    )

    @model_validator(mode="before")
    @classmethod
    def _null_recipe(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("recipe", 0) is None:
            return {key: value for key, value in values.items() if key != "recipe"}
        return values

    @property
    def shows_photograph(self) -> bool:
        """Whether images are made from a picture of the user's: they start at it, or show what a layer sees in it."""
        return self.init not in NAMED_STARTS or self.caricature is not None

    def fingerprint(self) -> dict[str, Any]:
        """In JSON's own types, by key: equal where images are equal.

        A setting that runs of the first form did not have yet is left out where it has its default value, so that
        those runs go on.
        """
        return _plain(Settings, {key: getattr(self, key) for key in Settings.model_fields})


SHARED = tuple(key for key, field in Settings.model_fields.items() if field.json_schema_extra)
# Of each table, the keys of its first form, which a fingerprint always holds
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
    """A recipe in JSON's own types, every key said."""
    return {field.name: plain(getattr(recipe, field.name)) for field in fields(Recipe)}


def plain(value: Any) -> Any:
    """A value in JSON's own types; of a data class, what is not as usual."""
    if isinstance(value, Optimizer):
        return value.plain()
    if type(value) in KINDS.values():
        return plain_transform(value)
    if isinstance(value, type):
        return python_name(value)
    if is_dataclass(value):
        return _plain(type(value), {field.name: getattr(value, field.name) for field in fields(value)})
    return [plain(each) for each in value] if isinstance(value, tuple | list) else value


def defaults_of(table: type[Any]) -> dict[str, Any]:
    """The default of each field of a pydantic or data class; a marker where it has none."""
    if is_dataclass(table):
        made = {field.name: field.default_factory for field in fields(table) if field.default_factory is not MISSING}
        return {field.name: field.default for field in fields(table)} | {name: make() for name, make in made.items()}
    return {key: field.default for key, field in table.model_fields.items()}


def digest(fingerprint: Mapping[str, Any]) -> str:
    """A fingerprint in short, as every record carries it."""
    return sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


class Variant(Settings):
    """The same tiles made another way: some of the settings; what is left out is as in the run."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _as_in_the_run(cls, values: Any) -> Any:
        """A null means the run's own, except for `index`, where it is a value."""
        if not isinstance(values, dict):
            return values
        for key in SHARED:
            if values.get(key) is not None:
                raise ValueError(f"{key}: {values[key]!r} given; all variants of a run share it")
        return {key: value for key, value in values.items() if value is not None or key == "index"}

    def of(self, settings: Settings) -> Settings:
        """These settings with the variant's own."""
        return settings.model_copy(update={key: getattr(self, key) for key in self.model_fields_set - {"name"}})
