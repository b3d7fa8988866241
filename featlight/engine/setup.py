"""Prepare a run: load and survey the network, and make the plan that all workers follow."""

import hashlib
import logging
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

import lightning
import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from featlight.config.choices import is_pattern, matching
from featlight.config.image_shape import ImageSize, pixels_of, shown_channels
from featlight.config.named_starts import NAMED_STARTS
from featlight.config.names import LONGEST, Names, read_labels
from featlight.config.normalization import Normalization
from featlight.config.presets import recipe_name
from featlight.config.schema import Config
from featlight.config.user_text import is_word
from featlight.config.validation import equal_faces
from featlight.console import printable
from featlight.distributed.env import ALONE, Worker
from featlight.engine.device import DTYPES, device_of, keep_memory, memory_of, repeatable
from featlight.engine.invariance_checks import check_function, check_network, check_parameterization
from featlight.engine.job import RunJob
from featlight.engine.reference_images import read_reference
from featlight.errors import UsageError, listed
from featlight.models.catalog import Source, checksum, load_model, source_of
from featlight.models.copying import unwrapped
from featlight.models.frozen import check_isolated, frozen_copy
from featlight.models.layer_info import Layer, left_out
from featlight.models.layers import Survey, check_features, check_independent, survey, usable_everywhere
from featlight.models.network_input import bounds, likely_pixels, mean_and_std, normalization_of
from featlight.models.prepared import PreparedNetwork, exact_dtype, samples
from featlight.models.probing.inputs import inputs_of
from featlight.models.probing.own_outputs import own_outputs, without_gradient
from featlight.models.sources.torchvision import transform_input
from featlight.objectives.directions import Directions, open_directions
from featlight.objectives.own import OwnObjective
from featlight.param.image import in_channels, read_image, starts_from
from featlight.plan.batching import auto_batch_size
from featlight.plan.fingerprint import file_sha256
from featlight.plan.make_plan import RunFacts, make_plan
from featlight.plan.plan import Dictionary, NetworkInfo, Plan, PlannedTile
from featlight.plan.request import RunRequest
from featlight.plan.selection import named_layers, wanted_tiles
from featlight.version import __version__

log = logging.getLogger("featlight")


class LoadedNetwork(NamedTuple):
    """A prepared network, its source and its checksum."""

    network: PreparedNetwork
    source: Source
    sha256: str


def prepare(request: RunRequest, known: Plan | None = None, worker: Worker = ALONE) -> RunJob:
    """Load and survey the network, plan the run, and check both.

    Args:
        request: config and Python objects of the call.
        known: plan of the run directory, if there is one; it is not changed.
        worker: this worker.

    Raises:
        UsageError: the network lacks something that the config names, or the plan has another fingerprint.
        WeightsError: the weights cannot be loaded.
    """
    keep_memory()
    config, directions, network = request.config, request.directions, request.network
    if config.objective is not None and request.objective is None:
        raise UsageError(
            f"objective: {config.objective!r} given; a function is needed, from Python alone: "
            "featlight.visualize(objective=...)"
        )
    if directions is None and config.directions is not None:
        directions = open_directions(config.directions)
    device = device_of(config.accelerator, worker) if request.device is None else request.device
    if network is None:
        network = load_model(config.model, config.weights, seed=config.seed, layers=config.named_layers)
    model = prepare_model(config, network, device)
    folders = {} if known is None else known.folders
    wanted = _wanted(config, model, folders, directions, quiet=worker.rank > 0)
    init = _starting_images(request, model.network.in_channels, len(wanted))
    caricature = request.caricature
    if caricature is not None:
        bounded = config.recipe.range != "unbounded"
        caricature = starts_from(caricature, 1, model.network.in_channels, bounded=bounded, key="caricature")
    layers = list(dict.fromkeys(term.output for planned in wanted for term in planned.tile.terms))
    check_features(model.network.surveys, layers, model.source.model)  # at every octave's size, before any step
    plan = make_plan(config, known, wanted, _facts(request, model, wanted, layers, init, caricature, directions))
    job = RunJob(request, worker, model.network, plan, wanted, known, directions, init, caricature)
    _check(job, layers, model.source.model)
    return job


def _wanted(
    config: Config, model: LoadedNetwork, folders: Mapping[str, str], directions: Directions | None, *, quiet: bool
) -> list[PlannedTile]:
    """Return the tiles that a config requests, checked against the network and the directions."""
    surveys = model.network.surveys
    by_name = _with_layers(config, model, quiet=quiet)
    names = {} if directions is not None else class_names(surveys, model.source)
    if config.labels is not None:
        first = next(iter(surveys.values()))
        names |= read_labels(config.labels, list(by_name.layer or {}), {*first, *first.names})
    wanted = wanted_tiles(by_name, surveys, model.source.model, folders, names, directions)
    if directions is not None:
        rows = [term.feature for each in wanted for term in each.tile.terms if term.direction == "row"]
        wide = np.float64 if config.precision == "fp64" else np.float32
        directions.check_finite([row for row in rows if row is not None], np.dtype(wide))
    return wanted


