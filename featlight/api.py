"""`featlight.visualize`: the main job for any network, from Python."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from featlight.ambient import isolated
from featlight.config.inputs.fit import FitWord, parse_fit
from featlight.config.inputs.sizes import size_words
from featlight.config.normalization import Normalization
from featlight.config.optimizer import python_name
from featlight.config.presets import DEFAULT_LAYERS
from featlight.config.recipe import Recipe
from featlight.config.schema import MOST_TOP
from featlight.config.settings import Channels, PrefixTokens
from featlight.config.tile import Index, Metric, Term, Tile, TokenKind
from featlight.config.transform_settings import Lambda
from featlight.config.user_paths import FROM_PYTHON, expanded
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
from featlight.plan.sources import TypedSources
from featlight.result import Result, open_run, result_of
from featlight.run.in_memory import make_in_memory
from featlight.run.worker import make
from featlight.store.store import Store

LayerWord = str | int | nn.Module  # a name, the number of a child, or the module itself


@memory_errors()
@isolated()
def visualize(
    network: nn.Module,
    layer: LayerWord | Sequence[LayerWord] | Mapping[LayerWord, Any] | None = None,
    features: str | SupportsIndex | Sequence[SupportsIndex] | Tensor | np.ndarray[Any, Any] = "all",
    *,
    tiles: Sequence[Tile] | None = None,
    objective: Callable[[Mapping[str, Tensor]], Tensor] | None = None,
    recipe: Recipe | str | None = None,
    directions: str | Path | Tensor | np.ndarray[Any, Any] | None = None,
    cosine_power: float = 0.0,
    caricature: str | Path | None = None,
    stay: float = 0.0,
    interpolate: int = 1,
    diversity: int = 1,
    diversity_weight: float = 20.0,
    region: Literal["map", "row", "neuron", "prefix", "all"] = "map",
    index: Index | Literal["all"] = None,
    metric: Metric = "l1",
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
        network: any; it takes (N, C, H, W) images in pixel units and comes back exactly as it was.
        layer: dotted module name, the module itself, or the number of one of the network's children as in a
            Sequential; a pattern (`blocks.*`), or `all`; several of these, or {layer: features}; None for the network's
            own default.
        features: `all`, a number, numbers (an array or tensor of them too), or words as in `0-15,199` or `sample:16`.
        tiles: instead of layer and features, objectives with names of their own.
        objective: instead of features, a function of one's own, from what the layers give, (N, C, H, W) by name, to
            (N,) that is maximised, each image by itself. With `out` it needs a `name` and a `version` as attributes.
        recipe: how images are made, or the name of a recipe; None for `natural`. Its transforms, optimizer and
            parameterization may be functions and classes of one's own, without `out`.
        directions: instead of features, rows of an array (K, C), or of a file of one; `features` chooses among them.
        cosine_power: a direction's dot product at each position times max(0.1, cosine) to this power.
        caricature: an image file; instead of features, a picture for each layer of what that sees in it.
        stay: how much an image pays for leaving its start, a file or tensor.
        interpolate: pictures from each tile's objective to the next one's, instead of the tiles themselves.
        diversity: pictures of each feature, made together so that they differ.
        diversity_weight: what those that are wholly alike pay, as activation of every neuron.
        region: neurons of each feature's map.
        index: which row, neuron or prefix; `all` for a tile for each.
        metric: distance to the target that is minimised.
        target: activation that every chosen neuron is drawn to.
        init: `noise`, `noise-per-feature`, `gray`, an image file, a Pillow image, or an array (C, H, W) or
            (N, C, H, W), channels first or last: uint8, uint16 and bool in their own units, floats from 0 to 1.
        seed: of the starting noise.
        normalize: `weights` feeds what the weights were trained with, `none` raw pixels; `auto`: `weights` where it is
            known (networks from `featlight.load_model`) and the recipe's range is bounded; or {"mean": [...],
            "std": [...]}, a number for each channel.
        channels: which dimension of a layer's output is the feature, `first` or `last`, where `auto` cannot tell.
        tokens: of a layer that gives tokens, `patches` (a map of them) or `class` (the one for the whole image).
        prefix_tokens: how many tokens stand before the patches, where `auto` cannot tell.
        in_channels: of the images, C, where `auto` (three, else as the network has them or runs) cannot tell.
        show_channels: channels that pictures show, from 0: one as gray, or three as red, green and blue.
        device: `auto` (CUDA where there is one), or any that torch names.
        precision: `fp32`, `bf16` (the network only), or `fp64` (everything).
        batch_size: images optimised together.
        out: run directory, to keep what is made and to go on where a call was interrupted; float images are kept.
        progress: whether to show how far it is.

    Returns:
        Images, unclipped, in the order asked for, and their records.

    Raises:
        UsageError: an argument does not fit (a ValueError); WeightsError, StorageError: as they say.
        KeyboardInterrupt: Ctrl-C, at the end of a step; likewise whatever the caller's own handler of a signal raises.
    """
    if not isinstance(network, nn.Module):
        inner = getattr(network, "model", None)
        instead = "its .model is one" if isinstance(inner, nn.Module) else "featlight.load gives one by name"
        raise UsageError(f"network: a {type(network).__name__} given; an nn.Module is needed ({instead})")
    if not isinstance(caricature, str | Path | None):
        raise UsageError(
            f"caricature: a {type(caricature).__name__} given; an image file is needed (Image.fromarray(...).save)"
        )
    source = source_of(network)
    if layer is None and tiles is None:
        layer = DEFAULT_LAYERS.get(source.model)
    is_path = isinstance(directions, str | Path)
    pixels = None if isinstance(init, str | Path) else init
    values = {
        "model": source.model,
        "layer": _layers(network, layer),
        "features": features if isinstance(features, str) else _numbers(features),
        "tiles": None if tiles is None else tuple(tiles),
        "recipe": recipe,
        "directions": None if directions is None else str(directions) if is_path else FROM_PYTHON,
        "cosine_power": cosine_power,
        "caricature": None if caricature is None else str(caricature),
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
        values |= _own(objective, values)
    config = check(values)
    for name in _functions(config.recipe) if out is not None else ():
        raise UsageError(f"recipe: {name} given with out; no plan can hold what is a function or class of Python's")
    where = None if device == "auto" else device_named(device)
    given: dict[str, Any] = {"network": network, "device": where, "init": pixels, "threads": torch.get_num_threads()}
    if directions is not None and not is_path:
        given["directions"] = Directions.of_array(directions)
    given["objective"] = objective
    with CallStop().listening() as stop:
        if out is None:
            job = prepare(config, **given)
            images, alphas, records = make_in_memory(job, stop, quiet=not progress)
            made: Sequence[PlannedTile] = job.wanted
        else:
            made = make(config, stop=stop, quiet=not progress, **given).tiles
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


def _own(objective: Function, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says of an objective of the user's own: one tile of the layers that it takes.

    Raises:
        UsageError: what else is asked for does not go with it, or the run's directory cannot hold it.
    """
    usual: dict[str, Any] = {"features": "all", "tiles": None, "directions": None, "caricature": None, "region": "map"}
    usual |= {"metric": "l1", "diversity": 1, "interpolate": 1}
    for key, value in usual.items():
        if values[key] != value:
            raise UsageError(f"objective: {name_of(objective)} given with {key}; it says by itself what is maximised")
    layers = values["layer"] if isinstance(values["layer"], list | dict) else [values["layer"]]
    if layers == [None]:
        raise UsageError(f"layer: none given; {name_of(objective)} needs the layers that it takes")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", name_of(objective)).strip("_") or "own"
    said = name_of(objective) if values["out"] is None else name_and_version(objective)
    return {"layer": None, "tiles": (Tile(name, tuple(map(Term, layers))),), "objective": said}


def _functions(recipe: Recipe) -> Iterator[str]:
    """The names of what in a recipe is a user's own code."""
    for transform in (*recipe.transforms, *(recipe.object_transforms or ())):
        if isinstance(transform, Lambda):
            yield transform.word
    if recipe.optimizer.function is not None:
        yield recipe.optimizer.name
    if isinstance(recipe.parameterization, type):
        yield python_name(recipe.parameterization)


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
    device: str | torch.device = "auto",
    progress: bool = True,
) -> Result:
    """Find the images of a folder that excite each tile of a run most; the same call goes on after an interruption.

    Args:
        out: the run directory.
        images: folder of PNG, JPEG and WebP files, at any depth.
        network: network that the run was made with; None where its plan names one of featlight's own, torchvision's
            or timm's by plain name.
        directions: directions that the run was made with, an array or a file of one; None where it was made with none.
        top: examples of each tile.
        fit: how an image is brought to the network: `auto`, `none`, or a size in pixels; see docs/examples.md.
        batch_size: images that are looked at together.
        device: `auto` (CUDA where there is one), or any that torch names.
        progress: whether to say how far it is.

    Returns:
        The run, whose `examples` they are.

    Raises:
        FeatlightError: there is no run, no image, or another network than the run's.
    """
    if not 1 <= top <= MOST_TOP:
        raise UsageError(f"top: {top} given; 1 to {MOST_TOP} are allowed")
    if batch_size != "auto" and not 1 <= batch_size <= MOST_BATCH:
        raise UsageError(f"batch_size: {batch_size} given; auto, or 1 to {MOST_BATCH:,} are allowed")
    try:
        request = ExamplesRequest(
            expanded(images), top, parse_fit(fit if isinstance(fit, str) else size_words(fit)), batch_size
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    where = None if device == "auto" else device_named(device)
    is_path = isinstance(directions, str | Path)
    rows = str(directions) if is_path else None if directions is None else Directions.of_array(directions)
    with CallStop().listening() as stop:
        find(
            expanded(out),
            request,
            typed=TypedSources(directions=rows),
            stop=stop,
            echo=say if progress else lambda _: None,
            network=network,
            device=where,
        )
    return open_run(out)


def _layers(network: nn.Module, layer: Any) -> Any:
    """Layers by name, however they were given."""
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
    """Features as plain numbers; of an array of truth values, the places that are true."""
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
            f"features: {features!r} given; `all`, whole numbers, or words as in 0-15,199 are allowed"
        ) from None
