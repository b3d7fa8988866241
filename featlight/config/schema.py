"""What a run is: typed, checked, written back as YAML. No torch, so that a slip is answered at once."""

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from featlight.config.recipe import ARTICLE, TINY_INCEPTION, Recipe
from featlight.config.tile import METRICS, Features, Metric, Tile, file_name, format_features, parse_features

# What featlight knows of a network before it loads it. Others name a layer, and run the article's recipe.
DEFAULT_LAYERS = {
    "tiny_inception": "Mixed_5a",
    "inception_v3": "Mixed_6b",
    "googlenet": "inception4c",
    "resnet50": "layer3",
}
RECIPES = {"tiny_inception": TINY_INCEPTION}


def default_recipe(model: str) -> Recipe:
    """The recipe that featlight ships for a network: its own, or the article's."""
    return RECIPES.get(model, ARTICLE)


def _layers(given: Any) -> Any:
    if isinstance(given, str):
        return {given: None}
    if isinstance(given, list):
        if any(not isinstance(name, str) for name in given):
            raise ValueError(f"{given!r} given; a layer's name, a list of names, or {{name: features}} is allowed")
        return dict.fromkeys(given)
    return given


def _on_off(given: Any) -> Any:
    return (
        {True: "on", False: "off"}.get(given, given) if isinstance(given, bool) else given
    )  # YAML 1.1 reads on as true


def _index(given: Any) -> Any:
    """A flag's words (`9,9`) and a file's values alike."""
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


def _flow(value: Any) -> Any:
    return None if value is None else format_features(value)


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


Spec = Annotated[Features, BeforeValidator(parse_features), PlainSerializer(_flow)]
Layers = Annotated[dict[str, Annotated[Spec | None, PlainSerializer(_flow)]], BeforeValidator(_layers)]
Count = Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_count)]
AnyRegion = Literal["map", "row", "neuron", "prefix", "all"]
AnyIndex = Annotated[
    int | tuple[int, int] | Literal["all"] | None, BeforeValidator(lambda i: i if i is None else _index(i))
]
Extra = Literal["floats", "octaves", "maps"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Variant(_Strict):
    """The same tiles made another way; what is left out is as in the run."""

    name: str
    metric: Metric | None = None
    target: Finite | None = None
    region: AnyRegion | None = None
    index: AnyIndex = None
    recipe: Recipe | None = None
    init: str | None = None
    seed: Seed | None = None

    def overrides(self) -> dict[str, Any]:
        """The keys that it changes; a null means the run's own, but for `index`, where it is a value."""
        given = {key: getattr(self, key) for key in self.model_fields_set - {"name"}}
        return {key: value for key, value in given.items() if value is not None or key == "index"}


class Figure(_Strict):
    """A picture or animation besides the atlas, in the folder `figures`."""

    # rows of tiles; such rows, and below each where its images changed, or where its features are active in them;
    # prefixes in reading order; the ends of the octaves
    kind: Literal["grid", "areas", "activity", "growth", "octaves"]
    rows: Literal["layer", "variant", "tile"] = "layer"  # but for growth and octaves: what stands at the left of each
    mark: bool = False  # in a growth: frame the newest neuron's place
    title: str | None = None


class Config(_Strict):
    """A run. Each key's help is its field's description; a flag of the same name beats the file."""

    model: str = Field(
        "tiny_inception",
        description="a convolutional classification network of torchvision.models, tiny_inception (embedded), "
        "or package.module:callable",
    )
    weights: str = Field(
        "DEFAULT",
        description="a torchvision weights name, a .safetensors or .pth file, or none (random, drawn under the seed)",
    )
    normalize: Literal["none", "weights"] = Field(
        "none",
        description="none: raw pixels; weights: the mean, std and input transform that the weights were trained with",
    )
    layer: Layers | None = Field(
        None,
        description="layer to visualize, a dotted name as --list-layers prints it; repeatable; null: the network's own",
    )
    features: Spec = Field(
        "all", description="features (channels) of each layer: all, or numbers and ranges as in 0-15,199,201"
    )
    metric: Metric = Field("l1", description="distance to the target that is minimised: " + ", ".join(METRICS))
    target: Finite = Field(
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
    tiles: tuple[Tile, ...] | None = Field(
        None, description="named tiles instead of layer and features, each a weighted sum of terms"
    )
    variants: tuple[Variant, ...] | None = Field(None, description="the same tiles made several ways")
    figure: Figure | None = Field(None, description="pictures and animations besides the atlas")
    recipe: Recipe | None = Field(
        None,
        description="octaves (size in pixels, steps, learning rates, blur sigmas in pixels) and gradient; "
        "null: the network's own",
    )
    init: str = Field(
        "noise", description="starting image: noise, noise-per-feature, gray (0.5), or the path of an image"
    )
    seed: Seed = Field(999, description="seed of the starting noise and of random weights")
    devices: Count = Field(
        "auto",
        description="workers on each machine, a GPU each where there are GPUs; auto: as many as GPUs, else as cores, "
        "or what srun or torchrun has started",
    )
    num_nodes: int = Field(
        1, ge=1, description="machines that share the run directory; srun, torchrun or NODE_RANK tell which this is"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="auto (CUDA if there is one, else the CPU), cpu or gpu"
    )
    precision: Literal["fp32", "bf16", "fp64"] = Field(
        "fp32",
        description="fp32, bf16 (the network only; images stay float32), or fp64 (everything; for checking)",
    )
    batch_size: Count = Field("auto", description="images optimised together, a number or auto")
    threads: Count = Field(
        "auto",
        description="CPU threads of each worker, a number, or auto: one, or the cores that few chunks leave",
    )
    compile: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_off)] = Field(
        "auto", description="torch.compile the network: auto, on or off"
    )
    keep_octaves: bool = Field(False, description="keep each octave's end as a small picture too")
    float_images: bool = Field(False, description="keep the unclipped float32 images too, as safetensors")
    keep_maps: bool = Field(False, description="keep the maps of each tile's features in its final image too")
    out: str | None = Field(None, description="run directory; null: runs/<model>-<layer>, or runs/<config's name>")

    @property
    def extras(self) -> tuple[Extra, ...]:
        """What is kept of each tile besides its picture."""
        kept = {"floats": self.float_images, "octaves": self.keep_octaves, "maps": self.keep_maps}
        return tuple(extra for extra in get_args(Extra) if kept[extra])

    def settled(self, name: str | None = None) -> "Config":
        """The same run with the defaults that hang on the network, and the run directory, filled in.

        Args:
            name: the config file's stem, which names the default run directory.
        """
        layer = self.layer
        if layer is None and self.tiles is None and self.model in DEFAULT_LAYERS:
            layer = {DEFAULT_LAYERS[self.model]: None}
        words = [self.model.rpartition(":")[2], *(layer or ["tiles"])]
        run = name or "-".join(file_name(word) for word in words)
        if len(run) > 100:  # a file system takes 255
            run = f"{run[:80]}-{sha256(run.encode()).hexdigest()[:8]}"
        out = self.out or str(Path("runs") / run)
        return self.model_copy(update={"layer": layer, "recipe": self.recipe or default_recipe(self.model), "out": out})

    def to_yaml(self) -> str:
        """YAML that `read` takes back to an equal config."""
        values = self.model_dump(mode="json")
        if self.variants is not None:
            values["variants"] = [variant.model_dump(mode="json", exclude_unset=True) for variant in self.variants]
        if values["layer"] is not None and not any(values["layer"].values()):
            values["layer"] = list(values["layer"])
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110)