def _starting_images(request: RunRequest, channels: int, tiles: int) -> Tensor | None:
    """Return the starting images from Python; None without them, after a check of the files that the config names."""
    config = request.config
    if request.init is None:
        for settings in config.settings.values():
            if settings.init not in NAMED_STARTS:
                in_channels(read_image(Path(settings.init)), channels, settings.init)
        return None
    init = starts_from(request.init, tiles, channels, bounded=config.recipe.range != "unbounded")
    for refusal in equal_faces(next(iter(config.settings.values())), "a tensor") if init.ndim == 3 else ():
        raise UsageError(f"diversity: {refusal}")
    return init


def _check(job: RunJob, layers: Sequence[str], name: str) -> None:
    """Check the network and the user's own code with noise images."""
    network, batch_size = job.network, job.plan.largest_batch
    size = next(iter(network.surveys))
    with repeatable(job.plan.threads):
        for recipe in [settings.recipe for settings in job.settings.values()]:
            if isinstance(recipe.parameterization, type):
                check_parameterization(recipe, network.in_channels)
        _check_norms(job, name)
        check_network(network, layers, size, batch_size, name, bounded=all(bounds(job.config)))
        if job.request.objective is not None:
            check_function(OwnObjective(job.request.objective), network, layers, size, batch_size)


def _check_norms(job: RunJob, name: str) -> None:
    """Raise UsageError if a recipe asks for the statistics of norms, and a tile's layers have no norm before them."""
    recipes = [settings.recipe for settings in job.settings.values() if settings.recipe.regularizers.statistics]
    if not recipes:
        return
    shipped = recipe_name(recipes[0])
    given = "regularizers: statistics" if shipped is None else f"recipe: {shipped}"
    instead = "set it to 0 (--set recipe.regularizers.statistics=0)" if shipped is None else "give natural"
    for layers in dict.fromkeys(tuple(term.output for term in planned.tile.terms) for planned in job.wanted):
        if not job.network.measured(layers).norms:
            raise UsageError(
                f"{given} given, and {name} has no batch norm with statistics before {listed(layers)}; "
                f"{instead}, or give a later layer"
            )


def class_names(surveys: Mapping[ImageSize, Survey], source: Source) -> dict[str, Names]:
    """Return the class names of a network's last layer, by layer; nothing if the classes have no names."""
    names = [] if source.classes is None else source.classes()
    last = next(reversed(next(iter(surveys.values())).usable), None)
    if last is None or last.features != len(names) or last.map_size != (1, 1):
        return {}
    return {last.name: Names({i: printable(word)[:LONGEST] for i, word in enumerate(names)}, has_synonyms=True)}


def _with_layers(config: Config, model: LoadedNetwork, *, quiet: bool) -> Config:
    """Replace the patterns in a config's layers by names; log the layers that patterns leave out, unless quiet."""
    if config.layer is None:
        return config
    network = model.network
    modules = set(next(iter(network.surveys.values())).names)
    smallest = network.surveys[min(network.surveys, key=pixels_of)]
    own = partial(own_outputs, network.original_network, network.sample, smallest)
    every = usable_everywhere(network.surveys)
    usable = list(filter(is_word, every))
    if len(usable) < len(every):
        first = next(filterfalse(is_word, every))[:60]
        count = f"{len(every) - len(usable)} of {len(every)}"
        log.warning("%s layers left out: a plan cannot hold their names, as %r", count, first)
    patterns = [] if quiet else [word for word in config.layer if is_pattern(word) and word not in modules]
    known = {name: smallest[name] for name in usable if patterns}
    constant = without_gradient(network.original_network, network.sample, known) if known else {}
    _say_left_out(patterns, smallest, every, constant)
    return config.model_copy(update={"layer": named_layers(config.layer, modules, usable, own, model.source.model)})


def _say_left_out(
    patterns: Sequence[str], found: Survey, usable: Collection[str], constant: Mapping[str, Layer]
) -> None:
    """Log how many layers that match the patterns cannot be visualized, and why."""
    refusal = "its features are not the same in every octave"
    changing = [replace(layer, refusal=refusal) for layer in found.usable if layer.name not in usable]
    every = {layer.name: layer for layer in (*constant.values(), *found.left_out, *changing)}
    named = {name for word in patterns for name in matching(word, every)}
    for line in left_out(layer for name, layer in every.items() if name in named):
        log.warning("layer: %s", line)


