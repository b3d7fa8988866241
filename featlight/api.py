"""`featlight.visualize`, `featlight.find_examples` and `featlight.find_circuits`."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from featlight.ambient import isolated, not_compiled
from featlight.circuits.find import find as find_run_circuits
from featlight.config.image_shape import FitWord, parse_fit, size_words
from featlight.config.normalization import Normalization
from featlight.config.optimizer import python_name
from featlight.config.presets import DEFAULT_LAYERS
from featlight.config.recipe import Recipe
from featlight.config.regions import Index
from featlight.config.schema import MOST_TOP
from featlight.config.settings import Channels, MetricName, PrefixTokens
from featlight.config.tile import RegionName, Term, Tile, TokenKind
from featlight.config.transform_settings import Lambda
from featlight.config.user_text import FROM_PYTHON, expanded
from featlight.config.validation import check
from featlight.console import say
from featlight.distributed.signals import CallStop
from featlight.engine.device import device_named
from featlight.engine.setup import prepare
from featlight.errors import UsageError, memory_errors
from featlight.examples.find import find
from featlight.examples.manifest import MOST_BATCH, ExamplesRequest
from featlight.models.catalog import source_of
from featlight.models.layers import layer_name
from featlight.objectives.directions import Directions
from featlight.objectives.own import Function, name_and_version, name_of
from featlight.plan.plan import PlannedTile
from featlight.plan.request import RunRequest
from featlight.plan.sources import TypedSources
from featlight.result import Result, open_run, result_of
from featlight.run.in_memory import make_in_memory
from featlight.run.worker import make
from featlight.store.store import Store

LayerLike = str | int | nn.Module  # a name, the number of a child, or the module itself


@not_compiled
@memory_errors()
@isolated()
def visualize(
    network: nn.Module,
    layer: LayerLike | Sequence[LayerLike] | Mapping[LayerLike, Any] | None = None,
    features: str | SupportsIndex | Sequence[SupportsIndex] | Tensor | np.ndarray[Any, Any] = "all",
    *,
    tiles: Sequence[Tile] | None = None,
    objective: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    recipe: Recipe | str | None = None,
    directions: str | Path | Tensor | np.ndarray[Any, Any] | None = None,
    cosine_power: float = 0.0,
    caricature: str | Path | Tensor | np.ndarray[Any, Any] | Image.Image | None = None,
    stay: float = 0.0,
    interpolate: int = 1,
    diversity: int = 1,
    diversity_weight: float = 20.0,
    region: RegionName | Literal["all"] = "map",
    index: Index | Literal["all"] = None,
    metric: MetricName = "l1",
    target: float = 200.0,
    init: str | Path | Image.Image | Tensor | np.ndarray[Any, Any] | Sequence[Any] = "noise",
    seed: int = 999,
    normalize: Normalization | Mapping[str, Sequence[float]] | Literal["auto", "none", "weights"] = "auto",
    channels: Channels = "auto",
    tokens: TokenKind = "patches",
    prefix_tokens: PrefixTokens = "auto",
    in_channels: int | Literal["auto"] = "auto",
    show_channels: Literal["auto"] | int | Sequence[int] = "auto",
    device: str | torch.device = "auto",
    precision: Literal["fp32", "bf16", "fp64"] = "fp32",
    batch_size: int | Literal["auto"] = "auto",
    out: str | Path | None = None,
    progress: bool = True,
) -> Result:
    """Find the image that excites each feature most.

    Args:
        network: module that takes (N, C, H, W) images in pixel units; it is left unchanged.
        layer: dotted module name, module, number of a child as in a Sequential, pattern (`blocks.*`), or `all`; a list
            of these, or {layer: features}; None for the network's default layer.
        features: `all`, a number, numbers (also an array or tensor), or text as in `0-15,199` or `sample:16`.
        tiles: named objectives, instead of layer and features.
        objective: function to maximize instead of features: from the layers' outputs, (N, C, H, W) by name, to a value
            per image, (N,). With `out` it needs attributes `name` and `version`.
        recipe: recipe or its name; None for `natural`. Without `out`, its transforms, optimizer and parameterization
            may be custom functions and classes.
        directions: array (K, C), or a file with one, whose rows are visualized instead of features; `features` selects
            rows.
        cosine_power: exponent p of the factor max(0.1, cosine)^p on a direction's dot product at each position.
        caricature: image file, or an image in a form that `init` takes; one picture per layer exaggerates what the
            layer detects in it, instead of features.
        stay: penalty on the difference from the starting image, a file or tensor.
        interpolate: number of pictures from each tile's objective to the next, drawn instead of the tiles.
        diversity: number of pictures per feature, optimized together so that they differ.
        diversity_weight: penalty on identical pictures of a feature, as activation lost per neuron.
        region: neurons of each feature's map to excite.
        index: row, neuron or prefix of the region; `all` for one tile per position.
        metric: distance to the target that is minimized.
        target: activation to reach at every selected neuron.
        init: `noise`, `noise-per-feature`, `gray`, an image file, a Pillow image, or an array (C, H, W) or
            (N, C, H, W), channels first or last: uint8, uint16 and bool in their own units, floats from 0 to 1.
        seed: seed of the starting noise, the random transforms and `sample:N`.
        normalize: `weights` for the normalization used in training, `none` for raw pixels, `auto` for `weights` if
            known (networks from `featlight.load_model`) and the recipe's range is bounded, else `none`; or
            {"mean": [...], "std": [...]} with a number per channel.
        channels: dimension of a layer's output that holds the features: `first`, `last`, or `auto` to detect it.
        tokens: tokens of a transformer layer: `patches` (the map of patch tokens) or `class` (the class token).
        prefix_tokens: number of tokens before the patch tokens, or `auto` to detect it.
        in_channels: number of image channels, or `auto` to detect it.
        show_channels: channels to show in pictures, from 0: one as gray, or three as red, green and blue.
        device: `auto` (CUDA if available), or any device of torch.
        precision: `fp32`, `bf16` (network only), or `fp64` (everything).
        batch_size: number of images optimized together.
        out: run directory, which keeps images and float images, and from which an interrupted call continues.
        progress: whether to show a progress bar.

    Returns:
        Unclipped images in the requested order, and their records.

    Raises:
        UsageError: an argument is invalid (also a ValueError).
        WeightsError: the network's weights cannot be used.
        StorageError: `out` cannot be written, or memory is full.
        KeyboardInterrupt: Ctrl-C was pressed; a caller's own signal handlers are called at the end of a step too.
    """
    if not isinstance(network, nn.Module):
        inner = getattr(network, "model", None)
        instead = "its .model is one" if isinstance(inner, nn.Module) else "featlight.load gives one by name"
        raise UsageError(f"network: a {type(network).__name__} given; an nn.Module is needed ({instead})")
    source = source_of(network)
    if layer is None and tiles is None:
        layer = DEFAULT_LAYERS.get(source.model)
    is_path = isinstance(directions, str | Path)
    pixels = None if isinstance(init, str | Path) else init
    is_file = isinstance(caricature, str | Path | None)
    values = {
        "model": source.model,
        "layer": _layers(network, layer),
        "features": features if isinstance(features, str) else _numbers(features),
        "tiles": None if tiles is None else tuple(tiles),
        "recipe": recipe,
        "directions": None if directions is None else str(directions) if is_path else FROM_PYTHON,
        "cosine_power": cosine_power,
        "caricature": None if caricature is None else str(caricature) if is_file else FROM_PYTHON,
        "stay": stay,
        "interpolate": interpolate,
        "diversity": diversity,
        "diversity_weight": diversity_weight,
        "region": region,
        "index": index,
        "metric": metric,
        "target": target,
        "init": "a tensor" if pixels is not None else str(init),
        "seed": seed,
        "normalize": normalize,
        "channels": channels,
        "tokens": tokens,
        "prefix_tokens": prefix_tokens,
        "in_channels": in_channels,
        "show_channels": show_channels,
        "precision": precision,
        "batch_size": batch_size,
        "weights": source.weights,
        "out": None if out is None else str(out),
        "float_images": out is not None,
    }
    if objective is not None:
        values |= _objective_values(objective, values)
    config = check(values)
    for name in _custom_code(config.recipe) if out is not None else ():
        raise UsageError(
            f"recipe: {name} given with out; a plan cannot hold Python functions or classes: leave out out"
        )
    request = RunRequest(
        config,
        network=network,
        device=None if device == "auto" else device_named(device),
        init=pixels,
        caricature=None if is_file else caricature,
        directions=None if directions is None or is_path else Directions.of_array(directions),
        objective=objective,
        threads=torch.get_num_threads(),
        quiet=not progress,
    )
    with CallStop().listening() as stop:
        if out is None:
            job = prepare(request)
            images, alphas, records = make_in_memory(job, stop)
            made: Sequence[PlannedTile] = job.wanted
        else:
            made = make(request, stop=stop).tiles
    title = " ".join([source.model, *(config.layer or {})])
    if config.out is not None:
        return result_of(Store(Path(config.out)), made, title)
    files = [planned.file for planned in made]
    return Result(
        made,
        [records[file] for file in files],
        title,
        [images[file] for file in files].__getitem__,
        [alphas.get(file) for file in files].__getitem__,
        config.show_channels,
    )


def _objective_values(objective: Function, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config values of a custom objective: one tile with a term per layer.

    Raises:
        UsageError: another argument contradicts the objective, or a run directory cannot identify it.
    """
    defaults: dict[str, Any] = {"features": "all", "tiles": None, "directions": None, "caricature": None}
    defaults |= {"region": "map", "metric": "l1", "diversity": 1, "interpolate": 1}
    for key, value in defaults.items():
        if values[key] != value:
            raise UsageError(f"objective: {name_of(objective)} given with {key}; leave out {key}")
    layers = values["layer"] if isinstance(values["layer"], list | dict) else [values["layer"]]
    if layers == [None]:
        raise UsageError(f"layer: none given; name the layers whose outputs {name_of(objective)} takes")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", name_of(objective)).strip("_") or "own"
    identity = name_of(objective) if values["out"] is None else name_and_version(objective)
    return {"layer": None, "tiles": (Tile(name, tuple(map(Term, layers))),), "objective": identity}


