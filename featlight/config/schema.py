"""The config of a run: settings, tiles, figure, workers, directory. No torch."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, PlainSerializer

from featlight.config.choices import Features, count_features, format_features, parse_features
from featlight.config.image_shape import FitWord, parse_fit
from featlight.config.presets import DEFAULT_LAYERS
from featlight.config.settings import AutoOrCount, Settings, Strict, Variant
from featlight.config.tile import MOST_TILES, Tile, check_layer, file_name
from featlight.config.user_text import PathWord, without_folder


def _layers(given: Any) -> Any:
    if isinstance(given, dict):
        if (count := sum(map(count_features, given.values()))) > MOST_TILES:
            raise ValueError(f"{count:,} features given in all; a run has {MOST_TILES:,} tiles at most")
        return {_layer(name): features for name, features in given.items()}
    return dict.fromkeys(map(_layer, given if isinstance(given, list) else [given]))


def _layer(given: Any) -> str:
    """Check a layer's name; a child of a Sequential has a number as its name."""
    if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
        check_layer(str(given))
        return str(given)
    raise ValueError(f"{given!r} given; allowed: a layer's name, a list of names, or {{name: features}}")


def _plain_features(value: Any) -> Any:
    return None if value is None else format_features(value)


Accelerator = Literal["auto", "cpu", "gpu"]
FeatureSpec = Annotated[Features, BeforeValidator(parse_features), PlainSerializer(_plain_features)]
LayerFeatures = Annotated[
    dict[str, Annotated[FeatureSpec | None, PlainSerializer(_plain_features)]], BeforeValidator(_layers)
]
MOST_TOP = 100  # dataset examples per tile
MOST_CIRCUITS = 16  # pictures of a figure
Extra = Literal["floats", "octaves", "maps"]


class Figure(Strict):
    """A picture or animation besides the atlas, in the folder `figures`.

    grid: rows of tiles; areas: such rows, with the changed areas below each; activity: such rows, with the active areas
    of the features below each; growth: prefixes in reading order; octaves: the image at the end of each octave;
    circuit: the earlier features that a tile is made of.
    """

    kind: Literal["grid", "areas", "activity", "growth", "octaves", "circuit"]
    rows: Literal["layer", "variant", "tile", "feature"] = "layer"  # what a row holds
    mark: bool = False  # in growth: frame the position of the newest neuron
    title: str | None = None
    # in circuit: tiles to show, such as `classifier/tiger`; without them, the tiles of the last layer
    tiles: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_CIRCUITS)] | None = None
    # in circuit: the earlier layers to go through, one for each column; without them, the nearest ones
    layers: Annotated[tuple[str, ...], Field(min_length=1, max_length=3)] | None = None


class Examples(Strict):
    """The dataset examples to find at the end of the run."""

    images: PathWord
    top: int = Field(9, ge=1, le=MOST_TOP)
    fit: Annotated[FitWord, BeforeValidator(parse_fit)] = "auto"
    batch_size: AutoOrCount = "auto"
    paths: bool = False