def prepare_model(config: Config, network: nn.Module, device: torch.device) -> LoadedNetwork:
    """Freeze a copy of a network and survey it at every size of a config.

    Raises:
        UsageError: the config names no layer, or the network does not take its images.
    """
    source, sha256 = source_of(network), checksum(network)
    dtype = DTYPES[config.precision]
    frozen = frozen_copy(network, device, exact_dtype(dtype))
    recipes = [settings.recipe for settings in config.settings.values()]
    sizes = list(dict.fromkeys(octave.size for recipe in recipes for octave in recipe.octaves))
    differ = any(recipe.views_differ for recipe in recipes)
    pixels, precision = likely_pixels(config, source), exact_dtype(dtype)
    inputs = inputs_of(frozen, sizes, device, precision, config.in_channels, views_differ=differ, pixels=pixels)
    smallest = min({view.size for view in inputs.views.values()} or sizes, key=pixels_of)
    check_isolated(frozen, network, samples(smallest, inputs.channels).to(device, exact_dtype(dtype)), source.model)
    check_independent(frozen, source.model)
    check_channels(config, inputs.channels, source.model)
    normalize = normalization_of(config, source, inputs.channels)
    if normalize == "weights":
        transform_input(unwrapped(frozen))
    if config.layer is None and config.tiles is None:
        given = (config.channels, config.prefix_tokens, inputs.channels, pixels)
        found = survey(frozen, 224, device, precision, *given)
        names = [layer.name for layer in found.usable]
        raise UsageError(
            f"--layer: none given, and {source.model} has no default; allowed: {', '.join(names[:24])}"
            + (f", ... (--list-layers prints all {len(names)})" if len(names) > 24 else "")
        )
    prepared = PreparedNetwork(
        frozen,
        sizes,
        dtype=dtype,
        device=device,
        normalize=mean_and_std(normalize, source),
        compile=config.compile == "on",
        channels=config.channels,
        prefix_tokens=config.prefix_tokens,
        inputs=inputs,
    )
    return LoadedNetwork(prepared, source, sha256)


def check_channels(config: Config, channels: int, name: str) -> None:
    """Raise UsageError if a config's settings do not fit images of this number of channels."""
    if isinstance(config.normalize, Normalization) and len(config.normalize.mean) not in (1, channels):
        raise UsageError(
            f"normalize: mean and std of {len(config.normalize.mean)} channels given; {name} takes images of {channels}"
        )
    try:
        shown_channels(config.show_channels, channels)
    except ValueError as error:
        raise UsageError(f"show_channels: {error} in {name}") from None


def _facts(
    request: RunRequest,
    model: LoadedNetwork,
    wanted: Sequence[PlannedTile],
    layers: Sequence[str],
    init: Tensor | None,
    caricature: Tensor | None,
    directions: Directions | None,
) -> RunFacts:
    config, (network, source, sha256) = request.config, model
    if config.batch_size == "auto":
        suits = auto_batch_size(
            len(wanted),
            gpu=network.device.type == "cuda",
            image=network.image_memory(layers),
            memory=memory_of(network.device),
        )
        batch_size = max(suits, max(settings.diversity for settings in config.settings.values()))
    else:
        batch_size = config.batch_size
    # another worker uses a core better than a second thread of this one
    suitable = max(1, torch.get_num_threads() // -(-len(wanted) // batch_size))
    files = [planned.file for planned in wanted]
    return RunFacts(
        network=NetworkInfo(
            model=printable(source.model),
            weights=printable(source.weights),
            sha256=sha256,
            asked=config.weights,
            in_channels=network.in_channels,
            file=None if source.file is None else printable(str(source.file)),
            file_sha256=None if source.file is None else file_sha256(source.file),
        ),
        shapes={size: {name: found[name].shape for name in layers} for size, found in network.surveys.items()},
        order=list(next(iter(network.surveys.values()))),
        normalize=normalization_of(config, source, network.in_channels),
        batch_size=batch_size,
        threads=request.threads or suitable,
        versions=versions(),
        init_sha256={
            variant: init_checksum(settings.init) if init is None else init_checksum(init, files)
            for variant, settings in config.settings.items()
        },
        caricature_sha256={
            variant: init_checksum(read_reference(settings.caricature, network.in_channels, caricature))
            for variant, settings in config.settings.items()
            if settings.caricature is not None
        },
        directions=None
        if directions is None
        else Dictionary(asked=directions.asked, count=directions.count, features=directions.features),
        directions_sha256=None if directions is None else directions.checksum,
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that affect images."""
    packages = {module.__name__: str(module.__version__) for module in (torch, torchvision, lightning)}
    return {"featlight": __version__, "python": platform.python_version(), **packages}


def init_checksum(init: str | Tensor, files: Sequence[str] = ()) -> str | None:
    """Return the SHA-256 of the starting pixels, and of the tiles if each has its own start; None for a name."""
    if isinstance(init, str):
        if init in NAMED_STARTS:
            return None
        init = read_image(Path(init))
    owners = repr(list(files)) if init.ndim == 4 else ""
    pixels = init.detach().cpu().contiguous().numpy()
    digest = hashlib.sha256(pixels.reshape(-1).view("u1").data)  # without a copy of them
    digest.update(owners.encode())
    return digest.hexdigest()
