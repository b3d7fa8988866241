"""What a run is, whole: its settings, its tiles, its figure, its workers, its directory. No torch."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, PlainSerializer

from featlight.config.choice.features import Features, count_features, format_features, parse_features
from featlight.config.inputs.fit import FitWord, parse_fit
from featlight.config.presets import DEFAULT_LAYERS
from featlight.config.settings import AutoOrCount, Settings, Strict, Variant
from featlight.config.text_checks import without_folder
from featlight.config.tile import MOST_TILES, Tile, file_name
from featlight.config.user_paths import PathWord


def _layers(given: Any) -> Any:
    if isinstance(given, dict):
        if (count := sum(map(count_features, given.values()))) > MOST_TILES:
            raise ValueError(f"{count:,} features given in all; a run has {MOST_TILES:,} tiles at most")
        return {_layer(name): features for name, features in given.items()}
    return dict.fromkeys(map(_layer, given if isinstance(given, list) else [given]))


def _layer(given: Any) -> str:
    """A layer's name, which may look like a number: of a Sequential's parts, say."""
    if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
        return str(given)
    raise ValueError(f"{given!r} given; a layer's name, a list of names, or {{name: features}} is allowed")


def _flow(value: Any) -> Any:
    return None if value is None else format_features(value)


Accelerator = Literal["auto", "cpu", "gpu"]
Spec = Annotated[Features, BeforeValidator(parse_features), PlainSerializer(_flow)]
Layers = Annotated[dict[str, Annotated[Spec | None, PlainSerializer(_flow)]], BeforeValidator(_layers)]
MOST_TOP = 100  # examples of a tile
Extra = Literal["floats", "octaves", "maps"]


class Figure(Strict):
    """A picture or animation besides the atlas, in the folder `figures`."""

    # rows of tiles; such rows, and below each where its images changed, or where its features are active in them;
    # prefixes in reading order; the ends of the octaves
    kind: Literal["grid", "areas", "activity", "growth", "octaves"]
    rows: Literal["layer", "variant", "tile", "feature"] = (
        "layer"  # what stands at the left of each, where there are rows
    )
    mark: bool = False  # in a growth: frame the newest neuron's place
    title: str | None = None


class Examples(Strict):
    """The images of a folder that excite each tile most, found when the run is made."""

    images: PathWord
    top: int = Field(9, ge=1, le=MOST_TOP)
    fit: Annotated[FitWord, BeforeValidator(parse_fit)] = "auto"
    batch_size: AutoOrCount = "auto"


class Config(Settings):
    """A run. Each key's help is its field's description; a flag of the same name beats the file."""

    layer: Layers | None = Field(
        None,
        description="layer to visualize, a dotted name as --list-layers prints it, a pattern (blocks.*: * is a part of "
        "a name, ** several), or all: every layer with something of its own; repeatable; null: the network's own",
    )
    features: Spec = Field(
        "all",
        description="features (channels) of each layer: all, numbers and ranges as in 0-15,199,201, names as in "
        "tiger,macaw (classes of the last layer, or those of --labels), or sample:16: so many of each, by the seed",
    )
    labels: PathWord | None = Field(
        None,
        description="file of names of the layer's features, or of the directions: a line each from 0, .csv or .tsv "
        "(number, name), or .json (a list, {number: name}, {layer: either}, or one of these under id2label)",
    )
    tiles: tuple[Tile, ...] | None = Field(
        None, description="named tiles instead of layer and features, each a weighted sum of terms"
    )
    interpolate: int = Field(
        1,
        ge=1,
        le=64,
        description="pictures from each tile's objective to the next one's in even steps, both among them, instead "
        "of the tiles themselves; 1: none",
    )
    variants: tuple[Variant, ...] | None = Field(None, max_length=1000, description="the same tiles made several ways")
    figure: Figure | None = Field(None, description="pictures and animations besides the atlas")
    examples: Examples | None = Field(
        None, description="a folder of images, of which those that excite each tile most are found when the run is made"
    )
    devices: AutoOrCount = Field(
        "auto",
        description="workers on each machine, a GPU each where there are GPUs; auto: as many as GPUs, else as cores, "
        "or what srun or torchrun has started",
    )
    num_nodes: int = Field(
        1,
        ge=1,
        le=4096,
        description="machines that share the run directory; srun, torchrun or NODE_RANK tells which this is",
    )
    accelerator: Accelerator = Field("auto", description="auto (CUDA if there is one, else the CPU), cpu or gpu")
    keep_octaves: bool = Field(False, description="keep each octave's end as a small picture too")
    float_images: bool = Field(False, description="keep the unclipped float32 images too, as safetensors")
    keep_maps: bool = Field(False, description="keep the maps of each tile's features in its final image too")
    out: PathWord | None = Field(None, description="run directory; null: runs/<model>-<layer>, or runs/<config's name>")

    @property
    def extras(self) -> tuple[Extra, ...]:
        """What is kept of each tile besides its picture."""
        kept = {"floats": self.float_images, "octaves": self.keep_octaves, "maps": self.keep_maps}
        return tuple(extra for extra in get_args(Extra) if kept[extra])

    @property
    def named_layers(self) -> list[str]:
        """The layers that are asked for, each by its name or pattern."""
        terms = [term.layer for tile in self.tiles or () for term in tile.terms]
        return list(dict.fromkeys([*(self.layer or {}), *terms]))

    @property
    def settings(self) -> dict[str, Settings]:
        """By variant, how its tiles are made; "" where the run has none."""
        own = Settings.model_construct(**{key: getattr(self, key) for key in Settings.model_fields})
        return {variant.name: variant.of(own) for variant in self.variants or ()} or {"": own}

    def resolved(self, name: str | None = None) -> "Config":
        """The same run with the default layer of its network, and the run directory, filled in.

        Args:
            name: the config file's stem, which names the default run directory.
        """
        layer = self.layer
        if layer is None and self.tiles is None and self.model in DEFAULT_LAYERS:
            layer = {DEFAULT_LAYERS[self.model]: None}
        words = [self.model.rpartition(":")[2], *(layer or ["tiles"])]
        if self.directions is not None:
            words.append(without_folder(self.directions).partition(".")[0])
        run = name or "-".join(file_name(word) for word in words)
        if len(run) > 100:  # a file system takes 255
            run = f"{run[:80]}-{sha256(run.encode()).hexdigest()[:8]}"
        return self.model_copy(update={"layer": layer, "out": self.out or str(Path("runs") / run)})

    def to_yaml(self) -> str:
        """YAML that `read` takes back to an equal config."""
        values = self.model_dump(mode="json")
        if self.variants is not None:
            values["variants"] = [variant.model_dump(mode="json", exclude_unset=True) for variant in self.variants]
        if values["layer"] is not None and not any(values["layer"].values()):
            values["layer"] = list(values["layer"])
        first = {key: values[key] for key in ("model", "weights", "layer", "features", "tiles", "variants")}
        return yaml.safe_dump(first | values, sort_keys=False, default_flow_style=None, width=110)
