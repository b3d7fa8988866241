"""What is left to do in a run directory. A finished run is found without network and torch, in at most a second."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import featlight
from featlight.config.choices import is_pattern
from featlight.config.image_shape import size_key
from featlight.config.named_starts import NAMED_STARTS
from featlight.config.names import read_labels
from featlight.config.schema import Config, Extra
from featlight.config.user_text import expanded, weights_file
from featlight.errors import UsageError
from featlight.objectives.directions import Directions, open_directions
from featlight.plan.fingerprint import file_sha256
from featlight.plan.make_plan import RunFacts, make_plan
from featlight.plan.plan import Plan, PlannedTile
from featlight.plan.selection import RememberedLayers, wanted_tiles
from featlight.report.build import is_rendered, render
from featlight.store.records import TileRecord
from featlight.store.store import Store

WORTH_READING = 4 << 30  # bytes of a weights file; reading more takes longer than loading the network


@dataclass(frozen=True)
class WorkLeft:
    """What a run directory holds, and what is left to do.

    Args:
        existing: records of the plan's existing tiles, by file.
        missing: files of the requested tiles that do not exist.
        chunks: numbers of the chunks that lack a requested tile or their vectors.
    """

    existing: Mapping[str, TileRecord]
    missing: Set[str]
    chunks: Sequence[int]


def work_left(store: Store, plan: Plan, wanted: Iterable[PlannedTile], extras: Sequence[Extra]) -> WorkLeft:
    """Compare a run directory with the requested tiles of its plan."""
    existing = store.made(plan, plan.tiles, extras)
    files = {planned.file for planned in wanted}
    missing = files - existing.keys()
    without_vectors = store.lacking_vectors(plan, plan.chunks_of(files))
    return WorkLeft(existing, missing, sorted(without_vectors.union(plan.chunks_of(missing))))


def finished(config: Config, store: Store) -> dict[str, TileRecord] | None:
    """Return the records of all requested tiles; None if a tile is missing, or if only the network can decide.

    Raises:
        UsageError: the directory holds another run.
    """
    known = store.plan()
    if known is None or (config.layer is None and config.tiles is None) or not _same_weights(config, known):
        return None
    if any(each.init not in NAMED_STARTS or each.caricature is not None for each in config.settings.values()):
        return None
    directions = None if config.directions is None else open_directions(config.directions)
    plan = make_plan(config, known, [], _remembered(config, known, directions))
    wanted = _wanted(config, known, directions)
    if wanted is None:
        return None
    plan.add(wanted)
    if plan != known or plan.titles != known.titles:
        return None
    left = work_left(store, plan, wanted, config.extras)
    if left.chunks:
        return None
    if not is_rendered(store, plan):
        render(store, plan)
    return {planned.file: left.existing[planned.file] for planned in wanted}


def _remembered(config: Config, plan: Plan, directions: Directions | None) -> RunFacts:
    """Return the facts that a plan holds, for a config whose starts have names and whose network is the plan's."""
    return RunFacts(
        network=plan.network,
        shapes={},
        order=(),
        normalize=next(iter(plan.settings.values())).normalize,  # all variants share it
        batch_size=max(plan.largest_batch, *(settings.diversity for settings in config.settings.values())),
        threads=plan.threads,
        versions=plan.versions,
        init_sha256=dict.fromkeys(config.settings),
        directions_sha256=None if directions is None else directions.checksum,
    )


def _same_weights(config: Config, plan: Plan) -> bool:
    """Return whether the config's weights are known to have the plan's checksum."""
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
    except (OSError, ValueError):  # the path in the plan may be of another machine, or invalid
        return False


def _holds_weights(file: Path) -> bool:
    """Return whether a file named by a plan is in a folder where libraries keep weights; others are not opened."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or expanded("~/.cache"))
    torch = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or cache / "huggingface") / "hub")
    packages = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    folders = [Path(featlight.__file__).parent / "models", *packages, torch / "hub", hub]
    return ".." not in file.parts and any(path.is_absolute() and file.is_relative_to(path) for path in folders)


def _wanted(config: Config, plan: Plan, directions: Directions | None) -> list[PlannedTile] | None:
    sizes = {settings.recipe.first_size for settings in config.settings.values()}
    layers = {size: RememberedLayers(plan.layers.get(size_key(size), {})) for size in sizes}
    specs = [spec for spec in (config.features, *(config.layer or {}).values()) if isinstance(spec, tuple)]
    if any(isinstance(feature, str) for spec in specs for feature in spec):
        return None  # only the network knows the names of its classes
    if config.labels is not None and any(map(is_pattern, config.layer or {})):
        return None
    own = list(config.layer or {})
    try:
        names = {} if config.labels is None else read_labels(config.labels, own, own)
    except UsageError:
        return None  # the network knows whether it has the file's other layers
    try:
        return wanted_tiles(config, layers, config.model, plan.folders, names, directions)
    except KeyError:
        return None