def _custom_code(recipe: Recipe) -> Iterator[str]:
    """Yield the names of a recipe's custom functions and classes."""
    for transform in (*recipe.transforms, *(recipe.object_transforms or ())):
        if isinstance(transform, Lambda):
            yield transform.word
    if recipe.optimizer.function is not None:
        yield recipe.optimizer.name
    if isinstance(recipe.parameterization, type):
        yield python_name(recipe.parameterization)


@not_compiled
@memory_errors()
@isolated()
def find_examples(
    out: str | Path,
    images: str | Path,
    *,
    network: nn.Module | None = None,
    directions: str | Path | Tensor | np.ndarray[Any, Any] | None = None,
    top: int = 9,
    fit: FitWord = "auto",
    batch_size: int | Literal["auto"] = "auto",
    paths: bool = False,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Result:
    """Find the images of a folder that excite each tile of a run most; the same call continues after an interruption.

    Args:
        out: run directory.
        images: folder of PNG, JPEG and WebP files, searched recursively.
        network: network of the run; None if its plan names a network of featlight, torchvision or timm.
        directions: directions of the run, as an array or file; None if it has none.
        top: number of examples per tile.
        fit: input size of images: `auto`, `none`, or a size in pixels; see docs/examples.md.
        batch_size: images per batch.
        paths: whether to measure how far each tile is processed like its own examples, layer by layer.
        device: `auto` (CUDA if available), or any device of torch.
        progress: whether to print progress.

    Returns:
        The run; its `examples` hold the images.

    Raises:
        FeatlightError: the run or the images do not exist, or the network is not the run's.
    """
    if not 1 <= top <= MOST_TOP:
        raise UsageError(f"top: {top} given; allowed: 1 to {MOST_TOP}")
    if batch_size != "auto" and not 1 <= batch_size <= MOST_BATCH:
        raise UsageError(f"batch_size: {batch_size} given; allowed: auto, or 1 to {MOST_BATCH:,}")
    try:
        request = ExamplesRequest(
            expanded(images), top, parse_fit(fit if isinstance(fit, str) else size_words(fit)), batch_size, paths
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    with CallStop().listening() as stop:
        find(
            expanded(out),
            request,
            typed=_typed(directions),
            stop=stop,
            echo=say if progress else lambda _: None,
            network=network,
            device=None if device == "auto" else device_named(device),
        )
    return open_run(out)


@not_compiled
@memory_errors()
@isolated()
def find_circuits(
    out: str | Path,
    *,
    network: nn.Module | None = None,
    directions: str | Path | Tensor | np.ndarray[Any, Any] | None = None,
    top: int = 8,
    layer: str | Sequence[str] = (),
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Result:
    """Find the earlier features that excite and inhibit each tile of a run; the same call continues after a stop.

    Args:
        out: run directory.
        network: network of the run; None if its plan names a network of featlight, torchvision or timm.
        directions: directions of the run, as an array or file; None if it has none.
        top: number of features to keep for each tile and earlier layer.
        layer: layers whose tiles are attributed to earlier layers; all if empty.
        device: `auto` (CUDA if available), or any device of torch.
        progress: whether to print progress.

    Returns:
        The run; its `circuits` hold the features.

    Raises:
        FeatlightError: the run does not exist, or the network is not the run's.
    """
    if not 1 <= top <= MOST_TOP:
        raise UsageError(f"top: {top} given; allowed: 1 to {MOST_TOP}")
    with CallStop().listening() as stop:
        find_run_circuits(
            expanded(out),
            top,
            [layer] if isinstance(layer, str) else layer,
            typed=_typed(directions),
            stop=stop,
            echo=say if progress else lambda _: None,
            network=network,
            device=None if device == "auto" else device_named(device),
        )
    return open_run(out)


def _typed(directions: Any) -> TypedSources:
    """Return the sources of a call that gives directions as a path, an array or None."""
    is_path = isinstance(directions, str | Path)
    rows = str(directions) if is_path else None if directions is None else Directions.of_array(directions)
    return TypedSources(directions=rows)


def _layers(network: nn.Module, layer: Any) -> Any:
    """Return the layers by name."""
    if isinstance(layer, Mapping):
        return {_name(network, each): features for each, features in layer.items()}
    if layer is None or isinstance(layer, str | nn.Module | SupportsIndex):
        return None if layer is None else _name(network, layer)
    return [_name(network, each) for each in layer]


def _name(network: nn.Module, layer: Any) -> Any:
    if isinstance(layer, nn.Module):
        return layer_name(network, layer)
    if isinstance(layer, SupportsIndex) and not isinstance(layer, bool):
        children = [name for name, _ in network.named_children()]
        number = operator.index(layer)
        if not -len(children) <= number < len(children):
            raise UsageError(f"layer: {number} given; {type(network).__name__} has {len(children)} children, from 0")
        return children[number]
    return layer


def _numbers(features: Any) -> list[Any]:
    """Return features as plain numbers; for a boolean array, the indices of true values."""
    if isinstance(features, Tensor | np.ndarray):
        array = np.asarray(features.detach().cpu() if isinstance(features, Tensor) else features)
        if array.ndim > 1 or array.dtype.kind not in "iub":
            raise UsageError(
                f"features: an array of {array.shape}, {array.dtype}, given; a row of whole numbers is needed"
            )
        return list(map(int, np.flatnonzero(array) if array.dtype.kind == "b" else np.atleast_1d(array)))
    several = [features] if isinstance(features, SupportsIndex) else features
    try:
        return [operator.index(feature) for feature in several]
    except TypeError:
        raise UsageError(
            f"features: {features!r} given; allowed: `all`, whole numbers, or text as in 0-15,199"
        ) from None