class Config(Settings):
    """A run's config. A field's description is the help of its key and flag; a flag overrides the file."""

    layer: LayerFeatures | None = Field(
        None,
        description="layer to visualize: a dotted name as printed by --list-layers, a pattern (blocks.*: * matches "
        "within one part of the name, ** across dots), or all (every layer, without containers that repeat the output "
        "of a part); repeatable; without it, the network's default layer",
    )
    features: FeatureSpec = Field(
        "all",
        description="features (channels) of each layer: all; numbers and ranges, for example 0-15,199,201; names, for "
        "example tiger,macaw (classes of the last layer, or names from --labels); or sample:16 (16 random features per "
        "layer, drawn from --seed)",
    )
    labels: PathWord | None = Field(
        None,
        description="file with names of the layer's features, or of the directions: text with a name per line, counted "
        "from 0; .csv or .tsv with rows of number and name; or .json with a list, {number: name}, {layer: list or "
        "table}, or one of these under the key id2label",
    )
    tiles: tuple[Tile, ...] | None = Field(
        None, description="named tiles instead of layer and features, each a weighted sum of terms"
    )
    interpolate: int = Field(
        1,
        ge=1,
        le=64,
        description="number of pictures in even steps from each tile's objective to the next, both ends included, "
        "drawn instead of the tiles; 1: no interpolation",
    )
    variants: tuple[Variant, ...] | None = Field(
        None, max_length=1000, description="the same tiles with other settings"
    )
    figure: Figure | None = Field(None, description="pictures and animations besides the atlas")
    examples: Examples | None = Field(
        None, description="folder of images to search for each tile's strongest examples at the end of the run"
    )
    circuits: bool = Field(
        False,
        description="at the end of the run, also find the earlier features that excite and inhibit each tile, as "
        "featlight circuits does",
    )
    devices: AutoOrCount = Field(
        "auto",
        description="number of workers on each machine, one per GPU if there are GPUs; auto: one per GPU, else one per "
        "CPU core, or the number that srun or torchrun started",
    )
    num_nodes: int = Field(
        1,
        ge=1,
        le=4096,
        description="number of machines that share the run directory; srun, torchrun or the variable NODE_RANK gives "
        "the number of this one",
    )
    accelerator: Accelerator = Field("auto", description="cpu, gpu, or auto (CUDA if available, else the CPU)")
    keep_octaves: bool = Field(False, description="also save a small picture at the end of each octave")
    float_images: bool = Field(False, description="also save the unclipped float32 images, as safetensors")
    keep_maps: bool = Field(False, description="also save the activation maps of each tile's features")
    out: PathWord | None = Field(
        None, description="run directory; without it, runs/<model>-<layer> or runs/<name of the config>"
    )

    @property
    def extras(self) -> tuple[Extra, ...]:
        """Return the kinds of data to save for each tile besides its picture."""
        kept = {"floats": self.float_images, "octaves": self.keep_octaves, "maps": self.keep_maps}
        return tuple(extra for extra in get_args(Extra) if kept[extra])

    @property
    def named_layers(self) -> list[str]:
        """Return the names and patterns of all requested layers."""
        terms = [term.layer for tile in self.tiles or () for term in tile.terms]
        return list(dict.fromkeys([*(self.layer or {}), *terms]))

    @property
    def settings(self) -> dict[str, Settings]:
        """Return the settings of each variant by name; those of a run without variants under ""."""
        own = Settings.model_construct(**{key: getattr(self, key) for key in Settings.model_fields})
        return {variant.name: variant.applied_to(own) for variant in self.variants or ()} or {"": own}

    def resolved(self, name: str | None = None) -> "Config":
        """Return the config with the network's default layer and the run directory filled in.

        Args:
            name: stem of the config file, which names the default run directory.
        """
        layer = self.layer
        if layer is None and self.tiles is None and self.model in DEFAULT_LAYERS:
            layer = {DEFAULT_LAYERS[self.model]: None}
        parts = [self.model.rpartition(":")[2], *(layer or ["tiles"])]
        if self.directions is not None:
            parts.append(without_folder(self.directions).partition(".")[0])
        run = name or "-".join(map(file_name, parts))
        if len(run) > 100:  # file systems allow 255 bytes
            run = f"{run[:80]}-{sha256(run.encode()).hexdigest()[:8]}"
        return self.model_copy(update={"layer": layer, "out": self.out or str(Path("runs") / run)})

    def to_yaml(self) -> str:
        """Return YAML that `read` turns back into an equal config."""
        values = self.model_dump(mode="json")
        if self.variants is not None:
            values["variants"] = [variant.model_dump(mode="json", exclude_unset=True) for variant in self.variants]
        if values["layer"] is not None and not any(values["layer"].values()):
            values["layer"] = list(values["layer"])
        first = {key: values[key] for key in ("model", "weights", "layer", "features", "tiles", "variants")}
        return yaml.safe_dump(first | values, sort_keys=False, default_flow_style=None, width=110)
