"""Whether a run is there already, told from its directory alone: no network, no torch, a second at most."""

import os
import sys
from pathlib import Path

import featlight
from featlight.config.choice.names import read_labels
from featlight.config.choice.patterns import is_pattern
from featlight.config.inputs.sizes import size_key
from featlight.config.recipe import NAMED_STARTS
from featlight.config.schema import Config
from featlight.config.user_paths import expanded, weights_file
from featlight.objectives.directions import Directions, open_directions
from featlight.plan.fingerprint import file_sha256, refuse_other_run, resolve_settings
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.selection import RememberedLayers, wanted_tiles
from featlight.report.build import is_rendered, render
from featlight.store.records import TileRecord
from featlight.store.store import Store

WORTH_READING = 4 << 30  # bytes of a weights' file; to read more takes longer than to load the network


def finished(config: Config, store: Store) -> dict[str, TileRecord] | None:
    """The records of all that a config asks for, where all of it is there; None where work or doubt is left.

    Raises:
        UsageError: the directory holds another run.
    """
    plan = store.plan()
    if plan is None or (config.layer is None and config.tiles is None) or not _same_weights(config, plan):
        return None
    directions = None if config.directions is None else open_directions(config.directions)
    for variant, settings in config.settings.items():
        if variant not in plan.settings or settings.init not in NAMED_STARTS or settings.caricature:
            return None
        theirs = plan.settings[variant].normalize  # `auto` depends on the network, which its checksum stands for
        network = plan.network
        ours = resolve_settings(
            settings,
            plan,
            model=network.model,
            weights_sha256=network.sha256,
            normalize=theirs,
            init_sha256=None,
            directions=None if directions is None else directions.checksum,
        )
        refuse_other_run(plan, variant, ours, config.out)
    wanted = _wanted(config, plan, directions)
    titles = plan.titles
    if wanted is None or any(titles.get(each.file) != each.title for each in wanted if each.title):
        return None
    if not set(wanted) <= set(plan.tiles) or plan.figure != config.figure:
        return None
    made = store.made(plan, wanted, config.extras)
    if len(made) < len(wanted) or store.lacking_vectors(plan, plan.chunks_of(made)):
        return None
    if not is_rendered(store, plan):
        render(store, plan)
    return made


def _same_weights(config: Config, plan: Plan) -> bool:
    """Whether the plan's checksum surely is that of the weights which the config names."""
    network = plan.network
    if (network.model, network.asked) != (config.model, config.weights) or ":" in config.model:
        return False
    if network.file is None:
        return config.weights == "none"
    named = weights_file(config.weights)
    file = Path(network.file) if named is None else named[0]
    if named is None and not _holds_weights(file):
        return False
    try:
        return file_sha256(file, WORTH_READING) == network.file_sha256
    except (OSError, ValueError):  # the plan says where: it may be another machine's, or made up
        return False


def _holds_weights(file: Path) -> bool:
    """Whether a file that only a plan names lies where packages and libraries keep weights; no other is opened."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or expanded("~/.cache"))
    torch = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or cache / "huggingface") / "hub")
    packages = [Path(place) for place in sys.path if Path(place).name in ("site-packages", "dist-packages")]
    places = [Path(featlight.__file__).parent / "models", *packages, torch / "hub", hub]
    return ".." not in file.parts and any(place.is_absolute() and file.is_relative_to(place) for place in places)


def _wanted(config: Config, plan: Plan, directions: Directions | None) -> list[PlannedTile] | None:
    sizes = {settings.recipe.first_size for settings in config.settings.values()}
    layers = {size: RememberedLayers(plan.layers.get(size_key(size), {})) for size in sizes}
    specs = [spec for spec in (config.features, *(config.layer or {}).values()) if isinstance(spec, tuple)]
    if any(isinstance(each, str) for spec in specs for each in spec):
        return None  # only the network knows what its classes are called
    if config.labels is not None and any(map(is_pattern, config.layer or {})):
        return None
    names = {} if config.labels is None else read_labels(config.labels, list(config.layer or {}))
    try:
        return wanted_tiles(config, layers, config.model, plan.folders, names, directions)
    except KeyError:
        return None
